//! How the EC2 API is spoken, between instances and moto: actions by the form's field, refusals in XML.

use anyhow::Result;

use super::super::calls::{Call, Refusal};
use super::super::endpoint::Dialect;
use super::super::http::{Request, Response};
use super::api::{Api, form, is_write};
use super::strict;

/// EC2's Query protocol.
#[derive(Debug)]
pub struct Query(pub Api);

impl Dialect for Query {
    fn call(&self, request: &Request) -> Call {
        let mut parameters = form(&request.body);
        let action = parameters.remove("Action").unwrap_or_default();
        let write = is_write(&action);
        let user_agent = request.header("user-agent").unwrap_or_default().to_owned();
        Call { parameters, user_agent, ..Call::new(action, write) }
    }

    fn refuse(&self, _call: &Call, refusal: &Refusal) -> Response {
        let by_order = "by the lab's order";
        match refusal {
            Refusal::Throttled => no(503, "RequestLimitExceeded", by_order),
            Refusal::Denied => no(403, "UnauthorizedOperation", by_order),
            Refusal::Unauthorised => no(401, "AuthFailure", by_order),
            Refusal::As { status, code, message } => no(*status, code, message),
        }
    }

    fn carry_out(&self, call: &Call, request: &Request) -> Result<Response> {
        let response = match strict::objection(&self.0, call) {
            Ok(None) => self.0.forward(&call.action, request),
            Ok(Some((code, message))) => Ok(no(400, code, &message)),
            Err(error) => Err(error),
        };
        Ok(response.unwrap_or_else(|error| no(500, "InternalError", &format!("{error:#}"))))
    }
}

fn no(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>lab-0000</RequestID></Response>"
    );
    Response::new(status, "text/xml;charset=UTF-8", body)
}
