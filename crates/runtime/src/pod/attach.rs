//! Clients at the streams of a container's first process.
//!
//! The shim copies output to one pipe per stream; from there it is handed to every client. A client
//! that does not read holds the container back, as a terminal would.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use streaming::remotecommand::{Outcome, Session, TerminalSize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, Interest};
use tokio::net::unix::pipe as tokio_pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::container::Container;
use super::{Core, PodError};
use crate::proto::{self, Header, op};
use crate::shim::Enclosed;
use crate::sys::pipe;

/// The clients of one container.
#[derive(Default)]
pub struct Hub {
    clients: Arc<Mutex<Clients>>,
    /// Cancelled when the container has ended: all that it said is on its way by then.
    ended: CancellationToken,
    /// Cancelled when stdin is closed for good: whoever else may type lets go of it.
    stdin_closed: CancellationToken,
}

#[derive(Default)]
struct Clients {
    /// Ends the copying of output by the shim, if it does.
    copying: Option<CancellationToken>,
    outputs: Vec<Client>,
}

struct Client {
    stderr: bool,
    to: mpsc::Sender<Bytes>,
}

impl Hub {
    /// The container has ended: no client will hear more than is on its way.
    pub fn close(&self) {
        self.ended.cancel();
        let mut clients = self.clients.lock();
        if clients.copying.is_none() {
            clients.outputs.clear();
        }
    }

    fn join(&self, stderr: bool) -> mpsc::Receiver<Bytes> {
        let (to, from) = mpsc::channel(16);
        self.clients.lock().outputs.push(Client { stderr, to });
        from
    }
}

/// A terminal's master.
pub struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    /// Takes a master over.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        pipe::set_nonblocking(master.as_fd())?;
        Ok(Self(pipe::watch(master, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Types what a client sends, until it ends.
    pub async fn write_from(&self, from: &mut (impl AsyncRead + Unpin)) {
        let mut buf = vec![0u8; 4096];
        while let Ok(n) = from.read(&mut buf).await
            && n > 0
        {
            let mut rest = buf.get(..n).unwrap_or_default();
            while !rest.is_empty() {
                let written =
                    self.0.async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, rest)?)).await;
                match written {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(error) => {
                        tracing::debug!(%error, "the terminal is gone");
                        return;
                    }
                }
            }
        }
    }

    /// Shows a client what the terminal says, until it ends; after a client that is gone nobody reads any more.
    pub async fn read_into(&self, to: Option<DuplexStream>) {
        let mut to = to;
        let mut buf = vec![0u8; 32 * 1024];
        loop {
            let read = self.0.async_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut buf)?)).await;
            // A terminal without users gives an error, which is its end.
            let n = match read {
                Ok(n) if n > 0 => n,
                _ => return,
            };
            if let Some(client) = &mut to
                && client.write_all(buf.get(..n).unwrap_or_default()).await.is_err()
            {
                return std::future::pending().await;
            }
        }
    }
}

/// Gives a terminal the sizes that its client's has.
pub async fn follow_size(terminal: Arc<Terminal>, mut sizes: mpsc::Receiver<TerminalSize>) {
    while let Some(size) = sizes.recv().await {
        if let Err(error) = pipe::resize(terminal.0.get_ref().as_fd(), size.width, size.height) {
            tracing::debug!(%error, "resizing a terminal");
        }
    }
}

/// Serves a client at a container's streams until either is gone.
pub async fn attend(core: Arc<Core>, container: Arc<Container>, session: Session) {
    let result = serve(&core, &container, session).await;
    if let Err(error) = result {
        tracing::debug!(container = container.id, %error, "attach ended");
    }
}

