//! The way to the internet, tried with a TCP connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::select_ok;
use natd_core::{
    error::{Error, Kind, Result},
    host::Egress,
    model::InterfaceName,
};
use tokio::net::TcpSocket;

/// Proves the way out by TCP handshakes.
///
/// A target is reached if it accepts the connection. A reset is a failure, though it shows that
/// packets go out and come back: firewalls and proxies on the way send resets in the target's name,
/// so it doesn't show that they got as far as the internet. Choose targets that listen.
#[derive(Debug, Clone)]
pub struct TcpEgress {
    deadline: Duration,
}

impl TcpEgress {
    /// `deadline` is for the whole of one target: looking up its name and connecting.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }
}

impl Default for TcpEgress {
    /// Five seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(5))
    }
}

#[async_trait]
impl Egress for TcpEgress {
    async fn reach(
        &self,
        target: &str,
        interface: &InterfaceName,
        source: Option<IpAddr>,
    ) -> Result<()> {
        let from = source.map(|address| format!(" from {address}")).unwrap_or_default();
        let doing = || format!("reach {target} by {interface}{from}");
        tokio::time::timeout(self.deadline, connect_any(target, interface, source))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::TimedOut => {
                    let cause = format!("no answer within {:?}", self.deadline);
                    Error::new(Kind::Unreachable, doing(), cause)
                        .with_advice("check the public address, the route to the internet and the security group")
                }
                io::ErrorKind::ConnectionRefused => {
                    let cause = "a reset came back, from the target or from a firewall before it";
                    Error::new(Kind::Unreachable, doing(), cause)
                        .with_advice("choose a target that accepts connections on that port")
                }
                _ => Error::new(Kind::Unreachable, doing(), cause),
            })
    }
}

/// Tries all addresses of the target at once, so that a dead one doesn't use up the deadline.
async fn connect_any(
    target: &str,
    interface: &InterfaceName,
    source: Option<IpAddr>,
) -> io::Result<()> {
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let attempts: Vec<_> = tokio::net::lookup_host(target)
        .await?
        .filter(|address| address.is_ipv4() == source.is_ipv4())
        .map(|address| Box::pin(connect(address, interface, source)))
        .collect();
    if attempts.is_empty() {
        return Err(io::Error::other("its name has no address of the source's family"));
    }
    select_ok(attempts).await.map(|((), _slower)| ())
}

async fn connect(target: SocketAddr, interface: &InterfaceName, source: IpAddr) -> io::Result<()> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind_device(Some(interface.as_str().as_bytes()))?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(target).await.map(drop)
}
