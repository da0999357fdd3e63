//! `natd policy`: the least-privilege policy that the configuration takes.

use natd_core::error::{Error, Kind};

use crate::{
    args::Common,
    exit::Exit,
    output::print_json,
    session::{self, Obstacle},
};

/// Prints it as JSON. Neither cloud nor host is asked.
pub fn run(common: &Common) -> Result<Exit, Obstacle> {
    let config = session::configuration(common)?;
    let policy = natd_providers::kind(&config)?.and_then(|kind| kind.policy(&config));
    let Some(policy) = policy else {
        let provider = config.provider.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(Error::new(
            Kind::Unsupported,
            "print a policy",
            format!("provider = \"{provider}\" has no permissions of its own"),
        )
        .into());
    };
    print_json(&policy);
    Ok(Exit::Done)
}
