//! Where credentials come from, what goes before what, and what is said of mistakes.

use std::{collections::BTreeMap, fs, path::Path};

use natd_core::{
    cloud::Provider,
    config,
    error::{Error, Kind},
};
use natd_providers::openstack::{Environment, Openstack};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud::{Cloud, HASTY, PASSWORD, options};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

fn environment(variables: &[(&str, &str)], folders: &[&Path]) -> Environment {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Environment {
        variables: variables.iter().map(pair).collect::<BTreeMap<_, _>>(),
        folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
    }
}

async fn refused(options: config::Openstack, environment: Environment) -> Error {
    Openstack::connect_with(options, environment, HASTY).await.err().expect("refused")
}

/// The body with which Keystone is asked for a token.
async fn login(cloud: &Cloud, options: config::Openstack, environment: Environment) -> Value {
    let openstack = Openstack::connect_with(options, environment, HASTY).await.expect("complete");
    openstack.instance().await.expect("the cloud answers");
    cloud.logins().await.remove(0)
}

fn clouds(cloud: &Cloud) -> String {
    format!(
        "clouds:\n  lab:\n    region_name: one\n    auth:\n      auth-url: {}\n      username: natd\n      \
         project_name: lab\n      user_domain_name: users\n      project_domain_id: projects\n",
        cloud.keystone.uri()
    )
}

#[tokio::test]
async fn the_only_cloud_of_the_first_file_is_taken_with_its_secure_part() {
    let cloud = Cloud::start().await;
    let first = folder(&[("clouds.yaml", &clouds(&cloud))]);
    let second = folder(&[
        ("clouds.yaml", "clouds: {other: {}}"),
        ("secure.yaml", "clouds: {lab: {auth: {password: from-secure}}}"),
    ]);
    let body = login(&cloud, options(), environment(&[], &[first.path(), second.path()])).await;
    assert_eq!(
        body,
        json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "natd", "domain": { "name": "users" }, "password": "from-secure" } } },
            "scope": { "project": { "name": "lab", "domain": { "id": "projects" } } },
        } })
    );
}

#[tokio::test]
async fn variables_go_over_the_file_and_a_named_file_before_the_usual_ones() {
    let cloud = Cloud::start().await;
    let usual = folder(&[("clouds.yaml", "clouds: {other: {}}")]);
    let named = folder(&[("mine.yaml", &clouds(&cloud))]);
    let file = named.path().join("mine.yaml");
    let variables = [
        ("OS_CLIENT_CONFIG_FILE", file.to_str().expect("a path")),
        ("OS_CLOUD", "lab"),
        ("OS_USERNAME", "somebody"),
        ("OS_PASSWORD", "p"),
        ("OS_PROJECT_ID", "1234"),
    ];
    let body = login(&cloud, options(), environment(&variables, &[usual.path()])).await;
    assert_eq!(body["auth"]["identity"]["password"]["user"]["name"], "somebody");
    assert_eq!(body["auth"]["scope"], json!({ "project": { "id": "1234" } }));
}

#[tokio::test]
async fn an_application_credential_brings_its_own_scope() {
    let cloud = Cloud::start().await;
    let auth_url = cloud.keystone.uri();
    let mut variables = vec![
        ("OS_AUTH_URL", auth_url.as_str()),
        ("OS_AUTH_TYPE", "v3applicationcredential"),
        ("OS_APPLICATION_CREDENTIAL_ID", "id-1"),
        ("OS_APPLICATION_CREDENTIAL_SECRET", "s"),
        ("OS_PROJECT_NAME", "ignored"),
        ("OS_REGION_NAME", "one"),
    ];
    let body = login(&cloud, options(), environment(&variables, &[])).await;
    let expected = json!({ "auth": { "identity": { "methods": ["application_credential"],
        "application_credential": { "id": "id-1", "secret": "s" } } } });
    assert_eq!(body, expected);

    let cloud = Cloud::start().await;
    let auth_url = cloud.keystone.uri();
    variables.retain(|(name, _)| !name.ends_with("CREDENTIAL_ID") && *name != "OS_AUTH_URL");
    variables.extend([
        ("OS_AUTH_URL", auth_url.as_str()),
        ("OS_APPLICATION_CREDENTIAL_NAME", "natd"),
        ("OS_USERNAME", "somebody"),
    ]);
    let body = login(&cloud, options(), environment(&variables, &[])).await;
    let expected = json!({ "name": "natd", "secret": "s",
        "user": { "name": "somebody", "domain": { "id": "default" } } });
    assert_eq!(body["auth"]["identity"]["application_credential"], expected);
}

