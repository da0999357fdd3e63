//! What natd has in `DOCKER-USER`, the chain that Docker leaves to others
//! (<https://docs.docker.com/engine/network/packet-filtering-firewalls/>): one jump to chains of natd's own
//! that accept what is natd's, and return the rest.

use ipnet::IpNet;

use super::{
    chain_suffix,
    lookup::{Lookup, Side},
    text::{Chain, Table, Target, text},
};
use crate::{
    neighbours::Passage,
    ruleset::{Family, Mark},
};

/// Chains whose names begin so let natd's traffic pass. They are not those of natd's own rules.
pub const PASSAGE_PREFIX: &str = "NATD_";

/// Docker's chain for the rules of others.
pub const DOCKER_USER: &str = "DOCKER-USER";

/// What `iptables-restore --noflush` takes, for that family; `None` if there is nothing to let through.
/// Its first rule is the jump, in `DOCKER-USER`.
#[must_use]
pub fn in_docker_user(passage: &Passage, family: Family) -> Option<String> {
    let sources = family.of(&passage.sources);
    if sources.is_empty() {
        return None;
    }
    let tables = [table(passage, family, &sources)];
    let total = tables.iter().map(|table| table.rules.len()).sum();
    let digest = passage.digest();
    Some(text(&tables, PASSAGE_PREFIX, &chain_suffix(&digest), |index| {
        let mark = Mark { digest: digest.clone(), index, total, sets: [].into() };
        format!(" -m comment --comment {mark}")
    }))
}

fn table(passage: &Passage, family: Family, sources: &[IpNet]) -> Table {
    let [pass, way, from, to] = ["PASS", "WAY", "FROM", "TO"].map(Chain::own);
    let mut table = Table::named("filter");
    table.add(&Chain::BuiltIn(DOCKER_USER), "", Target::Jump(pass.clone()));
    for (by, out) in passage.ways() {
        table.add(&pass, format!(" -i {by} -o {out}"), Target::Goto(way.clone()));
    }
    // What is accepted here doesn't come to natd's own rules any more, if those are iptables'.
    let service = IpNet::from(family.metadata_service());
    table.add(&way, format!(" -d {service}"), Target::back());
    table.add(&way, " -m conntrack --ctstate INVALID", Target::back());
    if passage.clamp_mss {
        let opening = " -p tcp -m tcp --tcp-flags SYN,RST SYN";
        table.add(&way, opening, Target::act("TCPMSS --clamp-mss-to-pmtu"));
    }
    table.add(&way, "", Target::Jump(from.clone()));
    table.add(&way, " -m conntrack --ctstate RELATED,ESTABLISHED", Target::Jump(to.clone()));
    let forwards = if family == Family::V4 { passage.forwards.as_slice() } else { &[] };
    for forward in forwards {
        let (protocol, ports) = (forward.protocol, super::nat::colon(forward.ports));
        let matches = format!(
            " -d {}/32 -p {protocol} -m {protocol} --dport {ports} -m conntrack --ctstate DNAT",
            forward.to
        );
        table.add(&way, matches, Target::act("ACCEPT"));
    }
    for (chain, side) in [(&from, Side::Source), (&to, Side::Destination)] {
        let (found, otherwise) = (Target::act("ACCEPT"), Vec::new());
        Lookup { chain, side, nets: sources, set: None, found, otherwise }.write(&mut table);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{
        Ruleset,
        tests::{forwarding, nets},
    };

    fn plain(text: &str, passage: &Passage) -> Vec<String> {
        let text = text.replace(&chain_suffix(&passage.digest()), "");
        let without_mark = |line: &str| match line.split_once(" -m comment --comment ") {
            Some((before, after)) => {
                format!("{before} {}", after.split_once(' ').expect("a target").1)
            }
            None => line.to_owned(),
        };
        text.lines().map(without_mark).collect()
    }

    #[test]
    fn what_is_served_is_let_through_and_nothing_else() {
        let ruleset = Ruleset { clamp_mss: true, ..forwarding() };
        let passage = Passage::of(&ruleset, &ruleset.ingress);
        let text = in_docker_user(&passage, Family::V4).expect("IPv4");
        let lines = plain(&text, &passage);
        let rules: Vec<&str> =
            lines.iter().filter(|line| line.starts_with("-A")).map(String::as_str).collect();
        assert_eq!(
            rules,
            [
                "-A DOCKER-USER -j NATD_PASS",
                "-A NATD_PASS -i eth0 -o eth0 -g NATD_WAY",
                "-A NATD_WAY -d 169.254.169.254/32 -j RETURN",
                "-A NATD_WAY -m conntrack --ctstate INVALID -j RETURN",
                "-A NATD_WAY -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
                "-A NATD_WAY -j NATD_FROM",
                "-A NATD_WAY -m conntrack --ctstate RELATED,ESTABLISHED -j NATD_TO",
                "-A NATD_WAY -d 10.10.2.101/32 -p tcp -m tcp --dport 443 -m conntrack --ctstate DNAT -j ACCEPT",
                "-A NATD_WAY -d 10.10.2.101/32 -p udp -m udp --dport 53 -m conntrack --ctstate DNAT -j ACCEPT",
                "-A NATD_WAY -d 10.10.2.101/32 -p tcp -m tcp --dport 9000:9002 -m conntrack --ctstate DNAT -j ACCEPT",
                "-A NATD_FROM -s 10.10.0.0/16 -j ACCEPT",
                "-A NATD_FROM -s 10.20.0.0/16 -j ACCEPT",
                "-A NATD_FROM -s 192.0.0.8/32 -j ACCEPT",
                "-A NATD_TO -d 10.10.0.0/16 -j ACCEPT",
                "-A NATD_TO -d 10.20.0.0/16 -j ACCEPT",
                "-A NATD_TO -d 192.0.0.8/32 -j ACCEPT",
            ]
        );
        assert_eq!(in_docker_user(&passage, Family::V6), None);
    }

    #[test]
    fn ipv6_has_its_own_metadata_service_and_no_forwarded_ports() {
        let ruleset = Ruleset { sources: nets(&["fd00:10::/32"]), ..forwarding() };
        let passage = Passage::of(&ruleset, &ruleset.ingress);
        assert_eq!(in_docker_user(&passage, Family::V4), None);
        let text = in_docker_user(&passage, Family::V6).expect("IPv6");
        let lines = plain(&text, &passage);
        assert!(lines.contains(&"-A NATD_WAY -d fd00:ec2::254/128 -j RETURN".to_owned()));
        assert!(lines.contains(&"-A NATD_FROM -s fd00:10::/32 -j ACCEPT".to_owned()));
        assert!(!text.contains("DNAT"), "{text}");
    }
}
