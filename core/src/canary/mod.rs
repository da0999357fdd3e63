//! The canary: a packet of natd's own that goes a private host's way through this machine, and what
//! became of it. The flight itself is the host's ([`crate::host::Canary`]); here is what it means.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use serde::Serialize;

use crate::{error::Error, model::InterfaceName, ruleset::Ruleset};

mod judge;
pub mod legacy;
mod neighbour;

pub use judge::judge;
pub use neighbour::{is_of_iptables, neighbour};

/// Whom the canary says that it comes from: the IPv4 dummy address, which no host has (RFC 7600, and
/// IANA's registry of special addresses). natd's rules translate it as they do the private hosts'.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The nftables table that natd watches its canary with; it is there for as long as that flies.
pub const TABLE: &str = "natd-canary";

/// The device by which the canary sets out; it is there for as long as that flies.
pub const DEVICE: &str = "natd-canary";

/// One flight: in by `entrance` as if a private host had sent it, on to these targets.
#[derive(Debug, Clone, Copy)]
pub struct Flight<'a> {
    /// Where private hosts' packets come in.
    pub entrance: &'a InterfaceName,
    /// The rules that are to carry it.
    pub ruleset: &'a Ruleset,
    /// `host:port`. Empty: it flies to nobody, and proves what can be proven without an answer.
    pub targets: &'a [String],
}

/// What was seen of the packets to one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Whom an answer is expected from; `None`: from nobody.
    pub target: Option<String>,
    /// On the way out, in order.
    pub out: Vec<Glimpse>,
    /// What came back, in order.
    pub back: Vec<Glimpse>,
    /// What the connection tracking table says.
    pub tracked: Option<Tracked>,
    /// Why packets could not be watched on their way; the table is all there is then.
    pub blind: Option<String>,
    /// Rules of iptables-legacy, which nobody can watch, that may have dropped it.
    pub suspects: Vec<String>,
}

/// One thing that was seen of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glimpse {
    /// It was there.
    At(Milestone),
    /// It was at the end of its way through this host.
    End {
        /// From whom it was by then.
        source: Ipv4Addr,
        /// By which interface it was to leave.
        by: Option<InterfaceName>,
        /// It was a reset.
        reset: bool,
    },
    /// A rule or a policy dropped it.
    Dropped(Rule),
    /// A rule handed it to a program, which decides.
    Queued(Rule),
}

/// A place that packets come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// It came in.
    In,
    /// It is to be forwarded: before all forward chains.
    Forward,
    /// After all forward chains.
    Forwarded,
}

/// A rule, or a chain's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// `ip`, `inet`, …
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Which of its rules; `None`: its policy.
    pub handle: Option<u64>,
    /// The rule as `nft` prints it.
    pub text: Option<String>,
    /// Whose it is, as far as names tell.
    pub owner: Option<String>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, handle, text, owner } = self;
        if let Some(owner) = owner {
            write!(f, "{owner}: ")?;
        }
        match (handle, text) {
            (None, None) => write!(f, "the policy of ")?,
            (None, Some(text)) => write!(f, "the rule {text} of ")?,
            (Some(handle), None) => write!(f, "rule {handle} of ")?,
            (Some(handle), Some(text)) => write!(f, "rule {handle} ({text}) of ")?,
        }
        write!(f, "chain {chain} in table {family} {table}")
    }
}

/// An entry of the connection tracking table: the packet was translated and has left the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// Whom answers go to.
    pub translated: Ipv4Addr,
    /// What has come back.
    pub answer: Option<Answer>,
}

/// What has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The target accepts the connection.
    Accepts,
    /// A reset.
    Reset,
}

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From a private host to the internet.
    Out,
    /// And back.
    Back,
}

/// What became of the canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The target's answer came back, all the way to where a private host would have it.
    Returned {
        /// The target.
        target: String,
        /// What it was translated to.
        translated: Ipv4Addr,
        /// The answer was seen at the end of its way; else only that it came.
        seen_back: bool,
    },
    /// It left the host translated, and more is not known.
    Left {
        /// What it was translated to.
        translated: Ipv4Addr,
        /// A target that didn't answer that address, one of several that private hosts are translated
        /// to, though it answers another; `None`: nobody was to answer.
        silent: Option<String>,
    },
    /// It didn't get through.
    Lost(Loss),
    /// It could not be sent, or not as a private host's packet: nothing is known.
    Unsent(Error),
}

