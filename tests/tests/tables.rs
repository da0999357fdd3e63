//! natd serves the route tables that it was told to serve, by id, tag or subnet, and no other.

use anyhow::{Context, Result};
use natd_tests::expect::{assert_served, assert_unserved, natd};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::on_every_back_end;

on_every_back_end!(
    tables_with_a_tag_are_served,
    tables_of_subnets_are_served,
    groups_of_routes_have_their_own_destinations,
    an_instance_with_two_interfaces_takes_in_by_one_and_sends_out_by_the_other,
);

fn configure(lab: &Lab, toml: &str) -> Result<()> {
    lab.nat().write("etc/natd/conf.d/10-test.toml", toml)
}

fn tables_with_a_tag_are_served(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (tagged, other) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    lab.tag(tagged, "natd", "managed")?;
    lab.tag(other, "natd", "unmanaged")?;
    configure(&lab, "[routes]\ntables = { tag = \"natd=managed\" }\n")?;
    natd(&lab, 0, &["apply"])?;
    assert!(lab.client("client-a").reach().is_all(NAT_PUBLIC));
    assert!(lab.client("client-b").reach().is_none());
    assert_eq!(lab.route(other, DEFAULT)?, None);

    // A table that gets the tag later is one of them from then on; one that loses it is given back.
    lab.tag(other, "natd", "managed")?;
    lab.tag(tagged, "natd", "unmanaged")?;
    natd(&lab, 0, &["apply"])?;
    assert!(lab.client("client-a").reach().is_none());
    assert!(lab.client("client-b").reach().is_all(NAT_PUBLIC));
    Ok(())
}

fn tables_of_subnets_are_served(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let ids = &lab.ids;
    // Without an association of its own, private-b is served by the network's main table.
    let (subnet, main) = (ids.subnet("private-b"), ids.table("main"));
    let associations =
        lab.api().call("DescribeRouteTables", &[("RouteTableId.1", ids.table("private-b"))])?;
    let association = associations.find("routeTableAssociationId").context("no association")?;
    lab.owner("DisassociateRouteTable", &[("AssociationId", &association.text)])?;
    configure(
        &lab,
        &format!(
            "[routes]\ntables = {{ subnets = [{:?}, {subnet:?}] }}\n",
            ids.subnet("private-a")
        ),
    )?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let ours = Some(ids.interface("nat/eth0"));
    assert_eq!(lab.route(main, DEFAULT)?.as_deref(), ours);
    assert_eq!(lab.route(ids.table("private-a"), DEFAULT)?.as_deref(), ours);
    assert_eq!(lab.route(ids.table("private-b"), DEFAULT)?, None);
    natd(&lab, 0, &["down"])?;
    assert_eq!(lab.route(main, DEFAULT)?, None);
    Ok(())
}

fn groups_of_routes_have_their_own_destinations(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (a, b) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    configure(
        &lab,
        &format!(
            "[[routes]]\ntables = [{a:?}]\ndestinations = [\"198.51.100.0/24\", \"192.0.0.0/24\"]\n\n\
             [[routes]]\ntables = [{b:?}]\n"
        ),
    )?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let ours = Some(lab.ids.interface("nat/eth0"));
    for (table, destination, expected) in [
        (a, "198.51.100.0/24", ours),
        (a, "192.0.0.0/24", ours),
        (a, DEFAULT, None),
        (b, DEFAULT, ours),
        (b, "198.51.100.0/24", None),
    ] {
        assert_eq!(lab.route(table, destination)?.as_deref(), expected, "{destination} in {table}");
    }
    natd(&lab, 0, &["down"])?;
    assert_unserved(&lab);
    Ok(())
}

fn an_instance_with_two_interfaces_takes_in_by_one_and_sends_out_by_the_other(
    back_end: BackEnd,
) -> Result<()> {
    let lab = Lab::aws().two_interfaces().back_end(back_end).build()?;
    configure(&lab, "[routes]\ninterface = \"eth1\"\n")?;
    let foreign = |lab: &Lab| -> Result<Vec<bool>> {
        ["client-a/eth0", "client-b/eth0"]
            .map(|of| lab.checks(lab.ids.interface(of)))
            .into_iter()
            .collect()
    };
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let (outside, inside) = (lab.ids.interface("nat/eth0"), lab.ids.interface("nat/eth1"));
    for table in lab.ids.private_tables() {
        assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(inside));
    }
    assert!(!lab.checks(outside)? && !lab.checks(inside)?);
    assert_eq!(foreign(&lab)?, [true, true]);
    natd(&lab, 0, &["down"])?;
    assert!(lab.checks(outside)? && lab.checks(inside)?);
    assert_unserved(&lab);
    Ok(())
}

/// With one interface serving, the other keeps its check.
#[test]
fn an_interface_that_serves_nobody_keeps_its_check() -> Result<()> {
    let lab = Lab::aws().two_interfaces().build()?;
    // The instance answers where it was asked.
    lab.nat().namespace.ip("route del 10.10.0.0/16\nroute del 10.20.0.0/16")?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    assert!(!lab.checks(lab.ids.interface("nat/eth0"))?);
    assert!(lab.checks(lab.ids.interface("nat/eth1"))?);
    assert_eq!(lab.nat().namespace.sysctl("net.ipv4.conf.eth1.forwarding")?, "0");
    Ok(())
}
