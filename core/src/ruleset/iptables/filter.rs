//! The table `filter`: what is not forwarded.

use ipnet::IpNet;

use super::{
    part::Part,
    text::{Chain, Table, Target},
};
use crate::ruleset::Ruleset;

/// Every packet comes by the first two jumps, and almost none takes one. A rule that every
/// packet comes by costs 1 to 3 percent of the packets that the kernel can forward.
pub(super) fn table(part: &Part) -> Table {
    let Ruleset { egress, ingress, shut, clamp_mss, .. } = part.ruleset;
    let shut = shut.contains(&part.family);
    let [metadata, new, from, own, kept, mss] =
        ["META", "NEW", "FROM", "OWN", "KEPT", "MSS"].map(Chain::own);
    let mut table = Table::named("filter");
    let forward = Chain::BuiltIn("FORWARD");
    let service = IpNet::from(part.family.metadata_service());
    table.add(&forward, format!(" -d {service}"), Target::Jump(metadata.clone()));
    let states = if shut { "INVALID,NEW" } else { "INVALID" };
    let untracked = format!(" -m conntrack --ctstate {states}");
    table.add(&forward, untracked, Target::Jump(new.clone()));
    let opening = " -p tcp -m tcp --tcp-flags SYN,RST SYN";
    if *clamp_mss {
        table.add(&forward, opening, Target::Jump(mss.clone()));
    }
    for ingress in ingress {
        table.add(&metadata, format!(" -i {ingress}"), Target::drop());
    }
    // What somebody has redirected, natd or another, is meant to come.
    if shut {
        table.add(&new, " -m conntrack --ctstate DNAT", Target::back());
    }
    for ingress in ingress {
        let out = if shut { String::new() } else { format!(" -o {egress}") };
        table.add(&new, format!(" -i {ingress}{out}"), Target::Goto(from.clone()));
    }
    let is_new = || " -m conntrack --ctstate NEW".to_owned();
    let otherwise = if shut { vec![(is_new(), Target::drop())] } else { Vec::new() };
    part.by_source(&from, Target::Goto(own.clone()), otherwise, &mut table);
    // What conntrack can't place would leave untranslated.
    let invalid = format!(" -o {egress} -m conntrack --ctstate INVALID");
    table.add(&own, invalid, Target::Goto(kept.clone()));
    if shut {
        for ingress in ingress {
            table.add(&own, format!(" -o {ingress}"), Target::back());
        }
        table.add(&own, is_new(), Target::drop());
    }
    // To excluded destinations it may: they are not translated, and conntrack may see only one
    // direction of what goes there.
    part.by_destination(&kept, Target::drop(), &mut table);
    if *clamp_mss {
        let clamp = || Target::act("TCPMSS --clamp-mss-to-pmtu");
        for ingress in ingress {
            table.add(&mss, format!(" -i {ingress} -o {egress}{opening}"), clamp());
            if ingress != egress {
                table.add(&mss, format!(" -i {egress} -o {ingress}{opening}"), clamp());
            }
        }
    }
    table
}
