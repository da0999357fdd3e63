//! What a type alone can't refuse: values that don't go together, and keys of a later version.

use ipnet::IpNet;

use super::{Config, Forward, HuaweiNextHop, Mode, NetworkSpec, ProviderName, Seconds};
use crate::{
    error::{Error, Kind},
    networks::Networks,
    ruleset::Protocol,
};

/// Sshd's port. Whoever comes in by it must not end up elsewhere.
const SSH: u16 = 22;

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, with dots: `nat.sources`.
    pub key: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl From<Problem> for Error {
    fn from(Problem { key, why }: Problem) -> Self {
        Self::new(Kind::Invalid, "use the configuration", format!("{key}: {why}"))
    }
}

impl Config {
    /// All that is wrong with it, whichever cloud it is for. Nothing is touched until this is empty.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse =
            |key: &str, why: String| problems.push(Problem { key: key.to_owned(), why });

        let alone = self.provider.as_ref().is_some_and(ProviderName::is_none);
        self.check_nat(alone, &mut refuse);
        for (index, group) in self.routes.0.iter().enumerate() {
            let key = |name: &str| match self.routes.0.len() {
                1 => format!("routes.{name}"),
                _ => format!("routes.{index}.{name}"),
            };
            if alone && !group.tables.0.is_empty() {
                refuse(&key("tables"), "needs a cloud, and provider is \"none\"".to_owned());
            }
            if group.destinations.is_empty() {
                refuse(
                    &key("destinations"),
                    "is empty; the usual value is [\"0.0.0.0/0\"]".to_owned(),
                );
            }
            for destination in &group.destinations {
                if destination.addr() != destination.network() {
                    refuse(
                        &key("destinations"),
                        format!(
                            "{destination} has bits set behind its prefix; the network is {}",
                            destination.trunc()
                        ),
                    );
                }
                if destination.network().is_ipv6() && !self.nat.has_ipv6_sources() {
                    refuse(
                        &key("destinations"),
                        format!(
                            "{destination} is IPv6, and nat.sources has no IPv6 block: nothing that comes this way would be translated"
                        ),
                    );
                }
            }
        }
        for target in &self.verify.targets {
            let well_formed = target.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0)
            });
            if !well_formed {
                refuse("verify.targets", format!("{target:?} is not HOST:PORT"));
            }
        }
        for (key, interval, usual) in [
            ("verify.interval", self.verify.interval, "30s"),
            ("service.interval", self.service.interval, "30s"),
            ("service.audit", self.service.audit, "10m"),
            ("plugin.timeout", self.plugin.timeout, "10s"),
        ] {
            if interval.is_zero() {
                refuse(key, format!("is 0; the usual value is {usual:?}"));
            }
        }
        self.check_cloud(&mut refuse);
        for (timeout, Seconds(time)) in &self.conntrack.timeouts {
            if time.is_zero() || time.subsec_nanos() != 0 || i32::try_from(time.as_secs()).is_err()
            {
                refuse(
                    "conntrack.timeouts",
                    format!(
                        "{timeout:?} is {time:?}; whole seconds from 1 are needed, such as \"24h\""
                    ),
                );
            }
        }
        problems
    }

    fn check_cloud(&self, refuse: &mut impl FnMut(&str, String)) {
        let huawei = &self.huawei;
        if huawei.access_key.is_some() != huawei.secret_key.is_some() {
            refuse(
                "huawei.access_key",
                "goes with huawei.secret_key: give both, or neither".to_owned(),
            );
        }
        if (huawei.next_hop == HuaweiNextHop::Vip) != huawei.virtual_address.is_some() {
            refuse(
                "huawei.virtual_address",
                "goes with huawei.next_hop = \"vip\": give both, or neither".to_owned(),
            );
        }
        let names_program = self.plugin.command.first().is_some_and(|program| !program.is_empty());
        let is_plugin = self.provider.as_ref().is_some_and(|name| name.as_str() == "plugin");
        if is_plugin && !names_program {
            refuse(
                "plugin.command",
                "is empty, and provider is \"plugin\"; write the program that speaks for the cloud and its arguments".to_owned(),
            );
        }
    }

    fn check_nat(&self, alone: bool, refuse: &mut impl FnMut(&str, String)) {
        let nat = &self.nat;
        if nat.sources.is_empty() {
            refuse(
                "nat.sources",
                "is empty: nobody's packets would be translated; write [\"vpc\"] or CIDRs"
                    .to_owned(),
            );
        }
        if alone && nat.sources.contains(&NetworkSpec::Vpc) {
            refuse(
                "nat.sources",
                "has \"vpc\", and with provider = \"none\" there is no cloud to ask; write CIDRs"
                    .to_owned(),
            );
        }
        if nat.mode == Mode::Snat && nat.has_ipv6_sources() {
            refuse(
                "nat.sources",
                "has IPv6 blocks, which are translated with mode = \"masquerade\" only".to_owned(),
            );
        }
        let excluded: Networks = nets(&nat.exclude).collect();
        for (all, family) in [
            (excluded.is_all_v4(), "IPv4"),
            (excluded.is_all_v6() && nat.has_ipv6_sources(), "IPv6"),
        ] {
            if all {
                refuse(
                    "nat.exclude",
                    format!("covers every {family} destination: nothing would be translated"),
                );
            }
        }
        if nat.mode == Mode::Masquerade && !nat.addresses.is_empty() {
            refuse(
                "nat.addresses",
                "goes with mode = \"snat\"; masquerading takes the interface's own address"
                    .to_owned(),
            );
        }
        self.check_forwards(refuse);
    }

    fn check_forwards(&self, refuse: &mut impl FnMut(&str, String)) {
        for (index, forward) in self.nat.forward.iter().enumerate() {
            let mut refuse = |key: &str, why| refuse(&format!("nat.forward.{index}.{key}"), why);
            let Forward { protocol, port, to, from } = forward;
            let others = self.nat.forward.iter().take(index);
            for other in others.filter(|other| other.protocol == *protocol) {
                if other.port.overlaps(*port) {
                    refuse(
                        "port",
                        format!("{protocol} {port} is forwarded already, as {}", other.port),
                    );
                }
            }
            let own = self.service.listen;
            if *protocol == Protocol::Tcp && port.contains(SSH) {
                refuse(
                    "port",
                    format!(
                        "{port} has {SSH}, sshd's port: you could not log in to this machine any more; choose another"
                    ),
                );
            }
            if *protocol == Protocol::Tcp && port.contains(own.port()) {
                refuse(
                    "port",
                    format!(
                        "{port} has {}, where natd itself listens (service.listen)",
                        own.port()
                    ),
                );
            }
            if to.port.is_some_and(|first| port.moved_to(first).is_none()) {
                refuse("to", "has not as many ports from there on as there are outside".to_owned());
            }
            if from.iter().any(|net| matches!(net, IpNet::V6(_))) {
                refuse("from", "has IPv6 blocks; ports are forwarded for IPv4 only".to_owned());
            }
        }
    }
}

/// The blocks that are written out.
fn nets(specs: &[NetworkSpec]) -> impl Iterator<Item = IpNet> {
    specs.iter().filter_map(|spec| match spec {
        NetworkSpec::Net(net) => Some(*net),
        NetworkSpec::Vpc => None,
    })
}

impl super::Nat {
    /// Whether IPv6 is to be translated. `"vpc"` means a network's IPv4 blocks: its IPv6 addresses
    /// are public, and nobody has to translate them.
    #[must_use]
    pub fn has_ipv6_sources(&self) -> bool {
        nets(&self.sources).any(|net| matches!(net, IpNet::V6(_)))
    }
}
