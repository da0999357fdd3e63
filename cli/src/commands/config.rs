//! `natd config`: checks or shows the configuration, an example of one, its schema.

use natd_core::{
    config::ConfigError,
    error::{Error, Kind},
};

use crate::{
    args::{Common, ConfigCommand, Format},
    exit::Exit,
    output::{print, print_json},
    session::{self, Obstacle},
};

/// Every key with its default.
const EXAMPLE: &str = include_str!("../../../deploy/natd.toml");

/// Checks or shows it.
pub fn run(common: &Common, command: ConfigCommand) -> Result<Exit, Obstacle> {
    match command {
        ConfigCommand::Example => {
            print(EXAMPLE.trim_end());
            return Ok(Exit::Done);
        }
        ConfigCommand::Schema => {
            print_json(&natd_core::config::schema(&natd_providers::names()));
            return Ok(Exit::Done);
        }
        ConfigCommand::Check | ConfigCommand::Show => {}
    }
    let config = session::configuration(common);
    match (command, common.output) {
        (ConfigCommand::Check, Format::Text) => {
            config?;
            print("the configuration can be used");
        }
        (ConfigCommand::Check, Format::Json) => {
            let reasons = config.err().map(|ConfigError { reasons }| reasons).unwrap_or_default();
            let usable = reasons.is_empty();
            print_json(&serde_json::json!({ "usable": usable, "reasons": reasons }));
            return Ok(if usable { Exit::Done } else { Exit::Usage });
        }
        (ConfigCommand::Example | ConfigCommand::Schema, _) => {}
        (ConfigCommand::Show, Format::Json) => print_json(&config?),
        (ConfigCommand::Show, Format::Text) => {
            let text = toml::to_string(&config?)
                .map_err(|error| Error::new(Kind::Invalid, "show the configuration", error))?;
            print(text.trim_end());
        }
    }
    Ok(Exit::Done)
}
