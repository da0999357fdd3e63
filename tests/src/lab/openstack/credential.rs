//! What natd calls the API with: an application credential, in a `clouds.yaml`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::natd::Nat;
use super::FRONT_OF_KEYSTONE;
use super::api::{Api, NATD, items, text};
use super::prepared::Accounts;

const CLOUDS: &str = ".config/openstack/clouds.yaml";

/// An application credential of natd's user.
#[derive(Clone, Debug)]
pub struct Credential {
    id: String,
    secret: String,
}

impl Credential {
    /// Makes one that may do what these access rules allow, or all that its user may if they are null.
    pub fn new(api: &Api, accounts: &Accounts, access_rules: &Value) -> Result<Self> {
        let api = api.by(NATD);
        let path = format!("/v3/users/{}/application_credentials", accounts.user);
        let earlier = items(&api.get(&path)?, "application_credentials").count();
        let mut fields = json!({ "name": format!("natd-{earlier}") });
        if !access_rules.is_null() {
            fields["access_rules"] = access_rules.clone();
        }
        let answer = api.post(&path, &json!({ "application_credential": fields }))?;
        Self::from_kept(&answer["application_credential"])
    }

    /// As [`kept`](Self::kept) gave it.
    pub fn from_kept(kept: &Value) -> Result<Self> {
        Ok(Self { id: text(kept, "id")?.to_owned(), secret: text(kept, "secret")?.to_owned() })
    }

    /// To be kept with a cloud that knows it.
    pub fn kept(&self) -> Value {
        json!({ "id": self.id, "secret": self.secret })
    }

    /// Puts it where natd finds it, as the cloud `lab`.
    pub fn furnish(&self, nat: &Nat) -> Result<()> {
        let Self { id, secret } = self;
        nat.write(
            CLOUDS,
            &format!(
                "clouds:\n  lab:\n    auth_type: v3applicationcredential\n    auth:\n      \
                 auth_url: http://{FRONT_OF_KEYSTONE}/v3\n      \
                 application_credential_id: {id}\n      \
                 application_credential_secret: {secret}\n    region_name: RegionOne\n"
            ),
        )?;
        let path = nat.root.join(CLOUDS);
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .with_context(|| format!("closing {}", path.display()))
    }
}
