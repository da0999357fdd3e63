//! What a command works with: configuration, host, cloud, gateway, journal.

use std::{path::Path, sync::Arc, time::Duration};

use natd_agent::{
    canary::TunCanary, conntrack::Ctnetlink, egress::TcpEgress, firewall::BackEnds,
    gateway::Gateway, links::Netlink, lock::Lock, neighbours::neighbours, persist::HostAtBoot,
    sysctl::ProcSys,
};
use natd_core::{
    config::{Config, ConfigError, FirewallChoice, Layers},
    error::{Error, Kind, Result},
    host::Host,
    journal::JournalFile,
    ruleset::FirewallKind,
};
use rustix::thread::{CapabilitySet, capabilities};

use crate::args::Common;

/// How long netlink may take to answer.
const NETLINK_DEADLINE: Duration = Duration::from_secs(10);

/// How long the whole connection table may take to be read.
const CONNTRACK_DEADLINE: Duration = Duration::from_secs(30);

/// How long a target may take to answer.
const EGRESS_DEADLINE: Duration = Duration::from_secs(5);

/// Why a command can't begin.
pub enum Obstacle {
    /// The configuration can't be used.
    Configuration(ConfigError),
    /// Something else.
    Failure(Error),
}

impl From<ConfigError> for Obstacle {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error)
    }
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

/// The configuration, from all layers.
pub fn configuration(common: &Common) -> Result<Config, ConfigError> {
    let layers = Layers {
        root: common.root.clone(),
        file: common.config.clone(),
        provider: common.provider.clone(),
        clouds: natd_providers::names(),
    };
    layers.load_for(natd_providers::problems)
}

/// A gateway over this host and the configured cloud.
pub async fn gateway(config: Config, root: &Path) -> Result<Gateway, Obstacle> {
    needs_root()?;
    let provider = natd_providers::connect(&config).await?;
    let back_ends = BackEnds::default();
    let wanted = match config.nat.firewall {
        FirewallChoice::Nftables => Some(FirewallKind::Nftables),
        FirewallChoice::Iptables => Some(FirewallKind::Iptables),
        FirewallChoice::Auto => None,
    };
    let firewall = back_ends.choose(wanted).await?;
    if let Some(reason) = &firewall.reason {
        tracing::info!(firewall = %firewall.kind, "{}: {reason}", firewall.kind);
    }
    let host = Host {
        firewalls: back_ends.by_kind(),
        sysctl: Arc::new(ProcSys::new("/proc/sys")),
        links: Arc::new(Netlink::new(NETLINK_DEADLINE)),
        conntrack: Arc::new(Ctnetlink::new(CONNTRACK_DEADLINE)),
        egress: Arc::new(TcpEgress::new(EGRESS_DEADLINE)),
        canary: Arc::new(TunCanary::new(EGRESS_DEADLINE)),
        boot: Arc::new(HostAtBoot::new(root)),
        neighbours: neighbours(root),
    };
    Ok(Gateway::new(config, host, provider, firewall))
}

/// The lock and the journal, for a command that changes something.
pub async fn to_change(root: &Path, gateway: &Gateway) -> Result<(Lock, JournalFile)> {
    let lock = Lock::take(root)?;
    let instance = gateway.instance().await?;
    let journal = JournalFile::open(root, instance.map(|instance| instance.id).as_ref())?;
    Ok((lock, journal))
}

fn needs_root() -> Result<()> {
    let may =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    if may {
        return Ok(());
    }
    Err(Error::new(
        Kind::Denied,
        "work on this host's network",
        "the capability CAP_NET_ADMIN is missing",
    )
    .with_advice("run natd as root"))
}
