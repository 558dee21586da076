//! Connections whose clients may call the host that they speak to as they like.
//!
//! Clients in Go that dial a socket by its path name that path as their requests' authority, as `%2Fvar%2Flib%2F…`:
//! device plugins do, and whoever asks who has which resources. gRPC means nothing by it; the HTTP/2 library refuses
//! such a request as malformed (hyperium/h2 #487). So it is given another name of the same length before it gets there.

mod headers;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use self::headers::Rewriter;

/// The connections of a listener.
pub fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<Lenient>> {
    UnixListenerStream::new(listener).map(|accepted| accepted.map(Lenient::new))
}

/// A connection of which requests are read with an authority that can be one.
pub struct Lenient {
    stream: UnixStream,
    rewriter: Rewriter,
    /// What was read and is not handed on yet, from `given` on.
    ready: Vec<u8>,
    given: usize,
}

impl Lenient {
    fn new(stream: UnixStream) -> Self {
        Self { stream, rewriter: Rewriter::default(), ready: Vec::new(), given: 0 }
    }
}

/// Bytes that are read at once.
const READ: usize = 16 * 1024;

impl AsyncRead for Lenient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.given == this.ready.len() {
            this.ready.clear();
            this.given = 0;
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriter.push(read.filled(), &mut this.ready);
        }
        let left = this.ready.get(this.given..).unwrap_or_default();
        let given = left.get(..left.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(given);
        this.given += given.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lenient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Lenient {
    type ConnectInfo = <UnixStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::{Request, Response, Status};

    use super::*;
    use crate::registration as wire;

    struct Plugin;

    #[tonic::async_trait]
    impl wire::registration_server::Registration for Plugin {
        async fn get_info(
            &self,
            _: Request<wire::InfoRequest>,
        ) -> Result<Response<wire::PluginInfo>, Status> {
            Ok(Response::new(wire::PluginInfo::default()))
        }

        async fn notify_registration_status(
            &self,
            _: Request<wire::RegistrationStatus>,
        ) -> Result<Response<wire::RegistrationStatusResponse>, Status> {
            Err(Status::unimplemented("nobody was to ask"))
        }
    }

    /// A frame of the first stream.
    fn frame(kind: u8, flags: u8, payload: &[u8], stream: u8) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[tokio::test]
    async fn a_client_that_names_the_sockets_path_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let plugin = wire::registration_server::RegistrationServer::new(Plugin);
        let server = tonic::transport::Server::builder().add_service(plugin);
        tokio::spawn(server.serve_with_incoming(incoming(listener)));
        let mut client = UnixStream::connect(&path).await.unwrap();
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let fields = [
            vec![0x83, 0x86, 0x44],
            text("/pluginregistration.Registration/GetInfo"),
            vec![0x41],
            text("%2Fvar%2Flib%2Fkubelet%2Fx.sock"),
            vec![0x5f],
            text("application/grpc"),
        ];
        let said = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, &[], 0),
            frame(1, 4, &fields.concat(), 1),
            frame(0, 1, &[0; 5], 1),
        ];
        client.write_all(&said.concat()).await.unwrap();
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let [a, b, c, kind, .., stream] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            client.read_exact(&mut payload).await.unwrap();
            if stream == 1 {
                assert_eq!(kind, 1, "headers of an answer, and no reset: {payload:?}");
                return;
            }
        }
    }
}
