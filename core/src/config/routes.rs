//! `[routes]`: which tables point here, for which destinations, and what if a route is there already.

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{nat::InterfaceChoice, schema, written};
use crate::{
    cloud::TableSelector,
    model::{RouteTableId, SubnetId, Tag},
};

/// All groups of routes. Written as one table `[routes]`, or as an array of tables `[[routes]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Routes(pub Vec<RouteGroup>);

impl Default for Routes {
    fn default() -> Self {
        Self(vec![RouteGroup::default()])
    }
}

/// Tables that are served in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteGroup {
    /// What is routed here.
    #[serde(deserialize_with = "written::blocks")]
    #[schemars(with = "Vec<schema::Block>", length(min = 1))]
    pub destinations: Vec<IpNet>,
    /// The tables.
    pub tables: Tables,
    /// What if a route to a destination exists and has another target.
    pub takeover: Takeover,
    /// What SIGTERM does with the routes.
    pub on_stop: OnStop,
    /// The interface that routes target.
    pub interface: InterfaceChoice,
}

impl Default for RouteGroup {
    fn default() -> Self {
        Self {
            destinations: vec![IpNet::V4(ipnet::Ipv4Net::default())],
            tables: Tables::default(),
            takeover: Takeover::Replace,
            on_stop: OnStop::Keep,
            interface: InterfaceChoice::Auto,
        }
    }
}

/// What if a route to a destination exists and has another target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Takeover {
    /// Note the earlier target in the journal, then replace it.
    Replace,
    /// Leave it, say so, exit with 3.
    Refuse,
}

/// What SIGTERM does with the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They stay: the kernel goes on forwarding without the daemon.
    Keep,
    /// They are given back.
    Restore,
}

/// The tables of a group: one selector, or an array in which ids and selectors mix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tables(pub Vec<TableSpec>);

/// One way of naming tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TableSpec {
    /// `"rtb-0123"`.
    Id(RouteTableId),
    /// `{ tag = "natd=managed" }`: all tables of the network with that tag.
    Tag {
        /// The tag.
        tag: Tag,
    },
    /// `{ subnets = ["subnet-0123"] }`: whichever tables serve them.
    Subnets {
        /// The subnets.
        subnets: Vec<SubnetId>,
    },
}

impl Tables {
    /// The tables as a cloud is asked for them.
    #[must_use]
    pub fn selector(&self) -> TableSelector {
        let mut selector = TableSelector::default();
        for spec in &self.0 {
            match spec {
                TableSpec::Id(id) => {
                    selector.ids.insert(id.clone());
                }
                TableSpec::Tag { tag } => {
                    selector.tags.insert(tag.clone());
                }
                TableSpec::Subnets { subnets } => selector.subnets.extend(subnets.iter().cloned()),
            }
        }
        selector
    }
}

// serde's `untagged` would answer a wrong key with "data did not match any variant": these visitors
// keep the key, so that the error can name it.

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Groups;
        impl<'de> Visitor<'de> for Groups {
            type Value = Routes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one table [routes] or several [[routes]]")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Routes, A::Error> {
                RouteGroup::deserialize(MapAccessDeserializer::new(map))
                    .map(|group| Routes(vec![group]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Routes, A::Error> {
                let mut groups = Vec::new();
                while let Some(group) = seq.next_element()? {
                    groups.push(group);
                }
                Ok(Routes(groups))
            }
        }
        deserializer.deserialize_any(Groups)
    }
}

impl<'de> Deserialize<'de> for Tables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Specs;
        impl<'de> Visitor<'de> for Specs {
            type Value = Tables;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an array of route table ids, { tag = \"KEY=VALUE\" } or { subnets = [...] }",
                )
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tables, A::Error> {
                TableSpec::deserialize(MapAccessDeserializer::new(map))
                    .map(|spec| Tables(vec![spec]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tables, A::Error> {
                let mut specs = Vec::new();
                while let Some(spec) = seq.next_element()? {
                    specs.push(spec);
                }
                Ok(Tables(specs))
            }
        }
        deserializer.deserialize_any(Specs)
    }
}

impl<'de> Deserialize<'de> for TableSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Selector {
            tag: Option<Tag>,
            subnets: Option<Vec<SubnetId>>,
        }
        struct Spec;
        impl<'de> Visitor<'de> for Spec {
            type Value = TableSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a route table id, { tag = \"KEY=VALUE\" } or { subnets = [...] }")
            }
            fn visit_str<E: de::Error>(self, id: &str) -> Result<TableSpec, E> {
                id.parse().map(TableSpec::Id).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableSpec, A::Error> {
                match Selector::deserialize(MapAccessDeserializer::new(map))? {
                    Selector { tag: Some(tag), subnets: None } => Ok(TableSpec::Tag { tag }),
                    Selector { tag: None, subnets: Some(subnets) } => {
                        Ok(TableSpec::Subnets { subnets })
                    }
                    _ => Err(de::Error::custom("either tag or subnets is needed, not both")),
                }
            }
        }
        deserializer.deserialize_any(Spec)
    }
}
