//! The JSON schema of the configuration, made of the types that natd reads it into: their comments are its
//! descriptions. Here is how values are written that the types' own parsers read.
//!
//! It refuses nothing that natd takes. What it can't say (values that don't go together) `natd config
//! check` does.

use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::Value;

use super::{
    Config, ConntrackMax, ForwardTarget, InterfaceChoice, NetworkSpec, OpenSettings, ProviderName,
    Routes, Secret, TableSpec, Tables,
};
use crate::{
    model::{InstanceId, NetworkId, RouteTableId, SubnetId, Tag},
    ruleset::Ports,
};

/// The schema, JSON Schema 2020-12. It is that of one file: another may have what this one lacks, so no
/// section is required. `clouds` are the names that `provider` may have beside `none`.
#[must_use]
pub fn schema(clouds: &[&str]) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>();
    RecursiveTransform(without_empty_defaults).transform(&mut schema);
    schema.insert("title".to_owned(), "natd's configuration".into());
    let mut schema = schema.to_value();
    let names: Vec<&str> = clouds.iter().copied().chain([ProviderName::NONE]).collect();
    if let Some(provider) = schema.pointer_mut("/$defs/ProviderName") {
        provider["enum"] = names.into();
    }
    schema
}

/// Unset is not worth a word, and what a section holds by default its own keys tell.
fn without_empty_defaults(schema: &mut Schema) {
    if schema.get("default").is_some_and(|value| value.is_null() || value.is_object()) {
        schema.remove("default");
    }
}

/// As `std::net` reads it: no leading zeros.
const V4: &str = "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";

/// As ipnet reads it.
const CIDR_V4: &str = "((25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])/(3[0-2]|[0-2]?[0-9])";

/// The characters of it: its grammar is natd's affair.
const CIDR_V6: &str = "[0-9A-Fa-f]*:[0-9A-Fa-f:.]*/(12[0-8]|1[01][0-9]|0?[0-9]?[0-9])";

/// 1 to 65535.
const PORT: &str =
    "0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";

/// The units of <https://docs.rs/humantime/2/humantime/fn.parse_duration.html>.
const UNIT: &str = "(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|months?|M|years?|yrs?|y)";

/// How a type is written.
macro_rules! written {
    ($($name:ident: $schema:expr;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

fn text(description: &str, pattern: &str) -> Schema {
    json_schema!({"description": description, "type": "string", "pattern": format!("^({pattern})$")})
}

fn id(what: &str) -> Schema {
    text(&format!("The id of {what}, as the cloud gives it."), "[!-~]{1,255}")
}

/// An IPv4 address.
pub(super) enum Address {}
/// A block of addresses of either family.
pub(super) enum Block {}
/// A block of IPv4 addresses.
pub(super) enum BlockV4 {}
/// A time, above 0.
pub(super) enum Time {}
/// `HOST:PORT`.
pub(super) enum HostPort {}
/// Where to listen.
pub(super) enum Listen {}

written! {
    Address: text("An IPv4 address: \"10.10.1.10\".", V4);
    Block: text("A CIDR: \"10.10.0.0/16\", without bits behind its prefix.", &format!("{CIDR_V4}|{CIDR_V6}"));
    BlockV4: text("An IPv4 CIDR: \"10.10.0.0/16\".", CIDR_V4);
    NetworkSpec: text(
        "A CIDR, or \"vpc\": all blocks of the network that the cloud says this machine is in.",
        &format!("vpc|{CIDR_V4}|{CIDR_V6}")
    );
    Time: json_schema!({
        "description": "A time, above 0: \"30s\", \"10m\", \"1h 30m\".",
        "type": "string",
        "allOf": [
            {"pattern": format!("^(\\s*[0-9]+(\\s*\\.\\s*[0-9]+)?\\s*{UNIT})+\\s*$")},
            {"pattern": "[1-9]"},
        ],
    });
    HostPort: text("HOST:PORT: \"one.one.one.one:443\".", &format!(".+:{PORT}"));
    Listen: text(
        "ADDRESS:PORT: \"127.0.0.1:9750\", \"[::1]:9750\".",
        &format!("({V4}|\\[[0-9A-Fa-f:.]+(%[0-9]+)?\\]):({PORT}|0+)")
    );
    Ports: json_schema!({
        "description": "A port, or a range of them: 8443, \"8000-8100\".",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": format!("^{PORT}(-{PORT})?$")},
        ],
    });
    ForwardTarget: text("The private host, with or without a port: \"10.10.2.101:443\".", &format!("{V4}(:{PORT})?"));
    InterfaceChoice: json_schema!({
        "description": "The name of a network interface, or \"auto\".",
        "type": "string",
        "pattern": "^[!#$%&(),\\-.0-9;<=>?@A-Z\\[\\]^_`a-z{|}~]{1,15}$",
        "not": {"enum": [".", ".."]},
    });
    ProviderName: json_schema!({"description": "The name of a cloud, or \"none\" for this host alone.", "type": "string"});
    InstanceId: id("a machine");
    NetworkId: id("a network");
    SubnetId: id("a subnet");
    RouteTableId: id("a route table, or of a router that has one");
    Tag: json_schema!({"description": "A tag: \"KEY=VALUE\".", "type": "string", "pattern": "^[^=]+="});
    Secret: json_schema!({"description": "Never shown.", "type": "string", "writeOnly": true});
    OpenSettings: json_schema!({"type": "object", "additionalProperties": true});
    ConntrackMax: json_schema!({
        "description": "How many connections; \"auto\": by the memory of the machine.",
        "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": u32::MAX}],
    });
}

impl JsonSchema for TableSpec {
    fn schema_name() -> Cow<'static, str> {
        "TableSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let selector = generator.subschema_for::<Selector>();
        json_schema!({
            "description": "One way of naming tables: an id, or by tag, or by the subnets that they serve.",
            "anyOf": [generator.subschema_for::<RouteTableId>(), selector],
        })
    }
}

/// Tables that are named by something else than their ids.
struct Selector;

impl JsonSchema for Selector {
    fn schema_name() -> Cow<'static, str> {
        "TableSelector".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tag = generator.subschema_for::<Tag>();
        let subnets = generator.subschema_for::<Vec<SubnetId>>();
        let only = |key: &str, of: Schema| {
            json_schema!({
                "type": "object", "properties": {key: of}, "required": [key], "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "All tables of the network with that tag, or whichever serve those subnets.",
            "anyOf": [only("tag", tag), only("subnets", subnets)],
        })
    }
}

impl JsonSchema for Tables {
    fn schema_name() -> Cow<'static, str> {
        "Tables".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One selector, or an array in which ids and selectors mix.",
            "anyOf": [generator.subschema_for::<Vec<TableSpec>>(), generator.subschema_for::<Selector>()],
        })
    }
}

impl JsonSchema for Routes {
    fn schema_name() -> Cow<'static, str> {
        "Routes".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<super::RouteGroup>();
        json_schema!({
            "description": "One group of routes, [routes], or several, [[routes]].",
            "anyOf": [one, {"type": "array", "items": one}],
        })
    }
}
