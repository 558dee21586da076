//! Ports of the machine that lead to a pod's. The runtime itself listens and passes bytes on, so that nothing
//! has to be installed and no rule outlives its pod; while no runtime runs, they are closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use cri::v1::{PodSandboxConfig, PortMapping, Protocol};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Core, PodError, Sandbox};

/// How long a UDP client that is silent is remembered.
const UDP_SILENCE: Duration = Duration::from_secs(60);
const LARGEST_DATAGRAM: usize = 65_535;

/// Something that listens, and where it leads.
enum Door {
    Tcp(TcpListener, SocketAddr),
    Udp(UdpSocket, SocketAddr),
}

fn wanted(config: &PodSandboxConfig) -> impl Iterator<Item = &PortMapping> {
    config.port_mappings.iter().filter(|mapping| mapping.host_port > 0)
}

/// Opens a pod's ports. They stay open until [`close`].
pub async fn open(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    let Some(pod) = sandbox.state().ips.first().and_then(|ip| ip.parse::<IpAddr>().ok()) else {
        // Without a network of its own a pod has the machine's ports already.
        return Ok(());
    };
    let mut doors = Vec::new();
    for mapping in wanted(&sandbox.config) {
        let failed = || PodError::io(format!("host port {} of sandbox {}", mapping.host_port, sandbox.id));
        doors.push(door(mapping, pod).await.map_err(failed())?);
    }
    if doors.is_empty() {
        return Ok(());
    }
    let group = TaskGroup::new(core.tasks.shutdown());
    for door in doors {
        match door {
            Door::Tcp(listener, to) => group.spawn(accept(listener, to, group.clone())),
            Door::Udp(socket, to) => group.spawn(relay(Arc::new(socket), to, group.clone())),
        };
    }
    *sandbox.ports.lock() = Some(group);
    Ok(())
}

/// Closes them.
pub async fn close(sandbox: &Sandbox) {
    let open = sandbox.ports.lock().take();
    if let Some(group) = open {
        group.stop().await;
    }
}

async fn door(mapping: &PortMapping, pod: IpAddr) -> io::Result<Door> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let port = |number: i32| u16::try_from(number).map_err(|_| invalid("it is no port number"));
    let host = match mapping.host_ip.as_str() {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ip => ip.parse().map_err(|_| invalid("its host_ip is no address"))?,
    };
    let at = SocketAddr::new(host, port(mapping.host_port)?);
    let to = SocketAddr::new(pod, port(mapping.container_port)?);
    match mapping.protocol() {
        Protocol::Tcp => Ok(Door::Tcp(TcpListener::bind(at).await?, to)),
        Protocol::Udp => Ok(Door::Udp(UdpSocket::bind(at).await?, to)),
        Protocol::Sctp => Err(invalid("SCTP is not passed on by this runtime")),
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, group: TaskGroup) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => group.spawn(pass(client, to)),
            Err(error) => {
                tracing::warn!(%error, "a host port takes no connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr) {
    let joined = async {
        let mut pod = TcpStream::connect(to).await?;
        tokio::io::copy_bidirectional(&mut client, &mut pod).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, %to, "a connection to a host port ended");
    }
}

/// Each client gets a socket of its own towards the pod, so that answers find their way back.
async fn relay(socket: Arc<UdpSocket>, to: SocketAddr, group: TaskGroup) {
    let mut clients = std::collections::HashMap::<SocketAddr, Arc<UdpSocket>>::new();
    let mut bytes = vec![0; LARGEST_DATAGRAM];
    loop {
        let Ok((len, client)) = socket.recv_from(&mut bytes).await else { continue };
        clients.retain(|_, towards| Arc::strong_count(towards) > 1);
        let known = match clients.get(&client) {
            Some(known) => known.clone(),
            None => {
                let Ok(towards) = connect(to).await else { continue };
                let towards = Arc::new(towards);
                clients.insert(client, towards.clone());
                group.spawn(answer(socket.clone(), towards.clone(), client));
                towards
            }
        };
        if let Err(error) = known.send(bytes.get(..len).unwrap_or_default()).await {
            tracing::debug!(%error, %to, "a datagram did not reach its pod");
        }
    }
}

async fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Ends when the pod has said nothing for a while; whoever speaks then is a new client.
async fn answer(socket: Arc<UdpSocket>, towards: Arc<UdpSocket>, client: SocketAddr) {
    let mut bytes = vec![0; LARGEST_DATAGRAM];
    loop {
        let received = tokio::time::timeout(UDP_SILENCE, towards.recv(&mut bytes)).await;
        let Ok(Ok(len)) = received else { return };
        if let Err(error) = socket.send_to(bytes.get(..len).unwrap_or_default(), client).await {
            tracing::debug!(%error, %client, "an answer did not reach its client");
        }
    }
}
