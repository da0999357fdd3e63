//! What only a test of `OpenStack` does by hand: calls of the API as its administrator, credentials, a router's end.

use anyhow::Result;
use serde_json::Value;

use super::super::Lab;
use super::super::build::Builder;
use super::super::cloud::CloudKind;
use super::Openstack;
use super::api::Api;
use super::credential::Credential;
use super::prepared::Environment;

impl Lab {
    /// A lab of `OpenStack`, with options.
    pub fn openstack() -> Builder {
        Builder::of(CloudKind::Openstack)
    }

    /// The cloud.
    ///
    /// # Panics
    /// If it isn't `OpenStack`, as all that is below.
    pub fn neutron(&self) -> &Openstack {
        self.cloud_of()
    }

    /// The API, as the cloud's administrator calls it: not in [`api_log`](Self::api_log), and never faulty.
    pub fn administrator(&self) -> &Api {
        &self.neutron().api
    }

    /// Gives natd an application credential that may do only what these access rules allow.
    pub fn use_access_rules(&self, rules: &Value) -> Result<()> {
        let cloud = self.neutron();
        let accounts = Environment::accounts(&cloud.site.folder)?;
        Credential::new(&cloud.api, &accounts, rules)?.furnish(self.nat())
    }

    /// Changes fields of a port, and waits for the network to follow.
    pub fn change_port(&self, id: &str, fields: &Value) -> Result<()> {
        self.neutron().change_port(id, fields)?;
        self.sync()
    }
}
