//! What the lab itself promises of Huawei Cloud, by hand and without natd: so it was each of the pieces.

use anyhow::{Context, Result};
use natd_tests::expect::{assert_served, assert_unserved};
use natd_tests::lab::Lab;
use natd_tests::lab::huawei::metadata::Version;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::{INTERNET_HOST, NAT_PUBLIC};
use serde_json::{Value, json};

/// Makes the instance forward and translate.
fn translate_by_hand(lab: &Lab) -> Result<()> {
    lab.nat().namespace.set_sysctls(&[
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.eth0.send_redirects", "0"),
    ])?;
    lab.nat().namespace.nft(
        "table ip byhand {\n chain post {\n type nat hook postrouting priority srcnat;\n oifname eth0 masquerade\n }\n}\n",
    )
}

fn point_private_routes(lab: &Lab) -> Result<()> {
    for table in lab.ids.private_tables() {
        lab.point_route(table, DEFAULT, lab.ids.interface("nat/eth0"))?;
    }
    Ok(())
}

#[test]
fn a_server_in_a_subnet_apart_serves_once_its_check_is_off() -> Result<()> {
    let lab = Lab::huawei().clients(3).build()?;
    assert_unserved(&lab);
    translate_by_hand(&lab)?;
    point_private_routes(&lab)?;
    assert_unserved(&lab);
    let (huawei, port) = (lab.as_huawei(), lab.ids.interface("nat/eth0"));
    // Pairs that let only some addresses pass don't switch it off.
    huawei.set_pairs(port, &json!([{ "ip_address": "198.18.0.0/15" }]))?;
    lab.sync()?;
    assert_unserved(&lab);
    assert!(lab.checks(port)?);
    lab.set_check(port, false)?;
    let expected = json!([{ "ip_address": "198.18.0.0/15" }, { "ip_address": "1.1.1.1/0" }]);
    assert_eq!(huawei.pairs(port)?, expected);
    assert!(!lab.checks(port)?);
    assert_served(&lab);
    lab.set_check(port, true)?;
    assert_unserved(&lab);
    Ok(())
}

/// The documented procedure: the public address outranks the table that leads to its server.
#[test]
fn a_server_serves_its_own_subnet_if_it_has_a_public_address() -> Result<()> {
    for public in [true, false] {
        let shape = Lab::huawei().nat_in_private_subnet().clients(3);
        let lab = if public { shape } else { shape.without_public_address() }.build()?;
        translate_by_hand(&lab)?;
        lab.set_check(lab.ids.interface("nat/eth0"), false)?;
        point_private_routes(&lab)?;
        if public {
            assert_served(&lab);
        } else {
            assert_unserved(&lab);
        }
    }
    Ok(())
}

#[test]
fn a_client_with_a_public_address_bypasses_the_nat() -> Result<()> {
    let lab = Lab::huawei().public_client("client-b").build()?;
    translate_by_hand(&lab)?;
    lab.set_check(lab.ids.interface("nat/eth0"), false)?;
    point_private_routes(&lab)?;
    assert_eq!(lab.client("client-a").tcp(), Ok(NAT_PUBLIC));
    assert_eq!(lab.client("client-b").tcp(), Ok("203.0.113.102".parse()?));
    Ok(())
}

/// A route by the port itself, and one by a virtual address that is bound to it.
#[test]
fn routes_lead_to_ports_and_to_virtual_addresses() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let (huawei, port) = (lab.as_huawei(), lab.ids.interface("nat/eth0"));
    translate_by_hand(&lab)?;
    lab.set_check(port, false)?;
    let virtual_port = json!({
        "device_owner": "neutron:VIP_PORT", "device_id": "", "network_id": lab.ids.subnet("public"),
        "fixed_ips": [{ "ip_address": "10.10.1.50" }],
        "allowed_address_pairs": [{ "ip_address": "10.10.1.10" }],
    });
    huawei.owner.change("PUT", "/resources/ports/vip", &virtual_port)?;
    for (table, kind, to) in [("private-a", "eni", port), ("private-b", "vip", "10.10.1.50")] {
        huawei.owner.put_route(lab.ids.table(table), kind, DEFAULT, to)?;
        lab.sync()?;
        assert_eq!(lab.route(lab.ids.table(table), DEFAULT)?.as_deref(), Some(port));
    }
    assert_served(&lab);
    Ok(())
}

