//! The table `nat`: what is translated, and to what.

use std::net::Ipv4Addr;

use super::{
    lookup::{Lookup, Side},
    part::Part,
    pool::spread,
    text::{Chain, Table, Target},
};
use crate::ruleset::{Family, Forward, Ports, Ruleset, Translation};

pub(super) fn table(part: &Part) -> Table {
    let Ruleset { egress, ingress, forwards, .. } = part.ruleset;
    let [post, own, out, hairpin] = ["POST", "OWN", "OUT", "HAIR"].map(Chain::own);
    let forwards: &[Forward] = if part.family == Family::V4 { forwards } else { &[] };
    let mut table = Table::named("nat");
    if !forwards.is_empty() {
        front(part, forwards, &mut table);
    }
    let leaving = if forwards.is_empty() { [egress.clone()].into() } else { ingress.clone() };
    for interface in &leaving {
        let by = format!(" -o {interface}");
        table.add(&Chain::BuiltIn("POSTROUTING"), by, Target::Jump(post.clone()));
    }
    part.by_source(&post, Target::Goto(own.clone()), Vec::new(), &mut table);
    // The host's own packets.
    table.add(&own, " -m addrtype --src-type LOCAL", Target::back());
    if !forwards.is_empty() {
        let redirected = " -m conntrack --ctstate DNAT";
        table.add(&own, redirected, Target::Jump(hairpin.clone()));
    }
    table.add(&own, format!(" -o {egress}"), Target::Goto(out.clone()));
    // From inside to a forwarded port: the private host would answer its client directly.
    for Forward { protocol, to, to_ports, .. } in forwards {
        let ports = colon(*to_ports);
        let matches = format!(" -d {to}/32 -p {protocol} -m {protocol} --dport {ports}");
        table.add(&hairpin, matches, Target::act(randomly(part, "MASQUERADE".to_owned())));
    }
    translate(part, &out, &mut table);
    table
}

fn translate(part: &Part, out: &Chain, table: &mut Table) {
    let addresses = match (&part.ruleset.translation, part.family) {
        (Translation::Snat(pool), Family::V4) => pool.addresses(),
        _ => &[],
    };
    let snat =
        |address: &Ipv4Addr| Target::act(randomly(part, format!("SNAT --to-source {address}")));
    match addresses {
        [] => {
            let masquerade = Target::act(randomly(part, "MASQUERADE".to_owned()));
            part.by_destination(out, masquerade, table);
        }
        [address] => part.by_destination(out, snat(address), table),
        addresses => {
            let pool = Chain::own("POOL");
            part.by_destination(out, Target::Goto(pool.clone()), table);
            for (bits, mask, address) in spread(addresses) {
                table.add(&pool, format!(" -s {bits}/{mask}"), snat(&address));
            }
        }
    }
}

fn front(part: &Part, forwards: &[Forward], table: &mut Table) {
    let Ruleset { ingress, front, .. } = part.ruleset;
    let [pre, at, dnat] = ["PRE", "FRONT", "DNAT"].map(Chain::own);
    let entrance = Chain::BuiltIn("PREROUTING");
    for interface in ingress {
        table.add(&entrance, format!(" -i {interface}"), Target::Jump(pre.clone()));
    }
    table.add(&pre, "", Target::Goto(at.clone()));
    for address in front {
        table.add(&at, format!(" -d {address}/32"), Target::Goto(dnat.clone()));
    }
    let mut limited = Vec::new();
    for (number, forward) in forwards.iter().enumerate() {
        let Forward { protocol, ports, to, to_ports, from } = forward;
        let dport = format!(" -p {protocol} -m {protocol} --dport {}", colon(*ports));
        let target = if to_ports == ports {
            format!("DNAT --to-destination {to}")
        } else if ports.is_range() {
            format!("DNAT --to-destination {to}:{to_ports}/{}", ports.first())
        } else {
            format!("DNAT --to-destination {to}:{to_ports}")
        };
        match from {
            None => table.add(&dnat, dport, Target::act(target)),
            Some(from) => {
                let [asked, granted] =
                    ["WHO", "LET"].map(|purpose| Chain::own(format!("{purpose}{number}")));
                table.add(&dnat, dport.clone(), Target::Goto(asked.clone()));
                limited.push((asked, granted, part.family.of(from), dport, target));
            }
        }
    }
    for (asked, granted, nets, dport, target) in limited {
        let found = Target::Goto(granted.clone());
        let (side, otherwise) = (Side::Source, Vec::new());
        Lookup { chain: &asked, side, nets: &nets, set: None, found, otherwise }.write(table);
        table.add(&granted, dport, Target::act(target));
    }
}

fn randomly(part: &Part, action: String) -> String {
    if part.ruleset.random_fully { action + " --random-fully" } else { action }
}

/// As iptables writes a range.
pub(super) fn colon(ports: Ports) -> String {
    if ports.is_range() { format!("{}:{}", ports.first(), ports.last()) } else { ports.to_string() }
}
