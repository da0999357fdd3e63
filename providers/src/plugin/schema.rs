//! The published JSON schema of the protocol, made of the types that natd reads and writes.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    envelope::ErrorObject,
    wire::{
        CHECK, CheckParams, CheckResult, INITIALIZE, INSTANCE, INTERFACES, InitializeParams,
        InitializeResult, InstanceResult, InterfacesResult, Nothing, PROTOCOL, PUT, PutParams,
        REMOVE, ROUTE_TABLES, RemoveParams, RouteTablesResult, SET_CHECK, SetCheckParams,
        TableSelector,
    },
};

/// The schema of one line in either direction, JSON Schema 2020-12. `methods` beside it tells which
/// of `$defs` are the parameters and the result of each method.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let error = generator.subschema_for::<ErrorObject>();
    let methods = [
        method::<InitializeParams, InitializeResult>(&mut generator, INITIALIZE),
        method::<Nothing, InstanceResult>(&mut generator, INSTANCE),
        method::<Nothing, InterfacesResult>(&mut generator, INTERFACES),
        method::<TableSelector, RouteTablesResult>(&mut generator, ROUTE_TABLES),
        method::<SetCheckParams, Nothing>(&mut generator, SET_CHECK),
        method::<CheckParams, CheckResult>(&mut generator, CHECK),
        method::<PutParams, Nothing>(&mut generator, PUT),
        method::<RemoveParams, Nothing>(&mut generator, REMOVE),
    ];
    let requests: Vec<Value> = methods.iter().map(Method::request).collect();
    let results: Vec<&Value> = methods.iter().map(|method| &method.result).collect();
    let table: Map<String, Value> = methods
        .iter()
        .map(|method| {
            let Method { name, params, result } = method;
            ((*name).to_owned(), json!({"params": params, "result": result}))
        })
        .collect();
    let mut definitions = generator.take_definitions(true);
    definitions.insert(
        "Request".to_owned(),
        json!({"description": "One line from natd.", "oneOf": requests}),
    );
    definitions.insert(
        "Answer".to_owned(),
        json!({
            "description": "One line from the plugin: just one of result and error.",
            "type": "object",
            "properties": {
                "jsonrpc": {"const": "2.0"},
                "id": {"description": "That of the request.", "type": "integer"},
                "result": {"anyOf": results},
                "error": error,
            },
            "required": ["jsonrpc", "id"],
            "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("natd's plugin protocol, version {PROTOCOL}"),
        "description": "One line in either direction. `methods` names the parameters and the result of each method; fields that are not named here are passed over.",
        "anyOf": [{"$ref": "#/$defs/Request"}, {"$ref": "#/$defs/Answer"}],
        "methods": table,
        "$defs": definitions,
    })
}

struct Method {
    name: &'static str,
    params: Schema,
    result: Value,
}

impl Method {
    fn request(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "jsonrpc": {"const": "2.0"},
                "id": {"type": "integer"},
                "method": {"const": self.name},
                "params": self.params,
            },
            "required": ["jsonrpc", "id", "method", "params"],
        })
    }
}

fn method<P: JsonSchema, R: JsonSchema>(
    generator: &mut SchemaGenerator,
    name: &'static str,
) -> Method {
    let result = generator.subschema_for::<R>();
    let result = if R::schema_name() == Nothing::schema_name() {
        json!({"anyOf": [result, {"type": "null"}]})
    } else {
        result.to_value()
    };
    Method { name, params: generator.subschema_for::<P>(), result }
}
