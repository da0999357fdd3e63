//! The internet gateway: every public address stands for one private address, packet by packet, without any state.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::super::namespace::Namespace;
use super::super::topology::PUBLIC_ADDRESSES;

/// The gateway's ruleset, which replaces itself in one transaction. What comes in for nobody is dropped.
///
/// The addresses inside ICMP errors stay as they are: nft can't rewrite them without state.
pub fn render(public: &BTreeMap<Ipv4Addr, Ipv4Addr>) -> String {
    let (mut inward, mut outward) = (String::new(), String::new());
    for (public, private) in public {
        // Writing to a string can't fail.
        let _ok = writeln!(
            inward,
            "    iifname \"internet\" ip daddr {public} ip daddr set {private} accept"
        );
        let _ok = writeln!(
            outward,
            "    oifname \"internet\" ip saddr {private} ip saddr set {public} accept"
        );
    }
    format!(
        "table ip gateway
delete table ip gateway
table ip gateway {{
  chain inward {{
    type filter hook prerouting priority raw; policy accept;
{inward}    iifname \"internet\" drop
  }}
  chain outward {{
    type filter hook postrouting priority raw; policy accept;
{outward}  }}
}}
"
    )
}

/// Drops, and counts, what would leave with an address that isn't public. It stands behind the translation.
pub fn install_guard(router: &Namespace) -> Result<()> {
    router.nft(&format!(
        "table ip guard {{
  counter untranslated {{
  }}
  chain outward {{
    type filter hook postrouting priority filter; policy accept;
    oifname \"internet\" ip saddr != {PUBLIC_ADDRESSES} counter name untranslated drop
  }}
}}
"
    ))
}

/// How many packets wanted to leave for the internet with an address that isn't public.
pub fn untranslated(router: &Namespace) -> Result<u64> {
    let text = router.exec(["nft", "list", "counter", "ip", "guard", "untranslated"])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).context("no packets in nft's counter")?.parse().context("nft's counter")
}
