//! Ports, their addresses, and their source/destination check.

use std::sync::{Arc, Mutex};

use natd_core::{
    cloud::{CheckSettings, Interface, Provider},
    error::Kind,
};
use serde_json::{Value, json};
use wiremock::{
    Mock, Request, ResponseTemplate,
    matchers::{method, path},
};

use crate::cloud::{Cloud, INSTANCE, MAC, get, in_project, page, port};

#[tokio::test]
async fn the_primary_interface_comes_first_and_elastic_addresses_go_with_their_private_ones() {
    let cloud = Cloud::start().await;
    let mut second = port("port-0", "FA:16:3E:00:00:02", "subnet-2", "10.0.2.5", &json!(null));
    second["fixed_ips"] =
        json!([{"ip_address": "fd00::5"}, {"ip_address": "10.0.2.5"}, {"ip_address": "10.0.2.6"}]);
    let mut first = port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]));
    first["binding:vif_details"] = json!({"primary_interface": true, "port_filter": true});
    cloud.list("ports", json!([second, first])).await;
    let ips = [
        ("eip-1", "port-1", "203.0.113.1", json!(null)),
        ("eip-2", "port-0", "203.0.113.2", json!("10.0.2.6")),
    ];
    get("v1/publicips")
        .respond_with(move |request: &Request| {
            let items: Vec<Value> = ips
                .iter()
                .filter(|(_, port, ..)| request.url.query_pairs().any(|(_, value)| value == *port))
                .map(|(id, port, public, private)| {
                    json!({"id": id, "port_id": port, "public_ip_address": public,
                           "private_ip_address": private, "status": "ACTIVE"})
                })
                .collect();
            let items = page(&items.into(), request, 2000);
            ResponseTemplate::new(200).set_body_json(json!({"publicips": items}))
        })
        .mount(&cloud.api)
        .await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let told: Vec<_> = interfaces
        .iter()
        .map(|interface| {
            let facts = interface.facts();
            let addresses: Vec<_> = facts
                .addresses
                .iter()
                .map(|address| match address.public.known() {
                    Some(public) => format!("{} {public}", address.private),
                    None => address.private.to_string(),
                })
                .collect();
            (facts.id.as_str(), facts.mac.to_string(), facts.subnet.as_str(), addresses.join(", "))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("port-1", MAC.to_owned(), "subnet-1", "10.0.0.5 203.0.113.1".to_owned()),
            (
                "port-0",
                "fa:16:3e:00:00:02".to_owned(),
                "subnet-2",
                "10.0.2.5, 10.0.2.6 203.0.113.2, fd00::5".to_owned()
            ),
        ]
    );
    assert!(interfaces[0].facts().source_dest_check.is_on());
    let error = interfaces[0].facts().security.clone().expect_err("not looked at");
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(cloud.calls().await[0].contains(&format!("device_id={INSTANCE}")));
}

#[tokio::test]
async fn a_denied_list_of_elastic_addresses_names_the_action() {
    let cloud = Cloud::start().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    let body = json!({"error_code": "APIGW.0302", "error_msg": "no"});
    cloud.refuse("GET", "v1/publicips", 9, 403, &body).await;
    let error = cloud.connect().await.interfaces().await.err().expect("denied");
    assert!(error.to_string().contains("vpc:publicIps:list"), "{error}");
}

/// Does something to the pairs when a port is read or written for the n-th time.
type Meddle = fn(usize, &mut Vec<Value>);

/// A port that remembers its pairs, and others who write them too: `after_read` and `after_write`.
struct Stateful {
    pairs: Arc<Mutex<Vec<Value>>>,
    cloud: Cloud,
}

impl Stateful {
    async fn start(pairs: Value, after_read: Meddle, after_write: Meddle) -> Self {
        let cloud = Cloud::start().await;
        let pairs = Arc::new(Mutex::new(pairs.as_array().expect("pairs").clone()));
        cloud.list("publicips", json!([])).await;
        let shown = Arc::clone(&pairs);
        get("v1/ports")
            .respond_with(move |request: &Request| {
                let pairs = shown.lock().expect("lock").clone().into();
                let all = json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &pairs)]);
                ResponseTemplate::new(200)
                    .set_body_json(json!({"ports": page(&all, request, 2000)}))
            })
            .mount(&cloud.api)
            .await;
        let (shown, count) = (Arc::clone(&pairs), Mutex::new(0));
        get("v1/ports/port-1")
            .respond_with(move |_: &Request| {
                let (mut pairs, mut count) =
                    (shown.lock().expect("lock"), count.lock().expect("lock"));
                let all = pairs.clone().into();
                let answer = json!({"port": port("port-1", MAC, "subnet-1", "10.0.0.5", &all)});
                after_read(*count, &mut pairs);
                *count += 1;
                ResponseTemplate::new(200).set_body_json(answer)
            })
            .mount(&cloud.api)
            .await;
        let (written, count) = (Arc::clone(&pairs), Mutex::new(0));
        Mock::given(method("PUT"))
            .and(path(in_project("v1/ports/port-1")))
            .respond_with(move |request: &Request| {
                let (mut pairs, mut count) =
                    (written.lock().expect("lock"), count.lock().expect("lock"));
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let port = body["port"].as_object().expect("a port");
                assert_eq!(port.keys().collect::<Vec<_>>(), ["allowed_address_pairs"]);
                pairs.clone_from(port["allowed_address_pairs"].as_array().expect("pairs"));
                after_write(*count, &mut pairs);
                *count += 1;
                ResponseTemplate::new(200).set_body_json(json!({"port": {}}))
            })
            .mount(&cloud.api)
            .await;
        Self { pairs, cloud }
    }

    async fn interface(&self) -> Arc<dyn Interface> {
        let interfaces = self.cloud.connect().await.interfaces().await.expect("listed");
        Arc::clone(&interfaces[0])
    }

    fn pairs(&self) -> Vec<Value> {
        self.pairs.lock().expect("lock").clone()
    }

    async fn writes(&self) -> usize {
        self.cloud.calls().await.iter().filter(|call| call.starts_with("PUT")).count()
    }
}

