//! How natd gets into a cloud: Keystone's URL, who logs in, which Neutron, which certificates.
//!
//! Keys: <https://docs.openstack.org/keystoneauth/latest/authentication-plugins.html>.

use std::path::PathBuf;

use natd_core::{
    config::{self, Secret},
    error::{Error, Kind, Result},
};
use reqwest::Certificate;
use serde_json::{Value, json};

use super::{
    environment::Environment,
    settings::{Setting, Settings},
};

/// The way into a cloud.
pub(super) struct Access {
    /// Keystone's URL, `/v3` included.
    pub(super) keystone: String,
    /// The body of the request for a token: it holds the password.
    pub(super) login: Secret,
    /// The region in the catalogue.
    pub(super) region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub(super) interface: String,
    /// Neutron's URL, in place of the catalogue's.
    pub(super) endpoint: Option<String>,
    /// Which certificates are trusted.
    pub(super) trust: Trust,
}

/// Which certificates are trusted.
pub(super) enum Trust {
    /// The system's authorities and these.
    Authorities(Vec<Certificate>),
    /// Any: `verify: false`.
    Anybody,
}

impl Access {
    /// Reads it from the files and variables as they are now.
    pub(super) fn read(options: &config::Openstack, environment: &Environment) -> Result<Self> {
        let settings = Settings::read(options, environment)?;
        let interface = settings
            .text(&["network_interface", "network_endpoint_type", "interface", "endpoint_type"])
            .unwrap_or_else(|| "public".to_owned());
        let endpoint = match &options.endpoint {
            Some(url) => Some(url_of(&Setting {
                text: url.clone(),
                place: "openstack.endpoint".to_owned(),
            })?),
            None => settings.get(&["network_endpoint_override"]).map(url_of).transpose()?,
        };
        if let Some(certificate) = settings.get(&["cert"]) {
            return Err(certificate.refused("natd doesn't log in with client certificates"));
        }
        let keystone = url_of(settings.needed("auth_url")?)?;
        let first = |names: String| names.split(',').next().map(|name| name.trim().to_owned());
        Ok(Self {
            keystone: match keystone.rsplit_once('/') {
                Some((_, "v3")) => keystone,
                // Old files name the version that natd doesn't speak.
                Some((root, "v2.0")) => format!("{root}/v3"),
                _ => format!("{keystone}/v3"),
            },
            login: Secret::from(login(&settings)?.to_string()),
            region: options.region.clone().or(settings.text(&["region_name"]).and_then(first)),
            interface: interface.trim_end_matches("URL").to_owned(),
            endpoint,
            trust: trust(&settings, environment)?,
        })
    }
}

/// The body of `POST /v3/auth/tokens`
/// (<https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management>).
fn login(settings: &Settings) -> Result<Value> {
    let by_credential = ["application_credential_id", "application_credential_secret"];
    let kind = settings.get(&["auth_type", "auth_plugin"]);
    match kind.map(|kind| kind.text.as_str()) {
        Some("v3applicationcredential" | "application_credential") => by_application(settings),
        None if settings.get(&by_credential).is_some() => by_application(settings),
        None | Some("password" | "v3password") => by_password(settings),
        Some(other) => {
            let place = kind.map_or("auth_type", |kind| kind.place.as_str());
            Err(Error::new(
                Kind::Unsupported,
                format!("log in by {place}"),
                format!("natd doesn't know the auth_type {other}"),
            )
            .with_advice("make an application credential, and use v3applicationcredential"))
        }
    }
}

fn by_application(settings: &Settings) -> Result<Value> {
    let secret = &settings.needed("application_credential_secret")?.text;
    let id = settings.get(&["application_credential_id"]);
    let name = settings.get(&["application_credential_name"]).filter(|_| id.is_none());
    let credential = if let Some(name) = name {
        json!({ "name": name.text, "secret": secret, "user": user(settings)? })
    } else {
        let id = settings.needed("application_credential_id")?;
        json!({ "id": id.text, "secret": secret })
    };
    // It has its project: a scope beside it is an error.
    Ok(json!({ "auth": { "identity": {
        "methods": ["application_credential"], "application_credential": credential,
    } } }))
}

fn by_password(settings: &Settings) -> Result<Value> {
    let mut user = user(settings)?;
    if let Some(user) = user.as_object_mut() {
        user.insert("password".to_owned(), json!(settings.needed("password")?.text));
    }
    let project = if let Some(id) = settings.get(&["project_id", "tenant_id"]) {
        json!({ "id": id.text })
    } else {
        let name = match settings.get(&["project_name", "tenant_name"]) {
            Some(name) => name,
            None => settings.needed("project_name")?,
        };
        json!({ "name": name.text, "domain": domain(settings, "project") })
    };
    Ok(json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": user } },
        "scope": { "project": project },
    } }))
}

fn user(settings: &Settings) -> Result<Value> {
    Ok(match settings.get(&["user_id"]) {
        Some(id) => json!({ "id": id.text }),
        None => json!({
            "name": settings.needed("username")?.text, "domain": domain(settings, "user"),
        }),
    })
}

/// A user's or a project's domain; as with the openstack client, `default` where none is given.
fn domain(settings: &Settings, of: &str) -> Value {
    let (id, name) = (format!("{of}_domain_id"), format!("{of}_domain_name"));
    for (id, name) in [(id.as_str(), name.as_str()), ("domain_id", "domain_name")] {
        if let Some(id) = settings.get(&[id]) {
            return json!({ "id": id.text });
        }
        if let Some(name) = settings.get(&[name]) {
            return json!({ "name": name.text });
        }
    }
    json!({ "id": settings.text(&["default_domain"]).unwrap_or_else(|| "default".to_owned()) })
}

fn trust(settings: &Settings, environment: &Environment) -> Result<Trust> {
    if settings.flag("verify")? == Some(false) || settings.flag("insecure")? == Some(true) {
        return Ok(Trust::Anybody);
    }
    let Some(file) = settings.get(&["cacert"]) else { return Ok(Trust::Authorities(Vec::new())) };
    let path = match (file.text.strip_prefix("~/"), environment.variable("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(&file.text),
    };
    let pem = std::fs::read(&path)
        .map_err(|error| file.refused(format!("{}: {error}", path.display())))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(Trust::Authorities(authorities)),
        _ => Err(file.refused(format!("{} holds no certificate in PEM form", path.display()))),
    }
}

/// A URL without its last slash.
fn url_of(setting: &Setting) -> Result<String> {
    match reqwest::Url::parse(&setting.text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(setting.text.trim_end_matches('/').to_owned())
        }
        _ => Err(setting
            .refused("it is not a URL")
            .with_advice("write http://HOST[:PORT]/… or https://HOST[:PORT]/…")),
    }
}
