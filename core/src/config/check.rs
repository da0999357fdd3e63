//! What a type alone can't refuse: values that don't go together, and keys of a later version.

use super::{Config, HuaweiNextHop, Mode, NetworkSpec, ProviderName, Seconds};

impl Config {
    /// All that is wrong with it, as `(key, what and what to do)`. Nothing is touched until this
    /// is empty.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, why: String| problems.push((key.to_owned(), why));

        if self.provider.is_none() {
            refuse(
                "provider",
                "is not set; write provider = \"aws\" (or huawei, openstack, plugin; or none, for this host alone) or give --provider".to_owned(),
            );
        }
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
                if destination.network().is_ipv6() {
                    refuse(
                        &key("destinations"),
                        format!(
                            "{destination} is IPv6, which this version of natd does not translate"
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
        for (key, specs) in [("nat.sources", &nat.sources), ("nat.exclude", &nat.exclude)] {
            for spec in specs {
                if matches!(spec, NetworkSpec::Net(net) if net.network().is_ipv6()) {
                    refuse(
                        key,
                        format!("{spec} is IPv6, which this version of natd does not translate"),
                    );
                }
            }
        }
        match (nat.mode, nat.addresses.len()) {
            (Mode::Masquerade, 1..) => refuse(
                "nat.addresses",
                "goes with mode = \"snat\"; masquerading takes the interface's own address"
                    .to_owned(),
            ),
            (Mode::Snat, 2..) => refuse(
                "nat.addresses",
                "has several addresses; this version of natd translates to one".to_owned(),
            ),
            _ => {}
        }
        if !nat.forward.is_empty() {
            refuse("nat.forward", "port forwarding is not in this version of natd".to_owned());
        }
    }
}
