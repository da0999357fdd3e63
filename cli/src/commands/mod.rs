//! One file a command. Each gives its exit code.

mod apply;
mod completions;
mod config;
mod down;
mod man;
mod plan;
mod policy;
pub mod provider;
mod run;
mod status;
mod verify;

use crate::{
    args::{Cli, Command, Common, ProviderCommand},
    exit::Exit,
    output::complain,
    session::Obstacle,
};

/// Runs the command.
pub async fn run(cli: Cli) -> Exit {
    let Cli { command, common } = cli;
    match command.unwrap_or(Command::Run) {
        Command::Run => Box::pin(run::run(&common)).await,
        Command::Plan { detailed_exitcode } => plan::run(&common, detailed_exitcode).await,
        Command::Apply { force } => apply::run(&common, force).await,
        Command::Verify => verify::run(&common).await,
        Command::Status => Box::pin(status::run(&common)).await,
        Command::Down { force } => down::run(&common, force).await,
        Command::Provider(ProviderCommand::Check { write, table }) => {
            provider::check(&common, write.then_some(table).flatten()).await
        }
        Command::Policy => policy::run(&common),
        Command::Completions { shell } => Ok(completions::run(shell)),
        Command::Man => man::run(),
        Command::Config(command) => config::run(&common, command),
    }
    .unwrap_or_else(|obstacle| match obstacle {
        Obstacle::Configuration(error) => {
            complain(&format!("the configuration can't be used\n{error}"));
            Exit::Usage
        }
        Obstacle::Failure(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    })
}

/// A gateway that has been looked at, or the exit code of why it could not be.
async fn look(common: &Common) -> Result<Result<Looked, Exit>, Obstacle> {
    let config = crate::session::configuration(common)?;
    let mut gateway = crate::session::gateway(config, &common.root).await?;
    let instance = gateway.instance().await?.map(|instance| instance.id);
    let file = natd_core::journal::JournalFile::peek(&common.root, instance.as_ref())?;
    let seen = gateway
        .look(&file, natd_agent::gateway::Look::Everything, |_, _| {
            std::collections::BTreeSet::new()
        })
        .await;
    Ok(match seen {
        Ok(view) => Ok(Looked { gateway, view }),
        Err(trouble) => {
            complain(&trouble.to_string());
            Err(Exit::of_trouble(&trouble))
        }
    })
}

/// What `plan`, `verify` and `status` go by.
struct Looked {
    gateway: natd_agent::gateway::Gateway,
    view: natd_agent::gateway::View,
}
