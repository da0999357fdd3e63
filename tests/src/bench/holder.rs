//! What holds many sources in a gateway.

use std::fmt::Write as _;

use anyhow::Result;
use ipnet::Ipv4Net;

use super::chain::Chain;
use super::programs::Programs;
use super::sources::{ALL, client_last};
use crate::lab::run::finish;

/// Three are natd's, the last is what it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Nftables,
    Ipset,
    Chains,
    OneRuleEach,
}

impl Holder {
    pub const ALL: [Self; 4] = [Self::Nftables, Self::Ipset, Self::Chains, Self::OneRuleEach];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "natd, nftables",
            Self::Ipset => "natd, iptables with ipset",
            Self::Chains => "natd, iptables without ipset",
            Self::OneRuleEach => "one rule per CIDR",
        }
    }

    /// What it is, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Nftables => {
                "what `natd apply --provider none` loads with these sources: an interval set."
            }
            Self::Ipset => {
                "the same where iptables (1.8 in its nft form, Debian's default) holds the rules: a set of the type \
                 `hash:net`."
            }
            Self::Chains => "the same where no `ipset` is found: a tree of chains.",
            Self::OneRuleEach => {
                "a rule `iptables -t nat -A POSTROUTING -s CIDR -o outside -j MASQUERADE` for each, as shell scripts \
                 have it, and nothing else. The client's is the last: the worst case; on average it is half of that."
            }
        }
    }

    pub fn is_natds(self) -> bool {
        self != Self::OneRuleEach
    }

    /// The programs that natd is to find.
    pub fn programs(self, chain: &Chain) -> Result<Programs> {
        Programs::lay(&chain.root, (self == Self::Chains).then_some("ipset"))
    }

    /// Puts so many sources into a fresh gateway.
    pub fn hold(self, chain: &Chain, sources: &[Ipv4Net]) -> Result<()> {
        if self == Self::OneRuleEach {
            return restore(chain, sources.len()).map(drop);
        }
        chain.configure(&self.configuration(sources))?;
        chain.natd(&self.programs(chain)?.path(), "apply").map(drop)
    }

    /// natd's configuration, with nothing written for a reboot.
    pub fn configuration(self, sources: &[Ipv4Net]) -> String {
        let firewall = if self == Self::Nftables { "nftables" } else { "iptables" };
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        format!(
            "provider = \"none\"\n\n\
             [nat]\nsources = {sources:?}\nexclude = [\"{ALL}\"]\ninterface = \"outside\"\n\
             firewall = {firewall:?}\npersist = \"none\"\n\n\
             [routes]\ninterface = \"inside\"\n"
        )
    }
}

/// One rule for each of so many CIDRs, by one `iptables-restore`.
pub fn restore(chain: &Chain, sources: usize) -> Result<String> {
    let mut text = String::from("*nat\n");
    for block in client_last(sources) {
        writeln!(text, "-A POSTROUTING {}", rule(block))?;
    }
    text.push_str("COMMIT\n");
    let mut restore = chain.gateway.command("/usr/sbin/xtables-nft-multi");
    finish(restore.args(["iptables-restore", "--noflush"]), &text)
}

/// Of the table `nat`.
pub fn rule(block: Ipv4Net) -> String {
    format!("-s {block} -o outside -j MASQUERADE")
}
