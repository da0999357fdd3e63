//! What is loaded into a gateway.

use anyhow::{Context, Result};

use super::super::chain::{CLIENT, Chain, OUTSIDE};
use crate::lab::back_end::BackEnd;
use crate::lab::natd::first_in;
use crate::lab::topology::NETWORKS;

pub const BARE: &str = "table ip bare {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"outside\" masquerade
    }
}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    Routing,
    Bare,
    BareAgain,
    Natd(BackEnd),
}

impl Variant {
    pub const ALL: [Self; 6] = [
        Self::Routing,
        Self::Bare,
        Self::BareAgain,
        Self::Natd(BackEnd::Nftables),
        Self::Natd(BackEnd::IptablesNft),
        Self::Natd(BackEnd::IptablesLegacy),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Routing => "plain routing",
            Self::Bare => "the bare rule",
            Self::BareAgain => "the bare rule again",
            Self::Natd(BackEnd::Nftables) => "natd, nftables",
            Self::Natd(BackEnd::IptablesNft) => "natd, iptables-nft",
            Self::Natd(BackEnd::IptablesLegacy) => "natd, iptables-legacy",
        }
    }

    /// What it is, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Routing => "the gateway forwards, with no rule and no connection tracking.",
            Self::Bare => {
                "one `masquerade` rule of nftables for all that leaves by the outer interface, and nothing else."
            }
            Self::BareAgain => {
                "the same in another chain: how far it is from 1 is what the measurement can't tell apart."
            }
            Self::Natd(BackEnd::Nftables) => {
                "what `natd apply --provider none` loads for the two blocks of the lab's VPC: translation to the private \
                 address with random ports, exclusions, protection of the metadata service, invalid packets dropped."
            }
            Self::Natd(BackEnd::IptablesNft) => "the same by `iptables`, in its nft form.",
            Self::Natd(BackEnd::IptablesLegacy) => "the same by `iptables`, in its legacy form.",
        }
    }

    /// A chain with this in its gateway, proved to translate, or not to.
    pub fn chain(self) -> Result<Chain> {
        let chain = Chain::lay()?;
        match self {
            Self::Routing => {}
            Self::Bare | Self::BareAgain => chain.gateway.nft(BARE)?,
            Self::Natd(back_end) => apply(&chain, back_end)?,
        }
        let expected = if self == Self::Routing { CLIENT } else { OUTSIDE };
        chain.prove(expected).with_context(|| self.name())?;
        Ok(chain)
    }
}

/// Runs natd in the gateway.
fn apply(chain: &Chain, back_end: BackEnd) -> Result<()> {
    let networks = NETWORKS.map(|network| network.to_string());
    let firewall = back_end.setting();
    let configuration = format!(
        "provider = \"none\"\n\n\
         [nat]\nsources = {networks:?}\nexclude = {networks:?}\ninterface = \"outside\"\nfirewall = {firewall:?}\n\n\
         [routes]\ninterface = \"inside\"\n"
    );
    chain.configure(&configuration)?;
    chain.natd(&first_in(&back_end.programs(&chain.root)?)?, "apply").map(drop)
}
