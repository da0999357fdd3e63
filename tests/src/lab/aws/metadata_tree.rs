//! What the metadata service knows about one instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::json;

use super::super::picture::{Picture, Port};
use super::{REGION, ZONE};

/// The role whose credentials an instance gets.
const ROLE: &str = "natd-role";

/// Values by their path below `/latest/`.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    fn put(&mut self, path: impl Into<String>, value: impl Into<String>) {
        self.0.insert(path.into(), value.into());
    }

    fn put_list<T: ToString>(&mut self, path: String, values: impl IntoIterator<Item = T>) {
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        if !values.is_empty() {
            self.0.insert(path, values.join("\n"));
        }
    }

    /// The value at a path, or the list of what is below it; a name that ends with a slash has more below.
    pub fn get(&self, path: &str) -> Option<String> {
        let path = path.trim_end_matches('/');
        if let Some(value) = self.0.get(path) {
            return Some(value.clone());
        }
        let folder = format!("{path}/");
        let below = self.0.keys().filter_map(|key| key.strip_prefix(&folder));
        let names: BTreeSet<_> =
            below.map(|rest| rest.split_inclusive('/').next().unwrap_or(rest)).collect();
        (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join("\n"))
    }
}

/// The tree of the instance behind `port`.
pub fn tree(picture: &Picture, port: &Port) -> Tree {
    let mut tree = Tree::default();
    let siblings = picture.ports.iter().filter(|(_, other)| other.instance == port.instance);
    let mut primary = port;
    for (id, sibling) in siblings {
        put_interface(&mut tree, picture, id, sibling);
        if sibling.number == 0 {
            primary = sibling;
        }
    }
    let address = primary.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    tree.put("meta-data/instance-id", &port.instance);
    tree.put("meta-data/instance-type", "t3.micro");
    tree.put("meta-data/mac", &primary.mac);
    tree.put("meta-data/local-ipv4", address.to_string());
    tree.put("meta-data/placement/region", REGION);
    tree.put("meta-data/placement/availability-zone", ZONE);
    let public = public_of(picture, primary).into_iter().next();
    if let Some((public, _)) = public {
        tree.put("meta-data/public-ipv4", public.to_string());
    }
    tree.put(format!("meta-data/iam/security-credentials/{ROLE}"), credentials());
    tree.put("dynamic/instance-identity/document", identity(&port.instance, address));
    tree
}

fn put_interface(tree: &mut Tree, picture: &Picture, id: &str, port: &Port) {
    let folder = format!("meta-data/network/interfaces/macs/{}", port.mac);
    tree.put(format!("{folder}/device-number"), port.number.to_string());
    tree.put(format!("{folder}/interface-id"), id);
    tree.put(format!("{folder}/mac"), &port.mac);
    tree.put(format!("{folder}/subnet-id"), &port.subnet);
    tree.put(format!("{folder}/subnet-ipv4-cidr-block"), port.subnet_block.to_string());
    tree.put(format!("{folder}/vpc-id"), &picture.network);
    tree.put_list(format!("{folder}/vpc-ipv4-cidr-block"), picture.networks.first());
    tree.put_list(format!("{folder}/vpc-ipv4-cidr-blocks"), &picture.networks);
    tree.put_list(format!("{folder}/local-ipv4s"), &port.addresses);
    tree.put_list(format!("{folder}/security-group-ids"), &port.groups);
    let public = public_of(picture, port);
    tree.put_list(format!("{folder}/public-ipv4s"), public.iter().map(|(public, _)| public));
    for (public, private) in public {
        tree.put(format!("{folder}/ipv4-associations/{public}"), private.to_string());
    }
}

fn public_of(picture: &Picture, port: &Port) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let of_port = |(_, private): &(&Ipv4Addr, &Ipv4Addr)| port.addresses.contains(private);
    picture.public.iter().filter(of_port).map(|(public, private)| (*public, *private)).collect()
}

fn credentials() -> String {
    let credentials = json!({
        "Code": "Success",
        "LastUpdated": "2024-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLAB0",
        "SecretAccessKey": "of-the-lab-and-of-no-use-elsewhere",
        "Token": "of-the-lab",
        "Expiration": "2099-01-01T00:00:00Z",
    });
    credentials.to_string()
}

fn identity(instance: &str, address: Ipv4Addr) -> String {
    let identity = json!({
        "version": "2017-09-30",
        "accountId": "123456789012",
        "instanceId": instance,
        "instanceType": "t3.micro",
        "imageId": "ami-12c6146b",
        "architecture": "x86_64",
        "privateIp": address,
        "region": REGION,
        "availabilityZone": ZONE,
        "pendingTime": "2024-01-01T00:00:00Z",
    });
    identity.to_string()
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn a_folder_lists_what_is_in_it() {
        let mut tree = Tree::default();
        tree.put("meta-data/mac", "02:00");
        tree.put("meta-data/placement/region", "here");
        tree.put("meta-data/placement/zone", "there");
        assert_eq!(tree.get("meta-data/").as_deref(), Some("mac\nplacement/"));
        assert_eq!(tree.get("meta-data/mac/").as_deref(), Some("02:00"));
        assert_eq!(tree.get("meta-data/plac"), None);
    }
}
