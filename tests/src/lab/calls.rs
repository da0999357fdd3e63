//! The log of the calls that instances make of a cloud's API, and the faults that are to befall calls to come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Stands for every action where a fault is ordered.
pub const ANY: &str = "*";

/// One call that an instance made.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is done, in the cloud's words: `CreateRoute`. One name is either always a write or never.
    pub action: String,
    /// Whether the action changes the cloud.
    pub write: bool,
    /// What else the call says, as far as a test may want to know: form fields, the object's id.
    pub parameters: BTreeMap<String, String>,
    pub user_agent: String,
    /// When it came in.
    pub at: Instant,
    /// What it is answered with, once the API has carried it out; `None` where the connection was dropped.
    pub status: Option<u16>,
}

impl Call {
    /// A call that came in just now.
    pub fn new(action: impl Into<String>, write: bool) -> Self {
        Self {
            action: action.into(),
            write,
            parameters: BTreeMap::new(),
            user_agent: String::new(),
            at: Instant::now(),
            status: None,
        }
    }

    /// Whether the call was one that changes the cloud, answered well or not.
    pub fn is_write(&self) -> bool {
        self.write
    }
}

/// The API's "no". Each cloud has its own words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many calls.
    Throttled,
    /// A permission is missing.
    Denied,
    /// Who calls isn't known, or no longer.
    Unauthorised,
    /// With this status and code, in the cloud's own shape.
    As { status: u16, code: String, message: String },
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The API says no, and nothing happens.
    Refuse(Refusal),
    /// The connection is dropped before the call reaches the API.
    DropBefore,
    /// The call is carried out and its answer lost.
    DropAfter,
    /// The call is carried out late.
    Delay(Duration),
    /// The call is carried out at once and answered late: time to kill who waits for the answer.
    DelayAnswer(Duration),
    /// The call is carried out twice, and answered as the second time.
    Twice,
    /// Nothing happens, and the answer is that of the last call of the same action.
    Outdated,
    /// In the text of the answer, `by` stands wherever `what` was.
    Altered { what: String, by: String },
}

impl Fault {
    pub fn throttled() -> Self {
        Self::Refuse(Refusal::Throttled)
    }

    pub fn denied() -> Self {
        Self::Refuse(Refusal::Denied)
    }

    pub fn unauthorised() -> Self {
        Self::Refuse(Refusal::Unauthorised)
    }
}

/// The log and the faults, shared by all servers of a cloud.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Vec<Call>>,
    faults: Mutex<Vec<(String, Fault, usize)>>,
}

/// A logged call's place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    number: usize,
    at: Instant,
}

impl Calls {
    /// The calls so far, in the order in which they came in.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.0.log).clone()
    }

    pub fn forget(&self) {
        lock(&self.0.log).clear();
    }

    /// Has the next `times` calls of `action` go wrong (`usize::MAX`: all of them), [`ANY`] action's too.
    /// Faults of one action are used up in the order in which they were given.
    pub fn fail(&self, action: &str, fault: Fault, times: usize) {
        lock(&self.0.faults).push((action.to_owned(), fault, times));
    }

    /// Has nothing go wrong any more.
    pub fn heal(&self) {
        lock(&self.0.faults).clear();
    }

    /// Takes a call into the log. Gives its place there, and what is to go wrong with it.
    pub fn come_in(&self, call: &Call) -> (Place, Option<Fault>) {
        let mut log = lock(&self.0.log);
        log.push(call.clone());
        let place = Place { number: log.len() - 1, at: call.at };
        drop(log);
        (place, self.next_fault(&call.action))
    }

    /// Notes what a call is answered with.
    pub fn answer(&self, place: Place, status: Option<u16>) {
        // The log may have been cleared in the meantime.
        let mut log = lock(&self.0.log);
        if let Some(call) = log.get_mut(place.number).filter(|call| call.at == place.at) {
            call.status = status;
        }
    }

    fn next_fault(&self, action: &str) -> Option<Fault> {
        let mut faults = lock(&self.0.faults);
        let is_next =
            |(of, _, left): &&mut (String, Fault, usize)| (of == action || of == ANY) && *left > 0;
        let (_, fault, left) = faults.iter_mut().find(is_next)?;
        *left -= 1;
        Some(fault.clone())
    }
}

/// A thread that panicked while it held a lock leaves a list that is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