#[tokio::test]
async fn several_clouds_and_none_chosen_is_an_error_that_lists_them() {
    let folder = folder(&[("clouds.yaml", "clouds:\n  east: {}\n  west: {}\n")]);
    let error = refused(options(), environment(&[], &[folder.path()])).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("clouds.yaml has east, west"), "{error}");
    assert!(error.advice().expect("advice").contains("openstack.cloud"), "{error}");

    let unknown = config::Openstack { cloud: Some("north".to_owned()), ..options() };
    let error = refused(unknown, environment(&[], &[folder.path()])).await;
    assert!(error.to_string().contains("there is no cloud north in"), "{error}");
    assert!(error.to_string().contains("it has east, west"), "{error}");
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_told_by_file_and_key() {
    let base = "clouds:\n  lab:\n    auth: {auth_url: 'http://k', username: u, password: hunter2, project_name: p}\n";
    for (content, expected) in [
        (base.replace("username: u, ", ""), vec!["username is missing in lab in", "OS_USERNAME"]),
        (base.replace("password: hunter2, ", ""), vec!["password is missing in lab in"]),
        (base.replace("http://k", "k:5000"), vec!["use auth.auth_url of lab in", "not a URL"]),
        (format!("{base}    verify: perhaps\n"), vec!["use verify of lab in", "perhaps"]),
        (
            format!("{base}    cacert: /nowhere/ca.pem\n"),
            vec!["use cacert of lab in", "/nowhere/ca.pem"],
        ),
        (
            format!("{base}    auth_type: v3oidcpassword\n"),
            vec!["auth_type of lab in", "v3oidcpassword", "v3applicationcredential"],
        ),
        (format!("{base}  : :\n\t- {{hunter2"), vec!["line", "not YAML"]),
        ("- 1".to_owned(), vec!["no table of keys"]),
    ] {
        let folder = folder(&[("clouds.yaml", &content)]);
        let error = refused(options(), environment(&[], &[folder.path()])).await;
        let text = error.to_string();
        for part in expected.into_iter().chain(["clouds.yaml"]) {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn without_any_credentials_the_error_says_where_they_were_looked_for() {
    let folder = folder(&[]);
    let error = refused(options(), environment(&[], &[folder.path()])).await;
    assert!(error.to_string().contains(folder.path().to_str().expect("a path")), "{error}");
    assert!(error.to_string().contains("OS_AUTH_URL is not set"), "{error}");
}

#[tokio::test]
async fn an_unknown_region_lists_those_that_there_are() {
    let cloud = Cloud::start().await;
    for (region, expected) in
        [(Some("three"), "it has no region three"), (None, "several regions and none is chosen")]
    {
        let mut environment = cloud.environment();
        environment.variables.remove("OS_REGION_NAME");
        let options = config::Openstack { region: region.map(str::to_owned), ..options() };
        let openstack =
            Openstack::connect_with(options, environment, HASTY).await.expect("complete");
        let error = openstack.instance().await.expect_err("no such region");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("one of: one, two"), "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_of_ones_own_goes_before_the_catalogue() {
    let cloud = Cloud::start().await;
    let endpoint = Some(format!("{}/v2.0/", cloud.neutron.uri()));
    let options = config::Openstack { endpoint, region: Some("two".to_owned()), ..options() };
    let openstack = cloud.connect_as(options).await;
    openstack.instance().await.expect("the given one answers");
}

#[tokio::test]
async fn rotated_credentials_are_read_at_the_next_login() {
    let cloud = Cloud::start().await;
    let folder = folder(&[("clouds.yaml", &clouds(&cloud))]);
    let secure = |password: &str| {
        let content = format!("clouds: {{lab: {{auth: {{password: {password}}}}}}}");
        fs::write(folder.path().join("secure.yaml"), content).expect("written");
    };
    secure("old");
    let environment = environment(&[], &[folder.path()]);
    let openstack = Openstack::connect_with(options(), environment, HASTY).await.expect("complete");
    openstack.instance().await.expect("the cloud answers");
    secure("new");
    cloud.refuse("GET", "routers", 1, 401, "Unauthorized").await;
    openstack.instance().await.expect("logged in again");
    let logins = cloud.logins().await;
    let password =
        |login: &Value| login["auth"]["identity"]["password"]["user"]["password"].clone();
    assert_eq!(logins.iter().map(password).collect::<Vec<_>>(), ["old", "new"]);
}

#[tokio::test]
async fn no_secret_reaches_an_error() {
    let cloud = Cloud::bare().await;
    for (status, kind) in
        [(401, "Unauthorized"), (403, "PolicyNotAuthorized"), (500, "Broken"), (400, "Wrong")]
    {
        cloud.neutron.reset().await;
        cloud.refuse("GET", "ports", 99, status, kind).await;
        let error = cloud.connect().await.instance().await.expect_err("refused");
        for text in [error.to_string(), format!("{error:?}")] {
            for secret in [PASSWORD, "token-1", "token-2"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}
