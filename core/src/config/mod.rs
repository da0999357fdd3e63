//! The configuration: one struct a section, its defaults, and what it must hold to be used.
//!
//! | file | holds |
//! |---|---|
//! | `nat` | `[nat]`: whose packets are translated, and how |
//! | `routes` | `[routes]`: which tables point here |
//! | `sections` | the small sections: `[verify]`, `[conntrack]`, `[service]` |
//! | `clouds` | what only one cloud needs: `[aws]`, `[huawei]`, `[openstack]`, `[plugin]` |
//! | `open` | settings that only their owner understands: `[cloud]`, `[plugin.settings]` |
//! | `schema` | its JSON schema |
//! | `secret` | a secret, which is never printed |
//! | `environment` | the layer of `NATD_*` variables |
//! | `load` | the layers, by figment, which only these two files know |
//! | `written` | lists of addresses and blocks, whose errors repeat what was written |
//! | `check` | what a type alone can't refuse |

mod check;
mod clouds;
pub(crate) mod environment;
mod load;
mod nat;
mod open;
mod routes;
mod schema;
mod secret;
mod sections;
mod written;

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Malformed;

pub use check::Problem;
pub use clouds::{
    Aws, Huawei, HuaweiNextHop, Openstack, OpenstackRoutes, OpenstackSourceCheck, Plugin,
};
pub use load::{ConfigError, Layers};
pub use nat::{
    FirewallChoice, Forward, ForwardTarget, InterfaceChoice, Mode, Nat, Neighbours, NetworkSpec,
    Persist,
};
pub use open::OpenSettings;
pub use routes::{OnStop, RouteGroup, Routes, TableSpec, Tables, Takeover};
pub use schema::schema;
pub use secret::Secret;
pub use sections::{Conntrack, ConntrackMax, ConntrackTimeout, Seconds, Service, Verify};

/// Everything that an operator can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The cloud that this machine is in. There is no default.
    pub provider: Option<ProviderName>,
    /// Whose packets are translated, and how.
    pub nat: Nat,
    /// Which route tables point here: one group, or several as `[[routes]]`.
    pub routes: Routes,
    /// How natd proves that packets get out.
    pub verify: Verify,
    /// The size of the kernel's connection table.
    pub conntrack: Conntrack,
    /// The daemon.
    pub service: Service,
    /// What only AWS needs.
    pub aws: Aws,
    /// What only Huawei Cloud needs.
    pub huawei: Huawei,
    /// What only OpenStack needs.
    pub openstack: Openstack,
    /// The program that speaks for any other cloud.
    pub plugin: Plugin,
    /// What a cloud without a section of its own is told. Only its provider looks into it.
    pub cloud: OpenSettings,
}

/// The name of a cloud, such as `aws`: 1 to 32 lower-case letters, digits and hyphens. Which clouds
/// there are is the providers' affair.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderName(String);

impl ProviderName {
    /// No cloud: this host alone.
    pub const NONE: &str = "none";

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this host is alone.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == Self::NONE
    }
}

impl FromStr for ProviderName {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        let well_formed = (1..=32).contains(&s.len())
            && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if well_formed {
            Ok(Self(s.to_owned()))
        } else {
            Err(Malformed::new(format!("{s:?} is not the name of a cloud such as \"aws\"")))
        }
    }
}

impl TryFrom<String> for ProviderName {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<ProviderName> for String {
    fn from(name: ProviderName) -> String {
        name.0
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