async fn serve(core: &Arc<Core>, container: &Arc<Container>, mut session: Session) -> Result<(), PodError> {
    if container.process().is_none() {
        let text = format!("container {} is not running", container.id);
        session.finish(Outcome::Failed(text)).await;
        return Ok(());
    }
    let out = session.stdout.take().map(|to| tokio::spawn(forward(container.hub.join(false), to)));
    let err = session.stderr.take().map(|to| tokio::spawn(forward(container.hub.join(true), to)));
    let shown: Vec<_> = out.iter().chain(&err).map(tokio::task::JoinHandle::abort_handle).collect();
    let copying = copy(core, container).await;
    let (mut tasks, typed) = (Vec::new(), CancellationToken::new());
    // Only this: whoever keeps our end of stdin keeps it open.
    let master = container.held().master;
    if let Some(master) =
        master.as_ref().and_then(|fd| fd.try_clone().ok()).and_then(|fd| Terminal::new(fd).ok())
    {
        let terminal = Arc::new(master);
        let (empty, sizes) = mpsc::channel(1);
        drop(empty);
        tasks
            .push(tokio::spawn(follow_size(terminal.clone(), std::mem::replace(&mut session.resize, sizes))));
        if let Some(mut stdin) = session.stdin.take() {
            tasks.push(tokio::spawn(async move { terminal.write_from(&mut stdin).await }));
        }
    } else if let Some(stdin) = session.stdin.take() {
        let (core, container, typed) = (core.clone(), container.clone(), typed.clone());
        tasks.push(tokio::spawn(async move {
            input(&core, &container, stdin).await;
            // It reads on, and waits for others: this client has nothing more to say, and leaves (as with containerd).
            if container.config.stdin && !container.config.stdin_once && container.process().is_some() {
                typed.cancel();
            }
        }));
    }
    let outputs = async {
        for task in [out, err].into_iter().flatten() {
            // An output that broke has ended.
            let _ = task.await;
        }
    };
    let gone = session.gone.clone();
    match copying {
        Ok(()) => {
            tokio::select! {
                () = outputs => {}
                () = typed.cancelled() => shown.iter().for_each(tokio::task::AbortHandle::abort),
                () = gone.cancelled() => {
                    // What it typed is still the container's, and so is the end of it.
                    tasks.clear();
                    shown.iter().for_each(tokio::task::AbortHandle::abort);
                }
            }
            session.finish(Outcome::Exited(0)).await;
        }
        Err(error) => {
            shown.iter().for_each(tokio::task::AbortHandle::abort);
            session.finish(Outcome::Failed(format!("attaching: {error}"))).await;
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

async fn forward(mut from: mpsc::Receiver<Bytes>, mut to: DuplexStream) {
    while let Some(bytes) = from.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Input for the container. A container that wants only one client's input has its stdin closed after it.
async fn input(core: &Arc<Core>, container: &Arc<Container>, stdin: DuplexStream) {
    if let Some(pipe) = container.held().stdin.as_ref().and_then(|fd| fd.try_clone().ok()) {
        tokio::select! {
            () = super::exec::feed(Some(stdin), Some(pipe)) => {}
            () = container.hub.stdin_closed.cancelled() => return,
        }
    }
    if !container.config.stdin_once {
        return;
    }
    container.hub.stdin_closed.cancel();
    let mut held = container.held();
    held.stdin = None;
    container.hold(held);
    let closed = async {
        let sandbox = core.need_sandbox(&container.sandbox)?;
        let shim = super::watch::connect(core, &sandbox).await?;
        let header = Header { kind: op::CLOSE_STDIN, handle: container.state().handle, ..Header::default() };
        shim.ask(header, &[], Enclosed::default()).await.map_err(PodError::from)
    };
    if let Err(error) = closed.await {
        tracing::debug!(container = container.id, %error, "closing stdin");
    }
}

/// Has the shim copy output, unless it does.
async fn copy(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    let stop = CancellationToken::new();
    {
        let mut clients = container.hub.clients.lock();
        if clients.copying.is_some() {
            return Ok(());
        }
        clients.copying = Some(stop.clone());
    }
    let result = async {
        let failed = || PodError::io("preparing to copy output");
        let sandbox = core.need_sandbox(&container.sandbox)?;
        let shim = super::watch::connect(core, &sandbox).await?;
        let (out, out_writer) = pipe::pipe().map_err(failed())?;
        let (err, err_writer) = pipe::pipe().map_err(failed())?;
        let header = Header { kind: op::ATTACH, handle: container.state().handle, ..Header::default() };
        let enclosed =
            Enclosed::default().with(proto::HAS_STDOUT, &out_writer).with(proto::HAS_STDERR, &err_writer);
        shim.ask(header, &[], enclosed).await?;
        let (clients, ended) = (container.hub.clients.clone(), container.hub.ended.clone());
        core.tasks.spawn(show(clients, (out, err), stop.clone(), ended));
        Ok(())
    };
    let result = result.await;
    if result.is_err() {
        container.hub.clients.lock().copying = None;
    }
    result
}

/// From the shim's copies of stdout and stderr to every client, until the output ends or `stop` is cancelled, because
/// nobody looks any more.
async fn show(
    clients: Arc<Mutex<Clients>>,
    (out, err): (OwnedFd, OwnedFd),
    stop: CancellationToken,
    ended: CancellationToken,
) {
    tokio::select! {
        _ = async {
            tokio::join!(
                distribute(&clients, out, false, &stop, &ended),
                distribute(&clients, err, true, &stop, &ended)
            )
        } => {}
        () = stop.cancelled() => {}
    }
    let mut clients = clients.lock();
    // Once it was stopped, whoever came since has copies of their own.
    if !stop.is_cancelled() {
        clients.copying = None;
        clients.outputs.clear();
    }
}

/// From one of the shim's copies to every client. What a container said last lies in the pipe when it has `ended`; its
/// end may never come, for processes elsewhere may keep its output open.
async fn distribute(
    hub: &Mutex<Clients>,
    from: OwnedFd,
    stderr: bool,
    stop: &CancellationToken,
    ended: &CancellationToken,
) {
    let number = from.as_raw_fd();
    let Ok(mut from) = tokio_pipe::Receiver::from_owned_fd(from) else {
        tracing::warn!(number, "a copy of output cannot be read");
        return;
    };
    let mut buf = vec![0u8; 32 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buf) => read.ok(),
            // Whether there is something only the pipe itself knows at once.
            () = ended.cancelled() => nix::unistd::read(&from, &mut buf).ok(),
        };
        let Some(n) = read.filter(|n| *n > 0) else { break };
        let bytes = Bytes::copy_from_slice(buf.get(..n).unwrap_or_default());
        let clients: Vec<_> =
            hub.lock().outputs.iter().filter(|c| c.stderr == stderr).map(|c| c.to.clone()).collect();
        for client in clients {
            // A client that left is dropped below.
            let _ = client.send(bytes.clone()).await;
        }
        let mut clients = hub.lock();
        clients.outputs.retain(|client| !client.to.is_closed());
        if clients.outputs.is_empty() {
            clients.copying = None;
            stop.cancel();
            return;
        }
    }
    hub.lock().outputs.retain(|client| client.stderr != stderr);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Copy {
        hub: Hub,
        out: OwnedFd,
        err: OwnedFd,
        stop: CancellationToken,
        showing: tokio::task::JoinHandle<()>,
    }

    fn copy() -> Copy {
        let (hub, stop) = (Hub::default(), CancellationToken::new());
        let ((out_reader, out), (err_reader, err)) = (pipe::pipe().unwrap(), pipe::pipe().unwrap());
        hub.clients.lock().copying = Some(stop.clone());
        let (clients, ended) = (hub.clients.clone(), hub.ended.clone());
        let showing = tokio::spawn(show(clients, (out_reader, err_reader), stop.clone(), ended));
        Copy { hub, out, err, stop, showing }
    }

    /// Everything else that can run does so; all of it is one thread's.
    async fn settled() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn clients_hear_what_a_container_said_before_it_ended() {
        let copy = copy();
        let (mut out, mut err) = (copy.hub.join(false), copy.hub.join(true));
        settled().await;
        // The news of the end overtakes what was said; somebody else keeps the output open.
        nix::unistd::write(&copy.out, b"last words").unwrap();
        copy.hub.close();
        assert_eq!(out.recv().await.as_deref(), Some(&b"last words"[..]));
        assert_eq!((out.recv().await, err.recv().await), (None, None));
        copy.showing.await.unwrap();
        drop((copy.out, copy.err));
    }

    #[tokio::test]
    async fn whoever_comes_after_the_last_client_left_gets_copies_anew() {
        let copy = copy();
        let only = copy.hub.join(false);
        settled().await;
        drop(only);
        nix::unistd::write(&copy.out, b"to nobody").unwrap();
        copy.showing.await.unwrap();
        assert!(copy.stop.is_cancelled() && copy.hub.clients.lock().copying.is_none());
        assert!(nix::unistd::write(&copy.err, b"x").is_err(), "nor is the other stream read any more");
    }
}
