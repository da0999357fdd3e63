//! What sources are translated to: one address, a pool of several, or whatever there is.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use serde::Serialize;

/// Addresses of the egress interface, in the operator's order; at least one, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pool(Vec<Ipv4Addr>);

impl Pool {
    /// The first and the others; what is named twice counts once.
    #[must_use]
    pub fn new(first: Ipv4Addr, others: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let mut seen = BTreeSet::from([first]);
        let others = others.into_iter().filter(|address| seen.insert(*address));
        Self([first].into_iter().chain(others).collect())
    }

    /// All of them.
    #[must_use]
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.0
    }
}

impl From<Ipv4Addr> for Pool {
    fn from(address: Ipv4Addr) -> Self {
        Self(vec![address])
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&addresses.join(", "))
    }
}

/// How sources are translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Translation {
    /// To these addresses of the egress interface: each client to one of them, always the same.
    Snat(Pool),
    /// To whatever address the egress interface has at the moment of the first packet. The only
    /// way for IPv6.
    Masquerade,
}

impl Translation {
    /// To one address.
    #[must_use]
    pub fn to(address: Ipv4Addr) -> Self {
        Self::Snat(address.into())
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snat(pool) => write!(f, "snat to {pool}"),
            Self::Masquerade => f.write_str("masquerade"),
        }
    }
}
