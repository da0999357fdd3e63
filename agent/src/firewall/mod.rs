//! The firewall's two back ends, which hold natd's own rules and touch nobody else's.
//!
//! Both put the text of a [`Rendering`](natd_core::ruleset::Rendering) into the kernel, and both
//! read the marks of their rules back from there to see which rendering it is and whether all of
//! it is left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use natd_core::{
    error::{Error, Kind, Result},
    host::Firewall,
    ruleset::FirewallKind,
};

mod audit;
mod iptables;
mod nftables;

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

/// A back end that natd has chosen by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub kind: FirewallKind,
    /// Why, for people.
    pub reason: String,
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

    /// What `nat.firewall = "auto"` means on this host: nftables where its program runs, else
    /// iptables.
    ///
    /// # Errors
    /// `NotFound`, naming both packages, if neither runs.
    pub async fn choose(&self) -> Result<Choice> {
        let no_nft = match self.nftables.version().await {
            Ok(version) => {
                let reason = format!("{version} is on this host");
                return Ok(Choice { kind: FirewallKind::Nftables, reason });
            }
            Err(error) => error,
        };
        match self.iptables.version().await {
            Ok(version) => Ok(Choice {
                kind: FirewallKind::Iptables,
                reason: format!("{version} is on this host, and nft does not run"),
            }),
            Err(no_iptables) => Err(Error::new(
                Kind::NotFound,
                "choose a firewall back end",
                match (no_nft.kind(), no_iptables.kind()) {
                    (Kind::NotFound, Kind::NotFound) => {
                        "neither nft nor iptables is on this host".to_owned()
                    }
                    _ => format!(
                        "neither nft nor iptables runs on this host: {no_nft}; {no_iptables}"
                    ),
                },
            )
            .with_advice("install the package nftables or the package iptables")),
        }
    }
}
