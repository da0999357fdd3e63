//! Whose a chain is, by its name and by the names beside it in its table.

use std::collections::BTreeSet;

use super::super::ruleset::{IPTABLES_CHAIN_PREFIX, NFTABLES_TABLE};

/// The tables of iptables, which over nftables are tables of the families `ip` and `ip6`.
const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Whether the chain is one of iptables'; else somebody has written it for nftables, by whatever names.
#[must_use]
pub fn is_of_iptables(family: &str, table: &str, chain: &str) -> bool {
    // A base chain of iptables has its hook's name in capitals.
    let is_hook = ["prerouting", "input", "forward", "output", "postrouting"].contains(&chain);
    ["ip", "ip6"].contains(&family) && OF_IPTABLES.contains(&table) && !is_hook
}

/// Chains that firewalld makes in a table of iptables, and what its other chains there begin with.
const OF_FIREWALLD: [&str; 2] = ["FORWARD_direct", "FORWARD_ZONES"];
const FIREWALLDS: [&str; 4] = ["FWD_", "FORWARD_", "IN_", "INPUT_"];

/// Whose the chain is: names are all that there is to tell by. The built-in chains of iptables are
/// everybody's; what they do at their end is of whoever of Docker, ufw and firewalld has chains beside them,
/// since the first two set the policy, and firewalld ends them with a rule.
#[must_use]
pub fn neighbour(
    family: &str,
    table: &str,
    chain: &str,
    beside: &BTreeSet<String>,
) -> Option<String> {
    let of = |name: &str| {
        [
            ("DOCKER", "Docker"),
            ("ufw", "ufw"),
            (IPTABLES_CHAIN_PREFIX, "natd"),
            ("KUBE-", "Kubernetes"),
            ("cali-", "Calico"),
            ("CNI-", "CNI"),
            ("LIBVIRT_", "libvirt"),
            ("f2b-", "fail2ban"),
        ]
        .into_iter()
        .find_map(|(prefix, owner)| name.starts_with(prefix).then_some(owner))
    };
    let is_iptables = is_of_iptables(family, table, chain);
    let has_firewalld = is_iptables && OF_FIREWALLD.iter().any(|name| beside.contains(*name));
    let of = |name: &str| {
        let is_its = has_firewalld && FIREWALLDS.iter().any(|prefix| name.starts_with(prefix));
        of(name).or(is_its.then_some("firewalld"))
    };
    let owner = match table {
        NFTABLES_TABLE => "natd",
        // In panic mode it has another one.
        "firewalld" | "firewalld_policy_drop" => "firewalld",
        _ => match of(chain) {
            Some(owner) => owner,
            None if is_iptables => {
                let owners: BTreeSet<&str> = beside
                    .iter()
                    .filter_map(|name| of(name))
                    .filter(|owner| ["Docker", "ufw", "firewalld"].contains(owner))
                    .collect();
                let owners: Vec<&str> = owners.into_iter().collect();
                return Some(if owners.is_empty() {
                    "iptables".to_owned()
                } else {
                    format!("iptables, probably {}", owners.join(" or "))
                });
            }
            None => return None,
        },
    };
    Some(owner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell() {
        let beside = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let docker = ["FORWARD", "DOCKER-USER", "DOCKER"];
        let both = ["FORWARD", "DOCKER-USER", "ufw-user-forward"];
        let firewalld = ["FORWARD", "FORWARD_direct", "FORWARD_ZONES", "FWD_public"];
        for (table, chain, others, owner) in [
            ("filter", "DOCKER-USER", &docker[..], Some("Docker")),
            ("filter", "FORWARD", &docker[..], Some("iptables, probably Docker")),
            ("filter", "FORWARD", &both[..], Some("iptables, probably Docker or ufw")),
            ("filter", "ufw-reject-forward", &both[..], Some("ufw")),
            ("filter", "FORWARD", &[][..], Some("iptables")),
            ("firewalld", "filter_FORWARD", &[][..], Some("firewalld")),
            ("firewalld_policy_drop", "raw_prerouting", &[][..], Some("firewalld")),
            ("filter", "FWD_public", &firewalld[..], Some("firewalld")),
            ("filter", "FORWARD", &firewalld[..], Some("iptables, probably firewalld")),
            ("filter", "FWD_mine", &both[..], Some("iptables, probably Docker or ufw")),
            ("natd", "forward", &[][..], Some("natd")),
            ("filter", "NATD-NEW-0a1b2c3d", &[][..], Some("natd")),
            ("mine", "forward", &[][..], None),
        ] {
            let found = neighbour("ip", table, chain, &beside(others));
            assert_eq!(found.as_deref(), owner, "{table} {chain}");
        }
        // Of such a name are many that somebody has written.
        assert_eq!(neighbour("inet", "filter", "forward", &beside(&[])), None);
        assert_eq!(neighbour("ip", "filter", "forward", &beside(&[])), None);
    }
}
