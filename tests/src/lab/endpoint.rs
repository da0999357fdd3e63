//! A cloud's API as instances reach it over HTTP: in front of its server, with a log of every call and with faults on
//! demand.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

use super::calls::{Call, Calls, Fault, Refusal};
use super::http::{Request, Response, Server};
use super::namespace::Namespace;

/// How an API is spoken.
pub trait Dialect: Send + Sync + 'static {
    /// What a request asks for.
    fn call(&self, request: &Request) -> Call;

    /// How the API says no to it.
    fn refuse(&self, call: &Call, refusal: &Refusal) -> Response;

    /// Has the API carry it out, and nudges the fabric after a write.
    ///
    /// # Errors
    /// If the API's server can't be reached.
    fn carry_out(&self, call: &Call, request: &Request) -> Result<Response>;
}

/// The endpoint. It stops when dropped.
pub struct Endpoint {
    router: Namespace,
    address: SocketAddr,
    front: Arc<Front>,
    server: Mutex<Option<Server>>,
}

struct Front {
    calls: Calls,
    /// The last answer to each action about the same thing.
    answers: Mutex<BTreeMap<(String, String), Response>>,
    dialect: Box<dyn Dialect>,
}

impl Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Listens at `address` in the router.
    pub fn start(
        router: &Namespace,
        address: SocketAddr,
        calls: &Calls,
        dialect: impl Dialect,
    ) -> Result<Self> {
        let front = Arc::new(Front {
            calls: calls.clone(),
            answers: Mutex::default(),
            dialect: Box::new(dialect),
        });
        let endpoint = Self { router: router.clone(), address, front, server: Mutex::default() };
        endpoint.resume()?;
        Ok(endpoint)
    }

    /// Refuses connections from now on.
    pub fn interrupt(&self) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes connections again.
    pub fn resume(&self) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            let front = Arc::clone(&self.front);
            *server = Some(Server::start(&self.router, self.address, move |request| {
                front.answer(&request)
            })?);
        }
        Ok(())
    }
}

impl Front {
    fn answer(&self, request: &Request) -> Option<Response> {
        let call = self.dialect.call(request);
        let (place, fault) = self.calls.come_in(&call);
        let response = self.respond(&call, request, fault.as_ref());
        self.calls.answer(place, response.as_ref().map(|response| response.status));
        if let Some(Fault::DelayAnswer(time)) = fault {
            thread::sleep(time);
        }
        response
    }

    fn respond(&self, call: &Call, request: &Request, fault: Option<&Fault>) -> Option<Response> {
        let about = (call.action.clone(), request.target.clone());
        match fault {
            Some(Fault::Refuse(refusal)) => return Some(self.dialect.refuse(call, refusal)),
            Some(Fault::DropBefore) => return None,
            Some(Fault::Delay(time)) => thread::sleep(*time),
            Some(Fault::Outdated) => {
                if let Some(outdated) = self.answers().get(&about) {
                    return Some(outdated.clone());
                }
            }
            Some(Fault::Twice) => {
                let _first = self.dialect.carry_out(call, request);
            }
            Some(Fault::DropAfter | Fault::DelayAnswer(_) | Fault::Altered { .. }) | None => {}
        }
        let response = self.dialect.carry_out(call, request);
        let mut response =
            response.unwrap_or_else(|error| Response::text(502, format!("{error:#}")));
        self.answers().insert(about, response.clone());
        match fault {
            Some(Fault::DropAfter) => None,
            Some(Fault::Altered { what, by }) => {
                let text = String::from_utf8_lossy(&response.body).replace(what, by);
                response.body = text.into_bytes();
                Some(response)
            }
            _ => Some(response),
        }
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<(String, String), Response>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
