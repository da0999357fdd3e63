//! The firewall's two back ends, which hold natd's own rules and touch nobody else's.
//!
//! Both put the text of a [`Rendering`](natd_core::ruleset::Rendering) into the kernel, and both
//! read the marks of their rules back from there to see which rendering it is and whether all of
//! it is left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use natd_core::{
    error::{Error, Kind, Result},
    host::Firewall,
    ruleset::{Blocks, FirewallKind},
};

pub(crate) mod audit;
pub(crate) mod iptables;
pub(crate) mod nftables;

pub use iptables::Iptables;
pub use nftables::Nftables;

/// How long one look or one change may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The lock that iptables-legacy takes; iptables-nft has none.
const XTABLES_LOCK: &str = "/run/xtables.lock";

/// The back ends of this host, by the programs in `PATH`. A program that is missing is an error
/// when it is used, not here.
#[derive(Debug)]
pub struct BackEnds {
    /// By `nft`.
    pub nftables: Arc<Nftables>,
    /// By `iptables`.
    pub iptables: Arc<Iptables>,
}

/// The back end that is to hold the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub kind: FirewallKind,
    /// How it holds many blocks.
    pub blocks: Blocks,
    /// Why natd chose it, for people; `None` if the operator did.
    pub reason: Option<String>,
}

impl Default for BackEnds {
    fn default() -> Self {
        Self {
            nftables: Arc::new(Nftables::new("nft", DEADLINE)),
            iptables: Arc::new(Iptables::new("iptables", XTABLES_LOCK, DEADLINE)),
        }
    }
}

impl BackEnds {
    /// Both, as [`Host`](natd_core::host::Host) has them.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<FirewallKind, Arc<dyn Firewall>> {
        let nftables: Arc<dyn Firewall> = self.nftables.clone();
        let iptables: Arc<dyn Firewall> = self.iptables.clone();
        [nftables, iptables].into_iter().map(|firewall| (firewall.kind(), firewall)).collect()
    }

    /// The back end that the operator wants or, if that is `None`, the one that suits this host.
    ///
    /// A host's own rules tell what it uses, and natd's are best beside them: where they are in
    /// nftables tables, nftables; where they came by `iptables`, iptables. Without any, nftables if
    /// its program runs, else iptables.
    ///
    /// # Errors
    /// `NotFound`, naming both packages, if neither runs.
    pub async fn choose(&self, wanted: Option<FirewallKind>) -> Result<Choice> {
        let (kind, reason) = match wanted {
            Some(kind) => (kind, None),
            None => self.suiting().await.map(|(kind, reason)| (kind, Some(reason)))?,
        };
        let has_sets = kind == FirewallKind::Iptables && self.iptables.has_sets().await;
        let blocks = if has_sets { Blocks::Ipset } else { Blocks::Chains };
        Ok(Choice { kind, blocks, reason })
    }

    async fn suiting(&self) -> Result<(FirewallKind, String)> {
        let (nft, iptables) = (self.nftables.version().await, self.iptables.version().await);
        let (nft, iptables) = match (nft, iptables) {
            (Ok(nft), Ok(iptables)) => (nft, iptables),
            (Ok(nft), Err(_)) => {
                let reason = format!("{nft} is on this host, and iptables does not run");
                return Ok((FirewallKind::Nftables, reason));
            }
            (Err(_), Ok(iptables)) => {
                let reason = format!("{iptables} is on this host, and nft does not run");
                return Ok((FirewallKind::Iptables, reason));
            }
            (Err(no_nft), Err(no_iptables)) => return Err(neither(&no_nft, &no_iptables)),
        };
        let tables = self.nftables.foreign_tables().await.unwrap_or_default();
        if !tables.is_empty() {
            let reason = format!("this host's own rules are in nftables ({})", tables.join(", "));
            return Ok((FirewallKind::Nftables, reason));
        }
        let rules = self.iptables.foreign_rules().await.unwrap_or_default();
        if rules > 0 {
            let reason = format!("this host's own rules came by {iptables}: {rules}");
            return Ok((FirewallKind::Iptables, reason));
        }
        Ok((
            FirewallKind::Nftables,
            format!("{nft} is on this host, which has no rules of its own"),
        ))
    }
}

fn neither(no_nft: &Error, no_iptables: &Error) -> Error {
    let cause = match (no_nft.kind(), no_iptables.kind()) {
        (Kind::NotFound, Kind::NotFound) => "neither nft nor iptables is on this host".to_owned(),
        _ => format!("neither nft nor iptables runs on this host: {no_nft}; {no_iptables}"),
    };
    Error::new(Kind::NotFound, "choose a firewall back end", cause)
        .with_advice("install the package nftables or the package iptables")
}
