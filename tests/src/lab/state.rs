//! All that natd may change, as one value that can be compared.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Lab;

/// The state of cloud and NAT instance, as text by what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(BTreeMap<String, String>);

impl State {
    /// The state as it is now.
    pub fn of(lab: &Lab) -> Result<Self> {
        let mut state = lab.cloud().state()?;
        let nat = lab.nat();
        let keys = "net.ipv[46].(ip_forward|conf.*(forwarding|rp_filter|_redirects|accept_ra))";
        let sysctls = nat.sh(&format!("sysctl -a 2>/dev/null | grep -E '{keys} ='"))?;
        state.insert("sysctls".to_owned(), sysctls);
        let nftables = nat.exec(["nft", "-s", "list", "ruleset"])?;
        state.insert("firewall rules".to_owned(), nftables);
        // The rest of what iptables-save says are counts, the time, and empty tables.
        let legacy = nat.sh("iptables-legacy-save | grep -E '^(-A|:[^ ]+ -)' || true")?;
        state.insert("legacy firewall rules".to_owned(), legacy);
        Ok(Self(state))
    }

    /// What is not as it was before, for people.
    pub fn differences(&self, before: &Self) -> String {
        let differs = |(name, now): (&String, &String)| {
            let was = before.0.get(name).filter(|was| *was != now)?;
            Some(format!("{name} before:\n{was}\n{name} now:\n{now}\n"))
        };
        self.0.iter().filter_map(differs).collect()
    }
}
