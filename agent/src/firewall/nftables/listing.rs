//! What sets hold, by what `nft -j list` prints (libnftables-json(5)).

use std::net::IpAddr;

use ipnet::IpNet;
use natd_core::ruleset::ElementsDigest;
use serde::{Deserialize, de::IgnoredAny};

#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    nftables: Vec<Object>,
}

/// One object, in the field of its kind.
#[derive(Debug, Deserialize)]
struct Object {
    set: Option<Set>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Set {
    pub name: String,
    #[serde(default)]
    elem: Vec<Element>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Element {
    Address(IpAddr),
    Prefix {
        prefix: Prefix,
    },
    Range {
        range: (IpAddr, IpAddr),
    },
    /// With a comment or a counter.
    Annotated {
        elem: Annotated,
    },
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Prefix {
    addr: IpAddr,
    len: u8,
}

#[derive(Debug, Deserialize)]
struct Annotated {
    val: Box<Element>,
}

impl Listing {
    pub(super) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.nftables.iter().filter_map(|object| object.set.as_ref())
    }
}

impl Set {
    /// `None` if it holds something else than addresses.
    pub(super) fn elements(&self) -> Option<ElementsDigest> {
        let ranges: Option<Vec<_>> = self.elem.iter().map(Element::range).collect();
        ranges.map(ElementsDigest::of)
    }
}

impl Element {
    fn range(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Self::Address(address) => Some((*address, *address)),
            Self::Prefix { prefix: Prefix { addr, len } } => {
                let net = IpNet::new(*addr, *len).ok()?;
                Some((net.network(), net.broadcast()))
            }
            Self::Range { range } => Some(*range),
            Self::Annotated { elem } => elem.val.range(),
            Self::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_every_form() {
        let json = r#"{"nftables": [{"metainfo": {"json_schema_version": 1}},
            {"set": {"family": "inet", "name": "s", "table": "natd", "type": "ipv4_addr", "flags": ["interval"], "elem": [
                {"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.0.2.1", {"range": ["198.51.100.0", "198.51.100.3"]},
                {"elem": {"val": "203.0.113.9", "comment": "one"}}]}},
            {"set": {"family": "inet", "name": "ports", "table": "natd", "type": "inet_service", "elem": [80, 443]}}]}"#;
        let listing: Listing = serde_json::from_str(json).expect("a listing");
        let digests: Vec<_> = listing.sets().map(Set::elements).collect();
        let nets = ["10.0.0.0/8", "192.0.2.1/32", "198.51.100.0/30", "203.0.113.9/32"]
            .map(|net| net.parse::<IpNet>().expect("a prefix"));
        assert_eq!(digests, [Some(ElementsDigest::of_nets(&nets)), None]);
    }
}
