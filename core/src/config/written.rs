//! Addresses, blocks and ports, whose errors repeat what was written: those of the standard library
//! and of ipnet don't.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};

use crate::ruleset::Ports;

/// Blocks of addresses.
pub(super) fn blocks<'de, D: Deserializer<'de>, N: FromStr>(list: D) -> Result<Vec<N>, D::Error> {
    parsed(list, "a CIDR such as \"10.10.0.0/16\"")
}

/// IPv4 addresses.
pub(super) fn addresses<'de, D: Deserializer<'de>, A: FromStr>(
    list: D,
) -> Result<Vec<A>, D::Error> {
    parsed(list, "an IPv4 address such as \"10.10.1.10\"")
}

fn parsed<'de, D, T>(list: D, form: impl Display) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let parse = |text: String| {
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not {form}")))
    };
    Vec::deserialize(list)?.into_iter().map(parse).collect()
}

/// A port as a number, or ports as a string.
pub(super) fn ports<'de, D: Deserializer<'de>>(ports: D) -> Result<Ports, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(ports)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map_err(D::Error::custom)
}
