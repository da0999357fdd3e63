//! The source/destination check as Huawei has it: a port's `allowed_address_pairs`, merged, never replaced.
//!
//! The pair `1.1.1.1/0` switches the check off
//! (<https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_port01_0006.html>).

use ipnet::{IpNet, Ipv4Net};
use natd_core::{cloud::CheckSettings, model::MacAddress};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The block that natd adds. `0.0.0.0/0` is forbidden.
const EVERYTHING: &str = "1.1.1.1/0";

/// A pair: packets of these addresses pass. What else the cloud says of it is carried through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    ip_address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac_address: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Pair {
    fn ours() -> Self {
        Self { ip_address: EVERYTHING.to_owned(), mac_address: None, rest: Map::new() }
    }

    /// Whether it is for packets that the port itself sends. The cloud may write the port's own
    /// Ethernet address where none was given.
    fn is_of(&self, mac: MacAddress) -> bool {
        match self.mac_address.as_deref() {
            None | Some("") => true,
            Some(written) => written.parse() == Ok(mac),
        }
    }

    fn is_ours(&self, mac: MacAddress) -> bool {
        self.ip_address == EVERYTHING && self.is_of(mac)
    }

    fn block(&self) -> Option<Ipv4Net> {
        let block = self
            .ip_address
            .parse::<IpNet>()
            .ok()
            .or_else(|| self.ip_address.parse::<std::net::IpAddr>().ok().map(IpNet::from))?;
        match block {
            IpNet::V4(block) => Some(block.trunc()),
            IpNet::V6(_) => None,
        }
    }
}

/// Whether packets of all addresses pass, by whosever pairs.
pub(super) fn cover_everything(pairs: &[Pair], mac: MacAddress) -> bool {
    let blocks: Vec<_> =
        pairs.iter().filter(|pair| pair.is_of(mac)).filter_map(Pair::block).collect();
    Ipv4Net::aggregate(&blocks).contains(&Ipv4Net::default())
}

/// The pairs with natd's own among them.
pub(super) fn with_ours(pairs: &[Pair], mac: MacAddress) -> Vec<Pair> {
    let mut pairs = pairs.to_vec();
    if !pairs.iter().any(|pair| pair.is_ours(mac)) {
        pairs.push(Pair::ours());
    }
    pairs
}

/// The pairs without natd's own. One like it that was there `earlier` is somebody's: it stays.
pub(super) fn without_ours(
    pairs: &[Pair],
    mac: MacAddress,
    earlier: Option<&CheckSettings>,
) -> Vec<Pair> {
    let had_it = earlier
        .and_then(|CheckSettings(value)| serde_json::from_value::<Vec<Pair>>(value.clone()).ok())
        .is_some_and(|earlier| earlier.iter().any(|pair| pair.is_ours(mac)));
    pairs.iter().filter(|pair| had_it || !pair.is_ours(mac)).cloned().collect()
}

/// What the journal keeps of them.
pub(super) fn settings(pairs: &[Pair]) -> Option<CheckSettings> {
    serde_json::to_value(pairs).ok().map(CheckSettings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]);

    fn pair(ip: &str, mac: Option<&str>) -> Pair {
        Pair { ip_address: ip.to_owned(), mac_address: mac.map(str::to_owned), rest: Map::new() }
    }

    #[test]
    fn ours_is_added_once_and_removed_exactly() {
        let others = [pair("10.0.0.9", None), pair("1.1.1.1/0", Some("fa:16:3e:00:00:99"))];
        let off = with_ours(&others, MAC);
        assert_eq!(off.len(), 3);
        assert_eq!(with_ours(&off, MAC), off);
        assert_eq!(without_ours(&off, MAC, settings(&others).as_ref()), others);
        let filled_in = [pair("1.1.1.1/0", Some("FA:16:3E:00:00:01"))];
        assert_eq!(with_ours(&filled_in, MAC), filled_in);
        assert_eq!(without_ours(&filled_in, MAC, None), []);
    }

    #[test]
    fn a_pair_that_was_there_before_stays() {
        let theirs = [pair("1.1.1.1/0", None)];
        assert_eq!(without_ours(&theirs, MAC, settings(&theirs).as_ref()), theirs);
    }

    #[test]
    fn whoever_covers_everything_switches_the_check_off() {
        for (pairs, off) in [
            (vec![pair("1.1.1.1/0", None)], true),
            (vec![pair("0.0.0.0/0", Some("fa:16:3e:00:00:01"))], true),
            (vec![pair("0.0.0.0/1", None), pair("128.0.0.0/1", None)], true),
            (vec![pair("1.1.1.1/0", Some("fa:16:3e:00:00:99"))], false),
            (vec![pair("0.0.0.0/1", None), pair("nonsense", None)], false),
            (vec![pair("::/0", None), pair("10.0.0.9", None)], false),
            (vec![], false),
        ] {
            assert_eq!(cover_everything(&pairs, MAC), off, "{pairs:?}");
        }
    }

    #[test]
    fn what_natd_does_not_know_of_a_pair_is_carried_through() {
        let value = serde_json::json!([{"ip_address": "10.0.0.9", "new": {"a": 1}}]);
        let pairs: Vec<Pair> = serde_json::from_value(value.clone()).expect("pairs");
        assert_eq!(serde_json::to_value(&pairs).expect("JSON"), value);
    }
}