fn nothing(_: usize, _: &mut Vec<Value>) {}

fn ours() -> Value {
    json!({"ip_address": "1.1.1.1/0"})
}

fn theirs() -> Value {
    json!({"ip_address": "10.0.0.9", "mac_address": "fa:16:3e:00:00:99"})
}

#[tokio::test]
async fn the_check_goes_off_and_on_and_all_other_pairs_stay() {
    let state = Stateful::start(json!([theirs()]), nothing, nothing).await;
    let interface = state.interface().await;
    let earlier = interface.facts().source_dest_check.overwrites().cloned();
    assert_eq!(earlier, Some(CheckSettings(json!([theirs()]))));
    assert!(interface.source_dest_check().await.expect("read"));

    interface.set_source_dest_check(false, None).await.expect("off");
    assert_eq!(state.pairs(), [theirs(), ours()]);
    assert!(!interface.source_dest_check().await.expect("read"));
    interface.set_source_dest_check(false, None).await.expect("off already");
    assert_eq!(state.writes().await, 1);

    state.pairs.lock().expect("lock").push(json!({"ip_address": "10.0.0.8"}));
    interface.set_source_dest_check(true, earlier.as_ref()).await.expect("on");
    assert_eq!(state.pairs(), [theirs(), json!({"ip_address": "10.0.0.8"})]);
    assert!(interface.source_dest_check().await.expect("read"));
    interface.set_source_dest_check(true, earlier.as_ref()).await.expect("on already");
    assert_eq!(state.writes().await, 2);
}

#[tokio::test]
async fn who_has_covered_everything_has_switched_the_check_off() {
    let covering = json!({"ip_address": "1.1.1.1/0", "mac_address": MAC});
    let state = Stateful::start(json!([covering]), nothing, nothing).await;
    let interface = state.interface().await;
    assert!(!interface.facts().source_dest_check.is_on());
    interface.set_source_dest_check(false, None).await.expect("off already");
    assert_eq!(state.writes().await, 0);
}

#[tokio::test]
async fn a_pair_that_another_writer_took_away_is_written_again_and_theirs_is_kept() {
    // The other has read the list before natd wrote it, and writes it after.
    let state = Stateful::start(json!([theirs()]), nothing, |write, pairs| {
        if write == 0 {
            *pairs = vec![theirs(), json!({"ip_address": "10.0.0.7"})];
        }
    })
    .await;
    state.interface().await.set_source_dest_check(false, None).await.expect("off");
    assert_eq!(state.pairs(), [theirs(), json!({"ip_address": "10.0.0.7"}), ours()]);
    assert_eq!(state.writes().await, 2);
}

#[tokio::test]
async fn a_fight_about_the_list_ends_in_a_conflict() {
    let state = Stateful::start(json!([]), nothing, |_, pairs| pairs.clear()).await;
    let error = state.interface().await.set_source_dest_check(false, None).await;
    assert_eq!(error.expect_err("a fight").kind(), Kind::Conflict);
    assert_eq!(state.writes().await, 4);
}

#[tokio::test]
async fn what_others_do_to_keep_the_check_off_is_theirs() {
    let state = Stateful::start(json!([ours()]), nothing, nothing).await;
    let interface = state.interface().await;
    let both = [json!({"ip_address": "0.0.0.0/1"}), json!({"ip_address": "128.0.0.0/1"})];
    state.pairs.lock().expect("lock").extend(both.clone());
    let error = interface.set_source_dest_check(true, None).await.expect_err("still off");
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(state.pairs(), both);
}

#[tokio::test]
async fn a_denied_write_names_the_action() {
    let state = Stateful::start(json!([]), nothing, nothing).await;
    let interface = state.interface().await;
    let body = json!({"code": "VPC.0010", "message": "Rules disallowed by policy"});
    state.cloud.refuse("PUT", "v1/ports/port-1", 9, 403, &body).await;
    let error = interface.set_source_dest_check(false, None).await.expect_err("denied");
    assert!(error.to_string().contains("vpc:ports:update"), "{error}");
}
