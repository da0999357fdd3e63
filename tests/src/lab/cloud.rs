//! What a cloud is to the lab: an API with state, owned by somebody, called by natd, and read back as a [`Picture`].
//!
//! Each cloud is a folder beside this file, in code that shares nothing with natd's own provider of it, and a line in
//! [`CloudKind`] and in [`on_every_cloud!`](crate::on_every_cloud).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Error, Result, bail};

use super::calls::Calls;
use super::fabric::{Current, Nudge};
use super::http::{Request, Response};
use super::ids::Ids;
use super::name::LabName;
use super::namespace::Namespace;
use super::natd::Nat;
use super::picture::Picture;
use super::topology::{Shape, Topology};
use super::{aws, huawei, openstack, plugin};

/// The clouds that the lab has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloudKind {
    Aws,
    Huawei,
    Openstack,
    Plugin,
}

/// The same tests in each cloud: each is a function of a [`CloudKind`].
#[macro_export]
macro_rules! on_every_cloud {
    ($($test:ident),+ $(,)?) => {
        $crate::on_every_cloud!(@ aws Aws: $($test)+);
        $crate::on_every_cloud!(@ huawei Huawei: $($test)+);
        $crate::on_every_cloud!(@ plugin Plugin: $($test)+);
        $crate::on_every_cloud!(@ openstack Openstack: $($test)+);
    };
    (@ $cloud:ident $variant:ident: $($test:ident)+) => {
        mod $cloud {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    super::$test($crate::lab::cloud::CloudKind::$variant)
                }
            )+
        }
    };
}

impl CloudKind {
    pub const ALL: [Self; 4] = [Self::Aws, Self::Huawei, Self::Openstack, Self::Plugin];

    /// As natd's `provider` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Huawei => "huawei",
            Self::Openstack => "openstack",
            Self::Plugin => "plugin",
        }
    }

    /// What natd calls there, for people.
    pub fn api(self) -> &'static str {
        match self {
            Self::Aws => "the EC2 API",
            Self::Huawei => "Huawei's VPC API",
            Self::Openstack => "Keystone and Neutron",
            Self::Plugin => "a Linux router",
        }
    }

    /// The shape that a lab has there unless told otherwise: one in which natd serves two private subnets.
    pub fn shape(self) -> Shape {
        match self {
            Self::Aws | Self::Huawei | Self::Plugin => Shape::default(),
            // A router would send what the NAT instance lets out back to it, if it were the route's next hop as well.
            Self::Openstack => Shape { two_interfaces: true, ..Shape::default() },
        }
    }

    /// Starts the cloud's servers, without waiting for them.
    pub fn start(self, ground: Ground) -> Result<Box<dyn Starting>> {
        match self {
            Self::Aws => aws::start(ground),
            Self::Huawei => huawei::start(ground),
            Self::Openstack => openstack::start(ground),
            Self::Plugin => plugin::start(ground),
        }
    }
}

impl fmt::Display for CloudKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CloudKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) else {
            let known = Self::ALL.map(Self::name).join(", ");
            bail!("there is no provider {name:?} in the lab; there are: {known}");
        };
        Ok(kind)
    }
}

/// Where a cloud's servers live.
#[derive(Clone, Debug)]
pub struct Ground {
    pub name: LabName,
    /// Has the addresses [`SERVICES`](super::topology::SERVICES): the cloud's servers listen there, on
    /// [`API`](super::topology::API), and what instances reach of them on [`ENDPOINT`](super::topology::ENDPOINT).
    pub router: Namespace,
    /// For the cloud's files.
    pub folder: PathBuf,
    /// What is to be made in the cloud.
    pub topology: Topology,
    /// To be nudged after every change of the cloud's state.
    pub changed: Nudge,
}

/// A cloud whose servers are being started.
pub trait Starting {
    /// Waits until they listen and makes the topology in them.
    fn seed(self: Box<Self>, topology: &Topology) -> Result<Arc<dyn Cloud>>;
}

/// Answers what an instance asks its metadata service; `None` drops the connection.
pub type Answers = Box<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

/// A running cloud. Its servers stop when it is dropped.
///
/// Ids are the cloud's own. Where a cloud names an interface in a route by something else than its id (by a server or
/// an address), it translates: a route that leads to an interface "targets" the interface's id here.
pub trait Cloud: Any + Debug + Send + Sync {
    fn kind(&self) -> CloudKind;

    /// The ids of what was seeded.
    fn ids(&self) -> &Ids;

    /// Reads the whole state back.
    fn picture(&self) -> Result<Picture>;

    /// The metadata service of the port of that id, told what the fabric has applied; `None` where the cloud has none.
    fn metadata(&self, port: &str, current: &Current) -> Option<Answers>;

    /// What natd finds in its environment: how to reach the API, credentials.
    fn environment(&self) -> Vec<(&'static str, String)>;

    /// Puts files onto the NAT instance that natd needs in this cloud. `HOME` is natd's root there.
    fn furnish(&self, _nat: &Nat) -> Result<()> {
        Ok(())
    }

    /// What natd is to be configured with, before `[verify]`: the provider, its section, and `[routes]` with the
    /// private tables.
    fn configuration(&self) -> String {
        format!(
            "provider = {:?}\n\n[routes]\ntables = {:?}\n",
            self.kind().name(),
            self.ids().private_tables()
        )
    }

    /// The NAT instance's interface that natd's routes lead to, with that configuration.
    fn target(&self) -> &str {
        self.ids().interface("nat/eth0")
    }

    /// The calls that instances made, and the faults of those to come.
    fn calls(&self) -> &Calls;

    /// The actions by which natd changes this cloud, as they are called in the log. With each: how many calls of it the
    /// longer of `apply` and `down` makes where `private-a` has another default route before, and `private-b` none.
    fn writes(&self) -> &'static [(&'static str, u32)];

    /// All that natd may change in the cloud, as text by what it is.
    fn state(&self) -> Result<BTreeMap<String, String>> {
        let mut state = BTreeMap::new();
        let picture = self.picture()?;
        for (name, id) in &self.ids().tables {
            let table = picture.tables.get(id).map(|table| format!("{:#?}", table.routes));
            state.insert(format!("routes of {name}"), table.unwrap_or_default());
        }
        for (name, id) in &self.ids().interfaces {
            if let Some(on) = self.check(id)? {
                state.insert(format!("source/destination check of {name}"), on.to_string());
            }
        }
        Ok(state)
    }

    /// Has instances find nobody listening at the API, until [`resume`](Self::resume).
    fn interrupt(&self) -> Result<()>;

    /// Ends an interruption: the API server is there again, with the state that it had.
    fn resume(&self) -> Result<()>;

    /// What the route to `destination` in that table targets: an interface's id, or what the cloud calls its target.
    fn route(&self, table: &str, destination: &str) -> Result<Option<String>>;

    /// Points a route at an interface, or at [`Ids::elsewhere`], whether it was there or not.
    fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()>;

    /// What natd calls that target of a route, if it is not its own interface.
    fn told(&self, target: &str) -> String {
        target.to_owned()
    }

    /// Takes a route away.
    fn remove_route(&self, table: &str, destination: &str) -> Result<()>;

    /// Whether the source/destination check of an interface is on; `None` where the cloud has no such check.
    fn check(&self, interface: &str) -> Result<Option<bool>>;

    /// Switches it.
    fn set_check(&self, interface: &str, on: bool) -> Result<()>;

    /// A new route table in the lab's network, that serves no subnet yet, by its id.
    fn new_table(&self) -> Result<String>;
}
