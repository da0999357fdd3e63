//! natd behind a Linux router, by the plugin that it comes with: what the lab itself promises of such a network, and what
//! becomes of natd when its plugin dies or hangs.

use anyhow::Result;
use natd_tests::expect::{assert_served, assert_unserved};
use natd_tests::lab::Lab;
use natd_tests::lab::owner::DEFAULT;

/// By hand, without natd: so it was each of the pieces.
#[test]
fn the_routers_tables_lead_the_packets() -> Result<()> {
    let lab = Lab::plugin().clients(3).build()?;
    assert_unserved(&lab);
    let nat = lab.nat();
    nat.namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")])?;
    nat.namespace.nft(
        "table ip byhand {\n chain post {\n type nat hook postrouting priority srcnat;\n oifname eth0 masquerade\n }\n}\n",
    )?;
    assert_unserved(&lab);
    assert_eq!(lab.untranslated()?, 0);
    for table in lab.ids.private_tables() {
        lab.point_route(table, DEFAULT, lab.ids.interface("nat/eth0"))?;
    }
    assert_served(&lab);
    assert_eq!(
        lab.route(lab.ids.table("private-a"), DEFAULT)?.as_deref(),
        Some(lab.ids.interface("nat/eth0"))
    );
    // Neighbours are reached past the NAT.
    lab.client("client-a").exec(["ping", "-c1", "-W1", "10.20.3.101"])?;
    for table in lab.ids.private_tables() {
        lab.remove_route(table, DEFAULT)?;
    }
    assert_unserved(&lab);
    Ok(())
}
