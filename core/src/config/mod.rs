//! The configuration: one struct a section, its defaults, and what it must hold to be used.
//!
//! | file | holds |
//! |---|---|
//! | `nat` | `[nat]`: whose packets are translated, and how |
//! | `routes` | `[routes]`: which tables point here |
//! | `sections` | the small sections: `[verify]`, `[conntrack]`, `[service]` |
//! | `clouds` | what only one cloud needs: `[aws]`, `[huawei]`, `[openstack]`, `[plugin]` |
//! | `secret` | a secret, which is never printed |
//! | `load` | the layers, by figment; the only file that knows it |
//! | `written` | lists of addresses and blocks, whose errors repeat what was written |
//! | `check` | what a type alone can't refuse |

mod check;
mod clouds;
mod load;
mod nat;
mod routes;
mod secret;
mod sections;
mod written;

use serde::{Deserialize, Serialize};

pub use clouds::{
    Aws, Huawei, HuaweiNextHop, Openstack, OpenstackRoutes, OpenstackSourceCheck, Plugin,
};
pub use load::{ConfigError, Layers};
pub use nat::{
    FirewallChoice, Forward, InterfaceChoice, Mode, Nat, NetworkSpec, Persist, Protocol,
};
pub use routes::{OnStop, RouteGroup, Routes, TableSpec, Tables, Takeover};
pub use secret::Secret;
pub use sections::{Conntrack, ConntrackMax, Service, Verify};

/// Everything that an operator can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
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
}

/// The clouds of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", expecting = "the name of a cloud such as \"aws\"")]
pub enum ProviderName {
    /// Amazon EC2.
    Aws,
    /// Huawei Cloud.
    Huawei,
    /// OpenStack.
    Openstack,
    /// Any other cloud, by a program of the operator's.
    Plugin,
    /// No cloud: this host alone.
    None,
}

impl std::fmt::Display for ProviderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Aws => "aws",
            Self::Huawei => "huawei",
            Self::Openstack => "openstack",
            Self::Plugin => "plugin",
            Self::None => "none",
        })
    }
}