/// Where the canary was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Packets that come in by that interface are not forwarded.
    NotForwarded {
        /// The interface.
        interface: InterfaceName,
        /// Which way it went.
        way: Way,
    },
    /// Dropped.
    Dropped {
        /// By whom.
        rule: Rule,
        /// Which way it went.
        way: Way,
    },
    /// Handed to a program that did not give it back.
    Queued {
        /// By whom.
        rule: Rule,
        /// Which way it went.
        way: Way,
    },
    /// Gone, and none that can be watched has dropped it.
    Vanished {
        /// Where it was seen last, in words.
        after: String,
        /// Rules of iptables-legacy that may have dropped it.
        suspects: Vec<String>,
        /// Which way it went.
        way: Way,
    },
    /// It left by another interface than the egress interface.
    LeftBy {
        /// That interface.
        interface: InterfaceName,
    },
    /// It left as it came.
    Untranslated,
    /// It left translated, and nothing came back.
    Unanswered {
        /// The target.
        target: String,
        /// What it was translated to.
        translated: Ipv4Addr,
    },
    /// A reset came back.
    Reset {
        /// The target.
        target: String,
    },
}

/// The stations of the canary's way, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Station {
    /// The kernel forwards it.
    Forwarding,
    /// No firewall drops it.
    Firewalls,
    /// It leaves by the egress interface, translated.
    Translation,
    /// The target answers.
    Answer,
    /// The answer gets back to where it came from.
    WayBack,
}

impl Station {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Forwarding, Self::Firewalls, Self::Translation, Self::Answer, Self::WayBack];

    /// Its name in `natd verify`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "canary: forwarding",
            Self::Firewalls => "canary: firewalls",
            Self::Translation => "canary: translation",
            Self::Answer => "canary: answer",
            Self::WayBack => "canary: way back",
        }
    }
}

impl Loss {
    /// The station at which it was lost.
    #[must_use]
    pub fn station(&self) -> Station {
        match self {
            Self::NotForwarded { way: Way::Out, .. } => Station::Forwarding,
            Self::Dropped { way: Way::Out, .. }
            | Self::Queued { way: Way::Out, .. }
            | Self::Vanished { way: Way::Out, .. } => Station::Firewalls,
            Self::LeftBy { .. } | Self::Untranslated => Station::Translation,
            Self::Unanswered { .. } | Self::Reset { .. } => Station::Answer,
            Self::NotForwarded { way: Way::Back, .. }
            | Self::Dropped { way: Way::Back, .. }
            | Self::Queued { way: Way::Back, .. }
            | Self::Vanished { way: Way::Back, .. } => Station::WayBack,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |way: Way| match way {
            Way::Out => "",
            Way::Back => "the answer was ",
        };
        match self {
            Self::NotForwarded { interface, way } => {
                let what = if *way == Way::Out { "what" } else { "the answer came, and what" };
                write!(
                    f,
                    "{what} comes in by {interface} is not forwarded: net.ipv4.conf.{interface}.forwarding is 0"
                )
            }
            Self::Dropped { rule, way } => write!(f, "{}dropped by {rule}", what(*way)),
            Self::Queued { rule, way } => {
                write!(f, "{}handed to a program (queue) and not given back, by {rule}", what(*way))
            }
            Self::Vanished { after, suspects, way } => {
                write!(f, "{}lost {after}", what(*way))?;
                match suspects.as_slice() {
                    [] => Ok(()),
                    suspects => write!(f, ": iptables-legacy: {}", suspects.join(", or ")),
                }
            }
            Self::LeftBy { interface } => {
                write!(f, "it leaves by {interface}, where natd translates nothing")
            }
            Self::Untranslated => f.write_str("it was about to leave as it came"),
            Self::Unanswered { target, translated } => {
                write!(f, "{target} doesn't answer; it was asked from {translated}")
            }
            Self::Reset { target } => write!(f, "a reset came back in the name of {target}"),
        }
    }
}

impl Outcome {
    /// Whether that says that the data path works, as far as was to be proven; `None`: it says nothing.
    #[must_use]
    pub fn is_good(&self) -> Option<bool> {
        match self {
            Self::Returned { .. } | Self::Left { .. } => Some(true),
            Self::Lost(_) => Some(false),
            Self::Unsent(_) => None,
        }
    }
}

/// What forwarding is set to, by interface: `"0"` is off.
pub type Forwarding = BTreeMap<InterfaceName, String>;
