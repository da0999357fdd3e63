//! The lab's `OpenStack` lets packets through only if every piece of a NAT gateway is there, and tells its instances who
//! they are.
//!
//! The reference is a NAT set up by hand, without natd. Each piece is taken away and put back: so it was that piece.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{assert_served, assert_unserved};
use natd_tests::lab::Lab;
use natd_tests::lab::host::{Host, PATIENCE};
use natd_tests::lab::http::{Request, send};
use natd_tests::lab::openstack::api::text;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::{METADATA, NAT_PUBLIC};
use serde_json::{Value, json};

const RULE: &str = "table ip byhand {
 chain post {
  type nat hook postrouting priority srcnat;
  oifname eth0 ip saddr 10.0.0.0/8 masquerade
 }
}
";

/// Everything but what the cloud's lab has from the start.
fn nat_by_hand(lab: &Lab) -> Result<()> {
    lab.nat().namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")])?;
    lab.nat().namespace.nft(RULE)?;
    let target = lab.cloud().target();
    lab.set_check(target, false)?;
    for table in lab.ids.private_tables() {
        lab.point_route(table, DEFAULT, target)?;
    }
    Ok(())
}

/// Sees everybody served, nobody served without the piece, and everybody served with it again.
#[track_caller]
fn is_needed(
    lab: &Lab,
    take_away: impl FnOnce() -> Result<()>,
    put_back: impl FnOnce() -> Result<()>,
) -> Result<()> {
    assert_served(lab);
    take_away()?;
    lab.sync()?;
    assert_unserved(lab);
    put_back()?;
    lab.sync()?;
    assert_served(lab);
    Ok(())
}

#[test]
fn every_piece_is_needed_with_two_ports() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let (nat, ids, api) = (lab.nat(), &lab.ids, lab.administrator());
    assert_unserved(&lab);
    nat_by_hand(&lab)?;
    assert_served(&lab);
    assert_eq!(lab.untranslated()?, 0);

    let forwarding = |value| nat.namespace.set_sysctls(&[("net.ipv4.ip_forward", value)]);
    is_needed(&lab, || forwarding("0"), || forwarding("1"))?;
    is_needed(&lab, || nat.namespace.nft("delete table ip byhand"), || nat.namespace.nft(RULE))?;

    let inside = ids.interface("nat/eth1");
    is_needed(&lab, || lab.set_check(inside, true), || lab.set_check(inside, false))?;
    // A pair for half of the addresses doesn't help the other half; where port security is off, nothing is checked.
    let half = json!({ "allowed_address_pairs": [{ "ip_address": "0.0.0.0/1" }] });
    let off = json!({
        "port_security_enabled": false, "security_groups": [], "allowed_address_pairs": []
    });
    is_needed(&lab, || lab.change_port(inside, &half), || lab.change_port(inside, &off))?;

    let route = |table: &str, wanted: bool| -> Result<()> {
        let table = ids.table(table);
        if wanted {
            lab.point_route(table, DEFAULT, inside)
        } else {
            lab.remove_route(table, DEFAULT)
        }
    };
    let routes = |wanted| route("private-a", wanted).and_then(|()| route("private-b", wanted));
    is_needed(&lab, || routes(false), || routes(true))?;
    // Each router stands alone.
    route("private-a", false)?;
    ensure!(lab.client("client-a").reach().is_none());
    ensure!(lab.client("client-b").reach().is_all(NAT_PUBLIC));
    lab.point_route(ids.table("private-a"), DEFAULT, &ids.elsewhere)?;
    ensure!(lab.client("client-a").reach().is_none());
    route("private-a", true)?;

    let floating = api.list("floatingips")?;
    let floating = format!("/v2.0/floatingips/{}", text(floating.first().context("one")?, "id")?);
    let stand_for =
        |port: Value| api.put(&floating, &json!({ "floatingip": { "port_id": port } })).map(drop);
    let outside = json!(ids.interface("nat/eth0"));
    is_needed(&lab, || stand_for(Value::Null), || stand_for(outside))?;

    // The port inside has no groups any more; what keeps packets in is that outside.
    let out = json!(ids.interface("nat/eth0"));
    let groups = |groups: Value| {
        lab.change_port(out.as_str().unwrap_or_default(), &json!({ "security_groups": groups }))
    };
    is_needed(&lab, || groups(json!([])), || groups(json!([ids.group("nat")])))
}

/// One port is enough where hosts send to it by themselves.
#[test]
fn every_piece_is_needed_with_host_routes() -> Result<()> {
    let lab = Lab::openstack().host_routes().build()?;
    let (ids, table) = (&lab.ids, lab.ids.table("private-a"));
    assert_unserved(&lab);
    nat_by_hand(&lab)?;
    assert_served(&lab);
    let port = ids.interface("nat/eth0");
    is_needed(&lab, || lab.set_check(port, true), || lab.set_check(port, false))?;
    is_needed(&lab, || lab.remove_route(table, DEFAULT), || lab.point_route(table, DEFAULT, port))?;
    // What DHCP tells the clients it tells the NAT instance, too, if that has no option of its own.
    let options = |value: Value| {
        json!({ "extra_dhcp_opts": [{
            "opt_name": "classless-static-route", "opt_value": value, "ip_version": 4
        }]})
    };
    is_needed(
        &lab,
        || lab.change_port(port, &options(Value::Null)),
        || lab.change_port(port, &options(json!("0.0.0.0/0,10.10.2.1"))),
    )
}

fn get(host: &Host, target: &str) -> Result<String> {
    let address = (METADATA, 80).into();
    let request =
        Request { method: "GET".to_owned(), target: target.to_owned(), ..Request::default() };
    let response = send(host.namespace.connect(address, PATIENCE)?, address, &request, PATIENCE)?;
    ensure!(response.status == 200, "{target}: {}", response.status);
    Ok(String::from_utf8(response.body)?)
}

#[test]
fn everybody_hears_of_itself_and_a_restarted_neutron_knows_what_it_knew() -> Result<()> {
    let lab = Lab::openstack().build()?;
    for (host, ports) in [(&**lab.nat(), 2), (lab.client("client-b"), 1)] {
        let data: Value = serde_json::from_str(&get(host, "/openstack/latest/meta_data.json")?)?;
        assert_eq!(data["uuid"], lab.ids.instance(&host.name));
        let data: Value = serde_json::from_str(&get(host, "/openstack/latest/network_data.json")?)?;
        assert_eq!(data["links"].as_array().map(Vec::len), Some(ports));
        assert_eq!(data["links"][0]["vif_id"], lab.ids.interface(&format!("{}/eth0", host.name)));
        assert_eq!(data["networks"][0]["link"], data["links"][0]["id"]);
        let mac = host.exec(["cat", "/sys/class/net/eth0/address"])?;
        assert_eq!(data["links"][0]["ethernet_mac_address"], mac.trim());
        let address: Ipv4Addr = get(host, "/latest/meta-data/local-ipv4")?.parse()?;
        assert_eq!(address, host.address);
    }
    assert_eq!(get(lab.nat(), "/latest/meta-data/public-ipv4")?, NAT_PUBLIC.to_string());
    let before = lab.cloud().picture()?;
    lab.interrupt_api()?;
    lab.resume_api()?;
    assert_eq!(lab.cloud().picture()?, before);
    Ok(())
}
