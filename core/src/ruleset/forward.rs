//! A forwarded port: what comes to it from outside goes to a private host.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::Malformed,
    network::{Flow, Network},
    networks::Networks,
};

/// A transport protocol that has ports.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port or a range of them, both ends included; never port 0, never reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// From the first to the last.
    ///
    /// # Errors
    /// If the first is 0 or above the last.
    pub fn new(first: u16, last: u16) -> Result<Self, Malformed> {
        if first == 0 {
            Err(Malformed::new("port 0 can't be forwarded; ports go from 1 to 65535".to_owned()))
        } else if first > last {
            Err(Malformed::new(format!(
                "the range {first}-{last} is reversed; write \"{last}-{first}\""
            )))
        } else {
            Ok(Self { first, last })
        }
    }

    /// The first.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether it is more than one port.
    #[must_use]
    pub fn is_range(self) -> bool {
        self.first != self.last
    }

    /// Whether that port is among them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether a port is among both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The same number of ports from that one on; `None` if there are not so many.
    #[must_use]
    pub fn moved_to(self, first: u16) -> Option<Self> {
        let last = first.checked_add(self.last - self.first)?;
        Some(Self { first, last })
    }
}

impl FromStr for Ports {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        let port = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                Malformed::new(format!(
                    "{s:?} is neither a port from 1 to 65535 nor a range such as \"8000-8100\""
                ))
            })
        };
        match s.split_once('-') {
            Some((first, last)) => Self::new(port(first)?, port(last)?),
            None => Self::new(port(s)?, port(s)?),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_range() {
            f.pad(&format!("{}-{}", self.first, self.last))
        } else {
            f.pad(&self.first.to_string())
        }
    }
}

/// What comes to these ports goes to that host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports outside.
    pub ports: Ports,
    /// The private host.
    pub to: Ipv4Addr,
    /// Its ports, as many as outside.
    pub to_ports: Ports,
    /// Who may come in; `None`: everyone.
    pub from: Option<Networks>,
}

impl Forward {
    /// Whether that connection came to one of these ports, was let in, and goes where they go now.
    #[must_use]
    pub fn carries(&self, flow: &Flow) -> bool {
        flow.protocol == self.protocol.number()
            && self.ports.contains(flow.destination_port)
            && flow.reply_source == self.to
            && flow.destination != flow.reply_source
            && flow.reply_source_port.checked_sub(self.to_ports.first())
                == flow.destination_port.checked_sub(self.ports.first())
            && self.from.as_ref().is_none_or(|from| from.contains(flow.source))
    }

    /// Whether that connection of somebody else came to one of these ports and goes elsewhere than
    /// it should: it began before the rule.
    #[must_use]
    pub fn misses(&self, flow: &Flow, network: &Network) -> bool {
        flow.protocol == self.protocol.number()
            && self.ports.contains(flow.destination_port)
            && !network.is_local(flow.source)
            && self.from.as_ref().is_none_or(|from| from.contains(flow.source))
            && !self.carries(flow)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}:{}", self.protocol, self.ports, self.to, self.to_ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range() {
        let ports: Ports = "8000-8100".parse().expect("a range");
        assert!(ports.contains(8000) && ports.contains(8100) && !ports.contains(8101));
        assert_eq!(ports.to_string(), "8000-8100");
        assert_eq!("443".parse::<Ports>().expect("a port").to_string(), "443");
        assert_eq!(ports.moved_to(65500), None);
        assert_eq!(ports.moved_to(9000).map(Ports::last), Some(9100));
    }

    #[test]
    fn reversed_and_impossible_ports_are_refused() {
        for (text, words) in [
            ("8100-8000", "reversed"),
            ("0", "port 0"),
            ("70000", "65535"),
            ("http", "a port from 1"),
            ("1-2-3", "a port from 1"),
        ] {
            let error = text.parse::<Ports>().expect_err("refused").to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn overlapping_is_mutual() {
        let ports = |text: &str| text.parse::<Ports>().expect("ports");
        for (one, other, overlap) in [
            ("80", "80", true),
            ("80-90", "90-100", true),
            ("80-90", "91", false),
            ("1-65535", "443", true),
        ] {
            assert_eq!(ports(one).overlaps(ports(other)), overlap, "{one} {other}");
            assert_eq!(ports(other).overlaps(ports(one)), overlap, "{other} {one}");
        }
    }
}
