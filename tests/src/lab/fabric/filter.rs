//! Security groups and the source/destination check, as the rules of one port.

use std::collections::BTreeSet;
use std::fmt::Write;

use ipnet::Ipv4Net;

use super::super::picture::{Allow, Port, Ports, Traffic};
use super::super::topology::SERVICES;

/// The port's whole ruleset, which replaces itself in one transaction. A port that the cloud doesn't know lets nothing pass.
///
/// The cloud's own services are reached whatever the rules say. The metadata service is in the port itself: what goes
/// there isn't forwarded and never comes by here.
pub fn render(port: Option<&Port>) -> String {
    let (check, ingress, egress) = match port {
        Some(port) => (check(port), rules(&port.ingress, "saddr"), rules(&port.egress, "daddr")),
        None => (String::new(), String::new(), String::new()),
    };
    format!(
        "table ip port
delete table ip port
table ip port {{
  chain ingress {{
{ingress}  }}
  chain egress {{
{egress}  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ip saddr {SERVICES} accept
    ip daddr {SERVICES} accept
{check}    ct state established,related accept
    iifname \"outside\" jump ingress
    iifname \"inside\" jump egress
  }}
}}
"
    )
}

fn check(port: &Port) -> String {
    if !port.source_check {
        return String::new();
    }
    let addresses = port.addresses.iter().map(|address| Ipv4Net::from(*address));
    // The elements of one set must not overlap.
    let own = Ipv4Net::aggregate(&addresses.chain(port.pairs.iter().copied()).collect());
    if own.iter().any(|block| block.prefix_len() == 0) {
        return String::new();
    }
    let own: Vec<_> = own.iter().map(ToString::to_string).collect();
    let own = format!("{{ {} }}", own.join(", "));
    format!(
        "    iifname \"inside\" ip saddr != {own} drop\n    iifname \"outside\" ip daddr != {own} drop\n"
    )
}

/// One rule a peer: the elements of one set must not overlap, and the blocks of a security group may.
fn rules(allowed: &BTreeSet<Allow>, side: &str) -> String {
    let mut rules = String::new();
    for Allow { traffic, peers } in allowed {
        let traffic = matches(traffic);
        for peer in peers {
            // Writing to a string can't fail.
            let _ok = writeln!(rules, "    ip {side} {peer} {traffic}accept");
        }
    }
    rules
}

fn matches(traffic: &Traffic) -> String {
    match traffic {
        Traffic::All => String::new(),
        Traffic::Tcp(Ports { first, last }) => format!("tcp dport {first}-{last} "),
        Traffic::Udp(Ports { first, last }) => format!("udp dport {first}-{last} "),
        Traffic::Icmp { kind: Some(kind) } => format!("icmp type {kind} "),
        Traffic::Icmp { kind: None } => "ip protocol icmp ".to_owned(),
        Traffic::Other(protocol) => format!("ip protocol {protocol} "),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn one_rule_of_each_sort() {
        let allow = |traffic| Allow {
            traffic,
            peers: BTreeSet::from(["10.10.0.0/16".parse().expect("a block")]),
        };
        let allowed = BTreeSet::from([
            allow(Traffic::All),
            allow(Traffic::Tcp(Ports { first: 80, last: 443 })),
            allow(Traffic::Icmp { kind: Some(8) }),
        ]);
        let text = rules(&allowed, "saddr");
        let expected = "    ip saddr 10.10.0.0/16 accept
    ip saddr 10.10.0.0/16 tcp dport 80-443 accept
    ip saddr 10.10.0.0/16 icmp type 8 accept\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn pairs_count_as_own_addresses() {
        let block = |text: &str| text.parse::<Ipv4Net>().expect("a block");
        let mut port = Port {
            instance: String::new(),
            number: 0,
            alive: true,
            mac: String::new(),
            addresses: vec!["10.0.0.5".parse().expect("an address")],
            subnet: String::new(),
            subnet_block: block("10.0.0.0/24"),
            table: String::new(),
            source_check: true,
            pairs: BTreeSet::new(),
            host_routes: BTreeMap::new(),
            groups: Vec::new(),
            ingress: BTreeSet::new(),
            egress: BTreeSet::new(),
        };
        assert!(check(&port).contains("saddr != { 10.0.0.5/32 } drop"));
        // Overlapping ones are one element.
        port.pairs = [block("192.0.2.0/25"), block("192.0.2.0/24")].into();
        assert!(check(&port).contains("saddr != { 10.0.0.5/32, 192.0.2.0/24 } drop"));
        // As Huawei Cloud writes everything.
        port.pairs.insert(block("1.1.1.1/0"));
        assert_eq!(check(&port), "");
    }
}
