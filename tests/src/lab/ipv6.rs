//! A gateway between a private IPv6 network and an IPv6 internet, without a cloud: it learns its address and its way out
//! from router advertisements.
//!
//! ```text
//!  client                        gateway                      internet
//!  fd00:10:2::101 ═══════ eth1 │ eth0, by advertisement ═══ 2001:db8:2::10
//! ```
//! The internet knows the way back to private addresses, so that what comes untranslated is seen as that.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::back_end::BackEnd;
use super::host::PATIENCE;
use super::name::{LabName, reap_orphans};
use super::namespace::Namespace;
use super::natd::{Run, binary, forget_environment, look_first_in, run};
use crate::wait::until;

/// A host on the internet, which tells who it saw.
pub const INTERNET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10);
/// Another.
pub const PARTNER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x10);
/// The private client.
pub const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 2, 0, 0, 0, 0, 0x101);
/// A private host of another network, which is the client, too.
pub const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 0x101);
/// What the gateway makes of the advertised prefix and of its Ethernet address (RFC 4291, appendix A).
pub const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0xaff, 0xfe0a, 0x10a);

const GATEWAY_MAC: &str = "02:00:0a:0a:01:0a";
/// The same of the link's own prefix.
const GATEWAY_ON_LINK: &str = "fe80::aff:fe0a:10a";
const ROUTER_ON_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const WEB: u16 = 80;

/// Shows natd, and nobody else, a kernel that cannot forward IPv6 by interface: the folder with the global keys is
/// another, in which there is the one key that there was before Linux 6.17.
const AS_BEFORE_6_17: &str = "all=/proc/sys/net/ipv6/conf/all
mount --bind $all $0
mount -t tmpfs none $all
touch $all/forwarding
mount --bind $0/forwarding $all/forwarding
exec \"$@\"";

/// The three of them. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Ipv6Lab {
    pub client: Namespace,
    pub gateway: Namespace,
    pub internet: Namespace,
    /// What natd is given as `--root`.
    pub root: PathBuf,
    folder: PathBuf,
    programs: PathBuf,
    older_kernel: bool,
    listener: Arc<TcpListener>,
    web: Option<JoinHandle<()>>,
}

impl Ipv6Lab {
    /// A lab in which `iptables` means that back end's, and the gateway has heard the router.
    pub fn new(back_end: BackEnd) -> Result<Self> {
        reap_orphans()?;
        let name = LabName::unique()?;
        let folder = name.folder();
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        let [client, gateway, internet] =
            ["client", "gateway", "internet"].map(|role| Namespace::create(name.namespace(role)));
        let (client, gateway, internet) = (client?, gateway?, internet?);
        // No time for the detection of duplicate addresses.
        for namespace in [&client, &gateway, &internet] {
            namespace.set_sysctls(&[("net.ipv6.conf.default.accept_dad", "0")])?;
        }
        gateway.set_sysctls(&[("net.ipv4.ip_forward", "0")])?;
        // What doesn't say of itself that it is a router is forgotten as one (RFC 4861, section 7.2.5).
        internet.set_sysctls(&[("net.ipv6.conf.all.forwarding", "1")])?;
        gateway.ip(&format!(
            "link add eth0 address {GATEWAY_MAC} type veth peer name eth0 netns {}
             link add eth1 type veth peer name eth0 netns {}
             addr add 10.10.1.10/24 dev eth0
             addr add 10.10.2.10/24 dev eth1
             addr add fd00:10:2::10/64 dev eth1
             link set eth0 up
             link set eth1 up
             route add fd00:99::/64 dev eth1
             route add default via 10.10.1.1",
            internet.name(),
            client.name()
        ))?;
        client.ip(&format!(
            "link set eth0 up
             addr add {CLIENT}/64 dev eth0
             addr add {STRANGER}/64 dev eth0
             route add default via fd00:10:2::10"
        ))?;
        internet.ip(&format!(
            "addr add {INTERNET}/128 dev lo
             addr add {PARTNER}/128 dev lo
             addr add 10.10.1.1/24 dev eth0
             addr add 2001:db8:1::1/64 dev eth0
             link set eth0 up
             addr add {ROUTER_ON_LINK}/64 dev eth0
             route add fd00::/16 via {GATEWAY_ON_LINK} dev eth0"
        ))?;
        let listener = Arc::new(internet.listen((Ipv6Addr::UNSPECIFIED, WEB).into())?);
        let accepting = Arc::clone(&listener);
        let web = Some(thread::spawn(move || tell_who_comes(&accepting)));
        let programs = back_end.programs(&folder)?;
        let lab = Self {
            client,
            gateway,
            internet,
            root,
            folder,
            programs,
            older_kernel: false,
            listener,
            web,
        };
        lab.configure(&format!("firewall = {:?}", back_end.setting()), "00-lab")?;
        lab.advertise("2001:db8:1::".parse()?, GATEWAY);
        Ok(lab)
    }

    /// natd sees a kernel that cannot forward IPv6 by interface.
    pub fn with_an_older_kernel(mut self) -> Result<Self> {
        fs::create_dir_all(self.folder.join("all"))?;
        self.older_kernel = true;
        Ok(self)
    }

