//! One family's part of a ruleset, with what its tables ask alike.

use ipnet::IpNet;

use super::{
    CHAIN_PREFIX, filter,
    lookup::{Lookup, Side},
    nat,
    set::Set,
    text::{Chain, Table, Target},
};
use crate::ruleset::{Blocks, Family, Ruleset};

/// One family's part of a ruleset.
pub(super) struct Part<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) family: Family,
    sources: Vec<IpNet>,
    exclude: Vec<IpNet>,
    pub(super) sets: Vec<Set>,
}

impl<'a> Part<'a> {
    pub(super) fn new(ruleset: &'a Ruleset, family: Family, blocks: Blocks) -> Self {
        let (sources, exclude) = (ruleset.translated(family), family.of(&ruleset.exclude));
        let sets = [("SRC", &sources), ("DST", &exclude)]
            .into_iter()
            .filter_map(|(purpose, nets)| Set::of(purpose, family, nets, blocks))
            .collect();
        Self { ruleset, family, sources, exclude, sets }
    }

    fn set(&self, purpose: &str) -> Option<&str> {
        let prefix = format!("{CHAIN_PREFIX}{purpose}");
        self.sets.iter().find(|set| set.name.starts_with(&prefix)).map(|set| set.name.as_str())
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        vec![filter::table(self), nat::table(self)]
    }

    /// The rules from sources: what is found goes on with `found`, the rest with `otherwise`.
    pub(super) fn by_source(
        &self,
        chain: &Chain,
        found: Target,
        otherwise: Vec<(String, Target)>,
        table: &mut Table,
    ) {
        let (nets, set) = (&self.sources, self.set("SRC"));
        Lookup { chain, side: Side::Source, nets, set, found, otherwise }.write(table);
    }

    /// Excluded destinations return; the rest goes on with `otherwise`.
    pub(super) fn by_destination(&self, chain: &Chain, otherwise: Target, table: &mut Table) {
        let (nets, set) = (&self.exclude, self.set("DST"));
        let otherwise = vec![(String::new(), otherwise)];
        let found = Target::back();
        Lookup { chain, side: Side::Destination, nets, set, found, otherwise }.write(table);
    }
}
