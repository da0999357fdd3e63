//! The mark: the comment that every rule of natd's carries, so that rules read back from a kernel
//! tell which rendering they come from and what has become of it.
//!
//! `natd:DIGEST:INDEX/TOTAL`, with `:SET=DIGEST` for each set of addresses that the rule vouches
//! for. Marks are the only thing that is compared: how a tool prints a rule differs from one
//! version to the next, but comments come back as they were written.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::Serialize;

use super::RulesetDigest;
use crate::{
    model::Malformed,
    networks::{ends, number},
};

/// What a rule says of itself. At most 128 bytes when printed, which is what nftables holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The rendering that the rule comes from.
    pub digest: RulesetDigest,
    /// Which of its rules this is, from 1.
    pub index: usize,
    /// How many rules it has.
    pub total: usize,
    /// Sets by name, with what they held when they were loaded.
    pub sets: BTreeMap<String, ElementsDigest>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "natd:{}:{}/{}", self.digest, self.index, self.total)?;
        self.sets.iter().try_for_each(|(name, elements)| write!(f, ":{name}={elements}"))
    }
}

impl FromStr for Mark {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new(format!("{s:?} is not a mark of natd's"));
        let mut fields = s.split(':');
        let mut next = || fields.next().ok_or_else(malformed);
        let (prefix, digest, position) = (next()?, next()?, next()?);
        let (index, total) = position.split_once('/').ok_or_else(malformed)?;
        let (index, total) =
            (index.parse().map_err(|_| malformed())?, total.parse().map_err(|_| malformed())?);
        let sets = fields
            .map(|field| {
                let (name, elements) = field.split_once('=').ok_or_else(malformed)?;
                Ok((name.to_owned(), ElementsDigest(elements.to_owned())))
            })
            .collect::<Result<_, _>>()?;
        if prefix == "natd" && !digest.is_empty() && (1..=total).contains(&index) {
            Ok(Self { digest: RulesetDigest(digest.to_owned()), index, total, sets })
        } else {
            Err(malformed())
        }
    }
}

/// Names what a set of addresses holds, however it is cut into prefixes and ranges: nftables
/// prints neighbouring prefixes as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ElementsDigest(String);

impl ElementsDigest {
    /// Of ranges of addresses of one family, both ends included, in any order.
    #[must_use]
    pub fn of(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut ranges: Vec<(u128, u128)> =
            ranges.into_iter().map(|(first, last)| (number(first), number(last))).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        let text: Vec<String> =
            joined.iter().map(|(first, last)| format!("{first}-{last},")).collect();
        Self(RulesetDigest::of(&text.concat()).0)
    }

    /// Of whole prefixes.
    #[must_use]
    pub fn of_nets<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> Self {
        Self::of(nets.into_iter().copied().map(ends))
    }
}

impl fmt::Display for ElementsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &[&str]) -> Vec<IpNet> {
        text.iter().map(|net| net.parse().expect("a prefix")).collect()
    }

    #[test]
    fn a_mark_reads_back_as_it_was_written() {
        let elements = ElementsDigest::of_nets(&nets(&["10.0.0.0/8"]));
        let mark = Mark {
            digest: RulesetDigest::of("rules"),
            index: 1,
            total: 12,
            sets: BTreeMap::from([
                ("exclude".to_owned(), elements.clone()),
                ("sources".to_owned(), elements),
            ]),
        };
        assert!(mark.to_string().len() <= 128, "longer than an nftables comment: {mark}");
        assert_eq!(mark.to_string().parse(), Ok(mark));
    }

    #[test]
    fn comments_of_others_are_no_marks() {
        for comment in [
            "",
            "natd",
            "natd:",
            "natd::1/2",
            "natd:ab:0/2",
            "natd:ab:3/2",
            "natd:ab:1",
            "other:ab:1/2",
            "natd:ab:1/2:x",
        ] {
            assert!(comment.parse::<Mark>().is_err(), "{comment:?}");
        }
    }

    #[test]
    fn elements_count_and_not_how_they_are_cut() {
        let whole = ElementsDigest::of_nets(&nets(&["10.0.0.0/15", "192.0.2.0/24"]));
        let cut = ElementsDigest::of_nets(&nets(&[
            "192.0.2.0/24",
            "10.1.0.0/16",
            "10.0.0.0/16",
            "10.1.2.0/24",
        ]));
        assert_eq!(whole, cut);
        assert_ne!(whole, ElementsDigest::of_nets(&nets(&["10.0.0.0/15", "192.0.2.0/25"])));
        assert_ne!(whole, ElementsDigest::of_nets(&[]));
    }
}
