//! The command line: commands and flags, as clap knows them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use natd_core::model::RouteTableId;

/// What each exit code means.
const EXIT_CODES: &str = "\
Exit codes:
  0   done, or nothing to do
  1   failed
  2   changes are pending (plan --detailed-exitcode only)
  3   refused for safety, nothing was changed; the message says what needs your word
  4   partly: some is served, some was refused or failed
  64  the command line or the configuration can't be used";

/// Turns this machine into the NAT gateway of its private subnets, and keeps it one.
///
/// Without a command, natd runs as the daemon.
#[derive(Debug, Parser)]
#[command(name = "natd", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// What to do; the default is `run`.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Read this configuration file, in place of /etc/natd/natd.toml and /etc/natd/conf.d
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The cloud that this machine is in
    #[arg(long, global = true, value_name = "NAME", help = clouds())]
    pub provider: Option<String>,

    /// The form of what a command prints
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,

    /// How much is logged: error, warn, info, debug, trace; the default is info for run, and warn
    /// for the other commands, which print what they do
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<tracing::Level>,

    /// The form of the log, which goes to standard error
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub log_format: Format,

    /// Prefix of all files that natd reads and writes, for images and tests
    #[arg(long, global = true, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
}

/// The clouds that there are.
fn clouds() -> String {
    let names = natd_providers::names().join(", ");
    format!("The cloud that this machine is in: {names}, or none for this host alone")
}

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What natd can be asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make this machine the NAT gateway, and keep it so until told to stop
    Run,
    /// Show what apply would do; changes nothing
    Plan {
        /// Exit with 2 if changes are pending
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Make this machine the NAT gateway, once
    Apply {
        /// Overwrite what somebody has edited of natd's own part of a file
        #[arg(long)]
        force: bool,
    },
    /// Check that NAT works: rules, forwarding, interfaces, routes, the way out; changes nothing
    Verify,
    /// Tell whether NAT works, by what, and what to know; changes nothing
    Status,
    /// Give back everything that natd has changed
    Down {
        /// Remove what somebody has edited of natd's own part of a file
        #[arg(long)]
        force: bool,
    },
    /// Try what the cloud lets natd do
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Print the least-privilege policy that the configuration takes, in the cloud's own form
    Policy,
    /// Print completions, for your shell to load
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page, for man(1)
    Man,
    /// Check or show the configuration, or print an example or the schema of one
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What can be asked of the cloud.
#[derive(Debug, Clone, Subcommand)]
pub enum ProviderCommand {
    /// Check what a provider promises, and each permission; changes nothing without --write
    Check {
        /// Try what changes something too: routes to documentation addresses in one table, and the
        /// source/destination check of interfaces whose check is on; all of it is taken back
        #[arg(long, requires = "table")]
        write: bool,
        /// The route table to write to
        #[arg(long, requires = "write", value_name = "ID")]
        table: Option<RouteTableId>,
    },
}

/// What can be asked of the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Say whether it can be used; asks neither cloud nor host
    Check,
    /// Print it as it results from all layers, defaults included
    Show,
    /// Print its JSON schema, by which editors complete and check it
    Schema,
    /// Print a configuration that shows every key with its default, for a start
    Example,
}
