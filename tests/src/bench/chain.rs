//! The shortest way through a gateway: a client, the gateway and a server, each a namespace.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::lab::name::LabName;
use crate::lab::namespace::Namespace;
use crate::lab::natd::{Run, binary, forget_environment, run};
use crate::lab::run::feed;

/// As it is when nobody translates it.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 101);
/// The gateway's own address on the server's side, and so that of translated packets.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 1);
/// Who is talked to.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// As natd sets them, for all variants: they are to differ by their rules only.
const GATEWAY: [(&str, &str); 7] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.inside.rp_filter", "2"),
    ("net.ipv4.conf.outside.rp_filter", "2"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.inside.send_redirects", "0"),
    ("net.ipv4.conf.outside.send_redirects", "0"),
];

/// A chain, and the folder that natd has for its root.
#[derive(Debug)]
pub struct Chain {
    pub client: Namespace,
    pub gateway: Namespace,
    pub server: Namespace,
    pub root: PathBuf,
}

impl Chain {
    /// The gateway forwards and has no rules. The server has a route back to the client.
    pub fn lay() -> Result<Self> {
        let name = LabName::unique()?;
        let machine = |role| Namespace::create(name.namespace(role));
        let (client, gateway, server) =
            (machine("client")?, machine("gateway")?, machine("server")?);
        let link = |of: &Namespace, end, to| {
            let (of, gateway) = (of.name(), gateway.name());
            format!("link add {end} netns {of} type veth peer name {to} netns {gateway}\n")
        };
        let links = link(&client, "eth0", "inside") + &link(&server, "eth0", "outside");
        feed("ip", ["-batch", "-"], &links).context("laying the wires")?;
        gateway.ip(&format!(
            "addr add {INSIDE}/24 dev inside\nlink set inside up\n\
             addr add {OUTSIDE}/24 dev outside\nlink set outside up\n"
        ))?;
        for (end, address, next_hop) in [(&client, CLIENT, INSIDE), (&server, SERVER, OUTSIDE)] {
            end.ip(&format!(
                "addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {next_hop}\n"
            ))?;
            // Nobody waits for two minutes if a variant doesn't work.
            end.set_sysctls(&[
                ("net.ipv4.tcp_syn_retries", "2"),
                ("net.ipv4.ip_local_port_range", "1024 65535"),
            ])?;
        }
        gateway.set_sysctls(&GATEWAY)?;
        let root = name.folder();
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        Ok(Self { client, gateway, server, root })
    }

    /// Makes sure that the server sees the client come from this address.
    pub fn prove(&self, expected: Ipv4Addr) -> Result<()> {
        let at = (SERVER, 9);
        let listener = self.server.listen(at.into())?;
        let stream = self.client.run(|| TcpStream::connect(at))??;
        let seen = listener.accept().context("accepting")?.1.ip();
        drop(stream);
        ensure!(seen == IpAddr::V4(expected), "the server saw {seen} and not {expected}");
        Ok(())
    }

    /// Writes natd's configuration in the gateway.
    pub fn configure(&self, toml: &str) -> Result<()> {
        let folder = self.root.join("etc/natd");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(folder.join("natd.toml"), toml).context("writing natd.toml")
    }

    /// Runs natd in the gateway, which finds programs by that `PATH`. It has to succeed.
    pub fn natd(&self, path: &OsStr, argument: &str) -> Result<Run> {
        let mut natd = self.gateway.command("env");
        let mut assignment = OsStr::new("PATH=").to_owned();
        assignment.push(path);
        natd.arg(assignment).arg(binary()?).arg("--root").arg(&self.root).arg(argument);
        forget_environment(&mut natd);
        let ended = run(natd)?;
        ensure!(ended.code == Some(0), "natd {argument}: {ended:#?}");
        Ok(ended)
    }

    /// Has the gateway's kernel forget all connections.
    pub fn forget_connections(&self) -> Result<()> {
        self.gateway.exec(["conntrack", "-F"]).map(drop)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(&self.root);
    }
}
