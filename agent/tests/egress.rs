//! `TcpEgress` with packets: by which interface, from which address, and why not.

#![expect(clippy::expect_used, reason = "tests say what they expect")]

mod common;

use std::{
    net::{IpAddr, TcpListener},
    time::{Duration, Instant},
};

use common::{Namespace, veth};
use natd_agent::egress::TcpEgress;
use natd_core::{
    error::{Kind, Result},
    host::Egress as _,
};

/// A host with two ways out. Both lead to a server at 192.0.2.1; the route goes by `eth0`.
struct Lab {
    host: Namespace,
    first: Namespace,
    second: Namespace,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            host: Namespace::new("host"),
            first: Namespace::new("first"),
            second: Namespace::new("second"),
        };
        veth((&lab.host, "eth0"), (&lab.first, "eth0"));
        veth((&lab.host, "eth1"), (&lab.second, "eth0"));
        lab.first.sh("ip addr add 10.1.0.1/24 dev eth0; ip addr add 192.0.2.1 dev eth0");
        lab.second.sh("ip addr add 10.2.0.1/24 dev eth0; ip addr add 192.0.2.1 dev eth0");
        lab.host.sh("ip addr add 10.1.0.5/24 dev eth0; ip addr add 10.2.0.5/24 dev eth1
                     ip addr add 10.2.0.6/24 dev eth1
                     ip route add default via 10.1.0.1 metric 1
                     ip route add default via 10.2.0.1 metric 2");
        lab
    }

    fn reach(&self, target: &str, interface: &str, source: Option<&str>) -> Result<()> {
        let interface = interface.parse().expect("a name");
        let source: Option<IpAddr> = source.map(|source| source.parse().expect("an address"));
        self.host.block_on(async || {
            TcpEgress::new(Duration::from_millis(700)).reach(target, &interface, source).await
        })
    }
}

fn listen(server: &Namespace) -> TcpListener {
    server.run(|| TcpListener::bind("192.0.2.1:443").expect("the port is free"))
}

#[test]
fn it_goes_by_the_interface_and_from_the_address_that_it_is_told() {
    let lab = Lab::new();
    let server = listen(&lab.second);
    lab.reach("192.0.2.1:443", "eth1", Some("10.2.0.6")).expect("the server listens");
    let (_, from) = server.accept().expect("a connection waits");
    assert_eq!(from.ip().to_string(), "10.2.0.6");

    lab.reach("192.0.2.1:443", "eth1", None).expect("the server listens");
    let (_, from) = server.accept().expect("a connection waits");
    assert_eq!(from.ip().to_string(), "10.2.0.5");
    // Nobody listens behind the other interface, which has the better route.
    lab.reach("192.0.2.1:443", "eth0", None).expect_err("no server there");
}

#[test]
fn a_reset_is_not_the_internet() {
    let lab = Lab::new();
    let error = lab.reach("192.0.2.1:443", "eth0", Some("10.1.0.5")).expect_err("nobody listens");
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(
        error
            .to_string()
            .starts_with("could not reach 192.0.2.1:443 by eth0 from 10.1.0.5: a reset"),
        "{error}"
    );
}

#[test]
fn silence_ends_at_the_deadline() {
    let lab = Lab::new();
    let _server = listen(&lab.first);
    lab.first.sh("nft 'add table ip t; add chain ip t c { type filter hook input priority 0; policy drop; }'");
    let begin = Instant::now();
    let error = lab.reach("192.0.2.1:443", "eth0", None).expect_err("all is dropped");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.to_string().contains("no answer within 700ms"), "{error}");
}

#[test]
fn other_failures_say_which_target_and_why() {
    let lab = Lab::new();
    for (target, interface, source, why) in [
        ("192.0.2.1:443", "eth9", None, "No such device"),
        ("192.0.2.1:443", "eth0", Some("10.7.0.1"), "Cannot assign requested address"),
        ("192.0.2.1", "eth0", None, "invalid socket address"),
        ("[2001:db8::1]:443", "eth0", None, "no address of the source's family"),
    ] {
        let error = lab.reach(target, interface, source).expect_err(why);
        assert_eq!(error.kind(), Kind::Unreachable);
        let text = error.to_string();
        assert!(text.contains(&format!("reach {target} by {interface}")), "{text}");
        assert!(text.contains(why), "{text}");
    }
}