    /// Has these lines be in `[nat]`.
    pub fn configure(&self, nat: &str, file: &str) -> Result<()> {
        let folder = self.root.join("etc/natd/conf.d");
        fs::create_dir_all(&folder)?;
        let text = format!("provider = \"none\"\n[routes]\ninterface = \"eth1\"\n[nat]\n{nat}\n");
        Ok(fs::write(folder.join(format!("{file}.toml")), text)?)
    }

    /// Runs natd on the gateway and has it end well.
    pub fn natd(&self, arguments: &[&str]) -> Result<Run> {
        let binary = binary()?;
        let mut command: Command;
        if self.older_kernel {
            command = self.gateway.command("sh");
            command.args(["-ec", AS_BEFORE_6_17]).arg(self.folder.join("all")).arg(binary);
        } else {
            command = self.gateway.command(binary);
        }
        command.arg("--root").arg(&self.root).args(arguments).stdin(Stdio::null());
        forget_environment(&mut command);
        look_first_in(&mut command, &self.programs)?;
        let run = run(command)?;
        ensure!(run.code == Some(0), "natd {arguments:?}: {run:#?}");
        Ok(run)
    }

    /// Has the internet's router announce itself and a prefix, until the gateway has made that address of it: links and
    /// addresses take a moment to come up.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn advertise(&self, prefix: Ipv6Addr, address: Ipv6Addr) {
        until("an address by advertisement", || {
            self.announce(prefix).is_ok() && self.hears_of(address).unwrap_or_default()
        });
    }

    /// Announces the router and a prefix of 64 bits once (RFC 4861, sections 4.2 and 4.6.2).
    fn announce(&self, prefix: Ipv6Addr) -> Result<()> {
        let interface: u32 =
            self.internet.exec(["cat", "/sys/class/net/eth0/ifindex"])?.trim().parse()?;
        let lifetime = 1800_u16.to_be_bytes();
        let valid = 86_400_u32.to_be_bytes();
        let message = [
            // Router Advertisement, code, the checksum (the kernel's work), hop limit, flags, lifetime, two timers unset.
            &[134, 0, 0, 0, 64, 0],
            &lifetime[..],
            &[0; 8],
            // Prefix Information, 4 times 8 bytes: on this link, and to make addresses of.
            &[3, 4, 64, 0xc0],
            &valid[..],
            &valid[..],
            &[0; 4],
            &prefix.octets()[..],
        ]
        .concat();
        self.internet
            .run(|| {
                let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
                // What has come by a router isn't taken for an advertisement.
                socket.set_multicast_hops_v6(255)?;
                socket.bind(&SocketAddrV6::new(ROUTER_ON_LINK, 0, 0, interface).into())?;
                socket.send_to(&message, &SocketAddrV6::new(ALL_NODES, 0, 0, interface).into())
            })?
            .context("sending an advertisement")?;
        Ok(())
    }

    /// Whether the gateway has that address and a default route, both by advertisement.
    pub fn hears_of(&self, address: Ipv6Addr) -> Result<bool> {
        let addresses =
            self.gateway.exec(["ip", "-6", "addr", "show", "dev", "eth0", "dynamic"])?;
        let routes = self.gateway.exec(["ip", "-6", "route", "show", "default", "proto", "ra"])?;
        Ok(addresses.contains(&format!("{address}/"))
            && routes.contains(&ROUTER_ON_LINK.to_string()))
    }

    /// Whom a host on the internet sees when the client opens a connection from one of its addresses.
    pub fn seen(&self, from: Ipv6Addr, host: Ipv6Addr) -> Result<IpAddr> {
        let connect = || -> Result<TcpStream> {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&SocketAddr::from((host, WEB)).into(), PATIENCE)?;
            Ok(socket.into())
        };
        let mut stream = self.client.run(connect)??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        text.parse().with_context(|| format!("the host said {text:?}"))
    }

    /// All rules in all back ends, and natd's own table. The empty chains that `iptables` of nftables leaves are none.
    pub fn rules(&self) -> Result<String> {
        let script = "nft list table inet natd 2>/dev/null || true
            for form in nft legacy; do
                for family in iptables ip6tables; do $family-$form-save | sed -n \"s/^-A/$family &/p\"; done
            done";
        self.gateway.exec(["sh", "-ec", script])
    }

    /// The kernel parameters of the network that natd may change.
    pub fn sysctls(&self) -> Result<String> {
        let keys = "net.ipv[46].(ip_forward|conf.*(forwarding|rp_filter|_redirects|accept_ra))";
        self.gateway.exec(["sh", "-c", &format!("sysctl -a 2>/dev/null | grep -E '{keys} ='")])
    }
}

impl Drop for Ipv6Lab {
    fn drop(&mut self) {
        let _closed = SockRef::from(self.listener.as_ref()).shutdown(std::net::Shutdown::Both);
        if let Some(web) = self.web.take() {
            let _panicked = web.join();
        }
        let _gone_already = fs::remove_dir_all(&self.folder);
    }
}

fn tell_who_comes(listener: &TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept() {
        let _gone = std::io::Write::write_all(&mut stream, peer.ip().to_string().as_bytes());
    }
}
