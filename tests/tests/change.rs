//! The daemon hears of a host that changes, and follows at once: its next tick is an hour away.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use natd_tests::expect::{HEALING, assert_served, assert_unserved, full_ticks, reaches};
use natd_tests::lab::Lab;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::name::LabName;
use natd_tests::lab::namespace::Namespace;
use natd_tests::lab::topology::{NAT_PUBLIC, NETWORKS};
use natd_tests::wait::until;

/// The public address of the NAT instance's second interface.
const SECOND_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 10, 4, 10);
const RARELY: &str =
    "[service]\ninterval = \"1h\"\n[verify]\ninterval = \"1h\"\ntargets = [\"198.51.100.10:80\"]\n";

/// A daemon that serves, and has nothing to do for an hour.
fn settled_daemon(lab: &Lab) -> Result<Daemon> {
    lab.nat().write("etc/natd/conf.d/10-test.toml", RARELY)?;
    let daemon = lab.nat().daemon::<&str>([])?;
    daemon.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
    // What it has changed itself it has heard of and looked at by then.
    until("a second look at everything", || full_ticks(lab) >= Some(2));
    lab.sync()?;
    assert_served(lab);
    Ok(daemon)
}

/// Waits until all clients get out as that address.
#[track_caller]
fn served_as(lab: &Lab, public: Ipv4Addr) {
    until("all clients get through", || {
        lab.sync().is_ok() && reaches(lab).iter().all(|(_, reach)| reach.is_all(public))
    });
}

/// No client gets anything through, now that this has happened; the daemon is held still meanwhile, so that it is
/// known to have something to follow.
fn cuts_off(lab: &Lab, daemon: &Daemon, change: impl FnOnce() -> Result<()>) -> Result<()> {
    daemon.freeze()?;
    change()?;
    assert_unserved(lab);
    daemon.thaw()
}

/// The second interface has a way out of its own.
fn two_ways_out() -> Result<Lab> {
    let lab = Lab::aws().two_interfaces().build()?;
    lab.further_public_address(SECOND_PUBLIC, "nat/eth1", SECOND)?;
    let gateway = [
        ("RouteTableId", lab.ids.table("nat-inside")),
        ("DestinationCidrBlock", "0.0.0.0/0"),
        ("GatewayId", lab.ids.elsewhere.as_str()),
    ];
    lab.owner("CreateRoute", &gateway)?;
    // Everything goes the default way, the answers to clients too.
    for block in NETWORKS {
        lab.nat().namespace.ip(&format!("route del {block} dev eth1"))?;
    }
    Ok(lab)
}

#[test]
fn a_default_route_that_moves_to_another_interface() -> Result<()> {
    let lab = two_ways_out()?;
    let daemon = settled_daemon(&lab)?;
    cuts_off(&lab, &daemon, || {
        lab.nat().namespace.ip("route replace default via 10.10.4.1 dev eth1")
    })?;
    served_as(&lab, SECOND_PUBLIC);

    cuts_off(&lab, &daemon, || {
        lab.nat().namespace.ip("route replace default via 10.10.1.1 dev eth0")
    })?;
    served_as(&lab, NAT_PUBLIC);
    Ok(())
}

#[test]
fn a_new_interface_that_becomes_the_way_out() -> Result<()> {
    let lab = two_ways_out()?;
    let nat = &lab.nat().namespace;
    let shelf = Namespace::create(LabName::unique()?.namespace("shelf"))?;
    nat.ip(&format!("link set eth1 netns {}", shelf.name()))?;
    let daemon = settled_daemon(&lab)?;
    cuts_off(&lab, &daemon, || {
        shelf.ip(&format!("link set eth1 netns {}", nat.name()))?;
        nat.ip(&format!(
            "link set eth1 up\naddr add {SECOND}/24 dev eth1\n\
             route replace default via 10.10.4.1 dev eth1"
        ))
    })?;
    served_as(&lab, SECOND_PUBLIC);
    shelf.delete();
    Ok(())
}

#[test]
fn an_interface_that_is_renamed() -> Result<()> {
    let lab = Lab::aws().build()?;
    let daemon = settled_daemon(&lab)?;
    cuts_off(&lab, &daemon, || {
        lab.nat().namespace.ip(
            "link set eth0 down\nlink set eth0 name wan0\nlink set wan0 up\nroute add default via 10.10.1.1 dev wan0",
        )
    })?;
    served_as(&lab, NAT_PUBLIC);
    let rules = lab.nat().sh("nft list table inet natd")?;
    assert!(rules.contains("wan0") && !rules.contains("eth0"), "{rules}");
    Ok(())
}

#[test]
fn a_new_primary_address() -> Result<()> {
    let other = Ipv4Addr::new(10, 10, 1, 11);
    let lab = Lab::aws().secondary_address(other).build()?;
    let daemon = settled_daemon(&lab)?;
    cuts_off(&lab, &daemon, || {
        lab.nat().namespace.ip(&format!(
            "addr del 10.10.1.10/24 dev eth0\naddr add {other}/24 dev eth0\nroute replace default via 10.10.1.1 dev eth0"
        ))?;
        lab.associate_public_address(other)
    })?;
    served_as(&lab, NAT_PUBLIC);
    Ok(())
}

#[test]
fn a_link_that_goes_down_and_comes_up() -> Result<()> {
    let lab = Lab::aws().build()?;
    let daemon = settled_daemon(&lab)?;
    let mark = daemon.mark();
    lab.nat().namespace.ip("link set eth0 down")?;
    let lost = daemon.wait_for_after(mark, HEALING, |line| line.contains("ERROR"))?;
    assert!(lost.contains("default route"), "{lost}");
    let (code, _) = lab.nat().health("/readyz").context("the daemon answers")?;
    assert_eq!(code, 503);

    let mark = daemon.mark();
    lab.nat().namespace.ip("link set eth0 up\nroute add default via 10.10.1.1 dev eth0")?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("INFO NAT works"))?;
    served_as(&lab, NAT_PUBLIC);
    Ok(())
}