fn ask(lab: &Lab, options: &[&str], path: &str) -> Result<(String, String)> {
    let url = format!("http://169.254.169.254{path}");
    let words = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}"];
    let said = lab.nat().exec(words.iter().chain(options).chain([&url.as_str()]).copied())?;
    let (body, code) = said.rsplit_once('\n').context("no status")?;
    Ok((code.to_owned(), body.to_owned()))
}

const TOKEN: &str = "/meta-data/latest/api/token";
const META_DATA: &str = "/openstack/latest/meta_data.json";
const SECURITY_KEY: &str = "/openstack/latest/securitykey";

#[test]
fn the_metadata_service_tells_an_instance_who_it_is() -> Result<()> {
    let lab = Lab::huawei().two_interfaces().build()?;
    let (huawei, nat) = (lab.as_huawei(), lab.ids.instance("nat"));
    let lifetime = ["-X", "PUT", "-H", "X-Metadata-Token-Ttl-Seconds: 21600"];
    assert_eq!(ask(&lab, &[], META_DATA)?.0, "401");
    assert_eq!(ask(&lab, &lifetime[..2], TOKEN)?.0, "400");
    let (code, token) = ask(&lab, &lifetime, TOKEN)?;
    assert_eq!(code, "200");
    let header = format!("X-Metadata-Token: {token}");
    let with_token = ["-H", header.as_str()];
    let json =
        |path| -> Result<Value> { Ok(serde_json::from_str(&ask(&lab, &with_token, path)?.1)?) };
    let meta_data = json(META_DATA)?;
    assert_eq!(
        (&meta_data["uuid"], &meta_data["meta"]["vpc_id"]),
        (&json!(nat), &json!(lab.ids.network))
    );
    let links = &json("/openstack/latest/network_data.json")?["links"];
    assert_eq!(links[0]["vif_id"], lab.ids.interface("nat/eth0"));
    assert_eq!(links[1]["vif_id"], lab.ids.interface("nat/eth1"));
    for (name, address) in [("local", "10.10.1.10".to_owned()), ("public", NAT_PUBLIC.to_string())]
    {
        let answer = ask(&lab, &with_token, &format!("/latest/meta-data/{name}-ipv4"))?;
        assert_eq!(answer, ("200".to_owned(), address));
    }

    let first = json(SECURITY_KEY)?;
    assert_eq!(json(SECURITY_KEY)?, first);
    huawei.rotate_keys()?;
    assert_ne!(json(SECURITY_KEY)?["credential"]["access"], first["credential"]["access"]);
    huawei.metadata.set_agency(false);
    let (code, said) = ask(&lab, &with_token, SECURITY_KEY)?;
    assert!(code == "401" && said.contains("Agency"), "{code} {said}");

    huawei.metadata.forget_tokens();
    assert_eq!(ask(&lab, &with_token, META_DATA)?.0, "401");
    huawei.metadata.set_version(Version::NoTokens { status: 405 });
    assert_eq!(ask(&lab, &lifetime, TOKEN)?.0, "405");
    assert_eq!(ask(&lab, &[], META_DATA)?.0, "200");
    Ok(())
}

/// Without a public address nothing reaches the internet, whatever the table says of it.
#[test]
fn there_is_no_way_out_without_a_public_address() -> Result<()> {
    let lab = Lab::huawei().without_public_address().build()?;
    let ping = format!("ping -c1 -W1 {INTERNET_HOST}");
    assert!(lab.nat().sh(&ping).is_err());
    let lab = Lab::huawei().build()?;
    lab.nat().sh(&ping)?;
    Ok(())
}
