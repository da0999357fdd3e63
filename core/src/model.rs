//! The nouns of natd: ids, addresses, names, routes. Each type carries its own rule.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A value that breaks the rule of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Opaque: 1 to 255 visible characters, as the cloud gives it.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as the cloud writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(s: &str) -> Result<Self, Malformed> {
                if (1..=255).contains(&s.len()) && s.chars().all(|c| c.is_ascii_graphic()) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(Malformed(format!("{s:?} can't be an id: 1 to 255 visible ASCII characters are needed")))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(s: String) -> Result<Self, Malformed> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id!(
    /// A virtual machine, `i-0123…` on AWS.
    InstanceId
);
id!(
    /// A private network: a VPC, or an OpenStack network.
    NetworkId
);
id!(
    /// A subnet.
    SubnetId
);
id!(
    /// The cloud's side of a network interface: an ENI or a port.
    InterfaceId
);
id!(
    /// A route table, or a router that has one.
    RouteTableId
);

/// A network interface's name in the kernel: 1 to 15 bytes, no `/`, no white space, not `.` or `..`
/// (`dev_valid_name` in the kernel's `net/core/dev.c`). Quotes are refused too, since names are
/// written into rules, and so are `*`, `+` and `\\`, which are wildcards to nft and iptables there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as the kernel writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        let well_formed = (1..=15).contains(&s.len())
            && s != "."
            && s != ".."
            && s.chars().all(|c| {
                c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\'' | '*' | '+' | '\\')
            });
        if well_formed {
            Ok(Self(s.to_owned()))
        } else {
            Err(Malformed(format!("{s:?} can't be the name of a network interface")))
        }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An Ethernet address; reads `0a:1b:…`, whatever the case of its digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl FromStr for MacAddress {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed(format!("{s:?} is not an Ethernet address"));
        let mut octets = [0; 6];
        let mut parts = s.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(malformed)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() { Err(malformed()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.pad(&octets.join(":"))
    }
}

/// Where a route sends packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHop {
    /// A network interface.
    Interface(InterfaceId),
    /// The gateway to the internet.
    InternetGateway(String),
    /// The network itself; made by the cloud, never by natd.
    Local,
    /// Anything else that this cloud knows, carried through untouched.
    Other {
        /// What it is, in the words of the provider: `nat-gateway`, `transit-gateway` …
        kind: String,
        /// The cloud's id of it.
        id: String,
    },
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(id) => write!(f, "{id}"),
            Self::InternetGateway(id) => write!(f, "{id}"),
            Self::Local => write!(f, "local"),
            Self::Other { kind, id } => write!(f, "{id} ({kind})"),
        }
    }
}

/// Whether a route's target takes packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteState {
    /// The target exists and is attached.
    Active,
    /// The target is gone: packets are dropped.
    Blackhole,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteOrigin {
    /// Somebody wrote it into the table.
    Static,
    /// A gateway propagated it; it returns by itself and must never be copied into a static route.
    Propagated,
}

/// One route to a block of addresses. Routes to other things (prefix lists) are not natd's affair
/// and don't appear.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The addresses that it is for.
    pub destination: IpNet,
    /// Where it sends them.
    pub next_hop: NextHop,
    /// Whether that place takes them.
    pub state: RouteState,
    /// Who made it.
    pub origin: RouteOrigin,
}

/// One destination in one table: the thing of which there is at most one static route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteKey {
    /// The table.
    pub table: RouteTableId,
    /// The destination.
    pub destination: IpNet,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} in {}", self.destination, self.table)
    }
}

/// A tag of a cloud object, written `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag {
    /// Everything before the first `=`.
    pub key: String,
    /// Everything after it.
    pub value: String,
}

impl FromStr for Tag {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        match s.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(Malformed(format!("{s:?} is not a tag: KEY=VALUE is needed"))),
        }
    }
}

impl TryFrom<String> for Tag {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        tag.to_string()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "ens5", "enX0", "eth0.100", "br-1a2b"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", "a/b", "a b", "sixteen-bytes-xx", "ens5:1", "a\"b", "eth*", "eth+"]
        {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ethernet_addresses_ignore_case_and_print_in_lower_case() {
        let mac: MacAddress = "0A:1b:2C:3d:4E:5f".parse().expect("well formed");
        assert_eq!(mac.to_string(), "0a:1b:2c:3d:4e:5f");
        for bad in
            ["", "0a:1b:2c:3d:4e", "0a:1b:2c:3d:4e:5f:60", "0a1b2c3d4e5f", "g0:00:00:00:00:00"]
        {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_splits_at_the_first_equals_sign() {
        let tag: Tag = "a=b=c".parse().expect("well formed");
        assert_eq!((tag.key.as_str(), tag.value.as_str()), ("a", "b=c"));
        assert!("=b".parse::<Tag>().is_err());
        assert!("ab".parse::<Tag>().is_err());
    }
}
