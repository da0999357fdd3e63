//! Whatever a plugin writes: an answer natd understands, or one line that says what is wrong with it; and what natd
//! carries through goes back to the plugin as it came.

use std::future::Future;

use natd_core::{
    cloud::{InterfaceFacts, TableFacts, TableSelector},
    error::Error,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    envelope::{Answer, shown},
    facts,
    lines::{self, Line},
    wire,
};
use crate::fuzzing::shared::text;

/// The longest line that is read, in bytes.
const LONGEST: usize = 2000;
/// Longer than an error with all its parts.
const MOST_TOLD: usize = 30_000;

/// What a plugin writes to its standard output.
///
/// # Panics
/// Where a promise is broken.
pub fn plugin(input: &[u8]) {
    let mut pipe = input;
    let mut read = 0;
    loop {
        match at_once(lines::next(&mut pipe, LONGEST)) {
            Some(Line::Whole(line)) => {
                read += line.len();
                answered(&line);
            }
            Some(Line::Begun(line)) => {
                assert_eq!(line.len(), LONGEST + 1);
                one_line(&shown(&line));
                break;
            }
            Some(Line::End) | None => {
                let ends = input.split(|byte| *byte == b'\n').count() - 1;
                assert_eq!(read + ends, input.len(), "something of it is lost");
                break;
            }
        }
    }
}

fn answered(line: &[u8]) {
    one_line(&shown(line));
    match Answer::read(line) {
        Err(why) => one_line(&why),
        Ok(Answer { outcome: Err(error), .. }) => told(&error.into_error("try")),
        Ok(Answer { outcome: Ok(value), .. }) => fits(&value),
    }
}

/// As an answer to each of the methods.
fn fits(value: &Value) {
    if let Some(Err(why)) = read(value).map(facts::instance) {
        one_line(&why);
    }
    if let Some(wire::InterfacesResult { interfaces }) = read(value) {
        for answer in interfaces {
            match facts::interface(answer) {
                Ok(InterfaceFacts { source_dest_check, security, .. }) => {
                    source_dest_check.lock().into_iter().for_each(told);
                    security.err().iter().for_each(told);
                }
                Err(why) => one_line(&why),
            }
        }
    }
    let selector = TableSelector {
        ids: ["rtb-1", "rtb-absent"].into_iter().filter_map(|id| id.parse().ok()).collect(),
        subnets: "subnet-1".parse().into_iter().collect(),
        ..TableSelector::default()
    };
    if let Some(answer) = read(value) {
        match facts::route_tables(answer, &selector) {
            Ok((found, missing)) => {
                found.iter().for_each(goes_back);
                missing.iter().for_each(told);
            }
            Err(why) => one_line(&why),
        }
    }
    read::<wire::InitializeResult>(value);
    read::<wire::CheckResult>(value);
}

/// What natd would hand back in `put` is what it was told.
fn goes_back(table: &TableFacts) {
    for route in &table.routes {
        assert_eq!(route.destination.trunc(), route.destination);
        let written = wire::NextHop::from(&route.next_hop);
        assert_eq!(facts::next_hop(&written).as_ref(), Ok(&route.next_hop));
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

fn told(error: &Error) {
    one_line(&error.to_string());
}

fn one_line(told: &str) {
    assert!(told.chars().count() < MOST_TOLD, "{} characters: {told}", told.chars().count());
    assert!(!told.chars().any(char::is_control), "it is not one line: {told:?}");
    assert_eq!(text(told.as_bytes()), told);
}

/// What is in memory is there at once.
fn at_once<T>(future: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => outcome.ok(),
        std::task::Poll::Pending => None,
    }
}
