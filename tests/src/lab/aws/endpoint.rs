//! The EC2 API as instances reach it: in front of moto, with a log of every call and with faults on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::http::{Request, Response, Server};
use super::super::namespace::Namespace;
use super::super::topology::ENDPOINT;
use super::api::{Api, form, is_write};
use super::strict;

/// One call that an instance made.
#[derive(Clone, Debug)]
pub struct ApiCall {
    pub action: String,
    /// All of the form's other fields.
    pub parameters: BTreeMap<String, String>,
    pub user_agent: String,
    /// When it came in.
    pub at: Instant,
    /// What it is answered with, once the API has carried it out; `None` where the connection was dropped.
    pub status: Option<u16>,
}

impl ApiCall {
    /// Whether the call was one that changes the cloud, answered well or not.
    pub fn is_write(&self) -> bool {
        is_write(&self.action)
    }
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The API says no, and nothing happens: `RequestLimitExceeded` with 503, `UnauthorizedOperation` with 403.
    Refuse { status: u16, code: String },
    /// The connection is dropped before the call reaches the API.
    DropBefore,
    /// The call is carried out and its answer lost.
    DropAfter,
    /// The call is carried out late.
    Delay(Duration),
    /// The call is carried out at once and answered late: time to kill who waits for the answer.
    DelayAnswer(Duration),
}

impl Fault {
    /// As EC2 answers who calls too often.
    pub fn throttled() -> Self {
        Self::Refuse { status: 503, code: "RequestLimitExceeded".to_owned() }
    }

    /// As EC2 answers who lacks a permission.
    pub fn denied() -> Self {
        Self::Refuse { status: 403, code: "UnauthorizedOperation".to_owned() }
    }
}

/// The endpoint. It stops when dropped.
#[derive(Debug)]
pub struct Endpoint {
    shared: Arc<Shared>,
    _server: Server,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    calls: Mutex<Vec<ApiCall>>,
    faults: Mutex<Vec<(String, Fault, usize)>>,
}

impl Endpoint {
    /// Listens in the router, and passes on to `api`.
    pub fn start(router: &Namespace, api: Api) -> Result<Self> {
        let shared = Arc::new(Shared { api, calls: Mutex::default(), faults: Mutex::default() });
        let serving = Arc::clone(&shared);
        let server = Server::start(router, ENDPOINT, move |request| serving.answer(&request))?;
        Ok(Self { shared, _server: server })
    }

    /// The calls so far, in the order in which they came in.
    pub fn calls(&self) -> Vec<ApiCall> {
        lock(&self.shared.calls).clone()
    }

    pub fn forget_calls(&self) {
        lock(&self.shared.calls).clear();
    }

    /// Has the next `times` calls of `action` go wrong (`usize::MAX`: all of them).
    /// Faults of one action are used up in the order in which they were given.
    pub fn fail(&self, action: &str, fault: Fault, times: usize) {
        lock(&self.shared.faults).push((action.to_owned(), fault, times));
    }

    /// Has nothing go wrong any more.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }
}

impl Shared {
    fn answer(&self, request: &Request) -> Option<Response> {
        let mut parameters = form(&request.body);
        let call = ApiCall {
            action: parameters.remove("Action").unwrap_or_default(),
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
            parameters,
            at: Instant::now(),
            status: None,
        };
        let number = {
            let mut calls = lock(&self.calls);
            calls.push(call.clone());
            calls.len() - 1
        };
        let fault = self.next_fault(&call.action);
        let response = self.respond(&call, request, fault.as_ref());
        // The log may have been cleared in the meantime.
        if let Some(logged) =
            lock(&self.calls).get_mut(number).filter(|logged| logged.at == call.at)
        {
            logged.status = response.as_ref().map(|response| response.status);
        }
        if let Some(Fault::DelayAnswer(time)) = fault {
            thread::sleep(time);
        }
        response
    }

    fn respond(
        &self,
        call: &ApiCall,
        request: &Request,
        fault: Option<&Fault>,
    ) -> Option<Response> {
        match fault {
            Some(Fault::Refuse { status, code }) => {
                return Some(refusal(*status, code, "by the lab's order"));
            }
            Some(Fault::DropBefore) => return None,
            Some(Fault::Delay(time)) => thread::sleep(*time),
            Some(Fault::DropAfter | Fault::DelayAnswer(_)) | None => {}
        }
        let response = match strict::objection(&self.api, call) {
            Ok(None) => self.api.forward(&call.action, request),
            Ok(Some((code, message))) => Ok(refusal(400, code, &message)),
            Err(error) => Err(error),
        };
        if matches!(fault, Some(Fault::DropAfter)) {
            return None;
        }
        match response {
            Ok(response) => Some(response),
            Err(error) => Some(refusal(500, "InternalError", &format!("{error:#}"))),
        }
    }

    fn next_fault(&self, action: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let (_, fault, left) = faults.iter_mut().find(|(of, _, left)| of == action && *left > 0)?;
        *left -= 1;
        Some(fault.clone())
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>lab-0000</RequestID></Response>"
    );
    Response::new(status, "text/xml;charset=UTF-8", body)
}

/// A thread that panicked while it held a lock leaves a list that is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
