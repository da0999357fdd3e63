//! Any other cloud: a program that speaks for it, over JSON-RPC 2.0 on its standard input and output.
//!
//! `docs/plugin-protocol.md` tells the authors of such programs what natd expects and guarantees.
//!
//! | file | holds |
//! |---|---|
//! | `wire` | requests and answers, as they are written |
//! | `envelope` | what JSON-RPC puts around them, and errors |
//! | `schema` | the published JSON schema, made of the above |
//! | `process` | the program as a process: started, ended, never left behind |
//! | `lines` | lines of bounded length, read from a pipe |
//! | `words` | its standard error, which goes to natd's log |
//! | `session` | one life of the program: calls and their answers |
//! | `lives` | the program over all its lives: started again with backoff |
//! | `facts` | what it answers, in natd's own terms |
//! | `interface`, `table` | what it listed, as the traits want it |

mod envelope;
mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod interface;
mod lines;
mod lives;
mod process;
mod schema;
mod session;
mod table;
mod wire;
mod words;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use natd_core::{
    cloud::{Instance, Interface, Provider, RouteTable, RouteTables, TableSelector},
    config::{self, Config},
    error::Result,
};

use self::{
    interface::Port,
    lives::{Caller, Lives},
    table::Table,
};

use crate::kind::Kind;

pub use self::schema::schema;

/// How patient natd is with a plugin. How long one call may take is `plugin.timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The least wait before a plugin that has ended is started again; doubles with each time, and
    /// up to as much again is added by chance.
    pub first_backoff: Duration,
    /// The most that this wait grows to. A plugin that has lived for longer begins anew.
    pub longest_backoff: Duration,
    /// How long a plugin may take to end by itself once its standard input is closed, and then
    /// again after SIGTERM.
    pub farewell: Duration,
    /// The longest line that is read from its standard output, in bytes.
    pub longest_line: usize,
    /// Attempts of a call that the plugin answers with `throttled`, the first included.
    pub attempts: usize,
    /// The least wait before the second of them; doubles too.
    pub first_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_mins(1),
            farewell: Duration::from_secs(1),
            longest_line: 16 << 20,
            attempts: 5,
            first_retry: Duration::from_secs(1),
        }
    }
}

/// The kind of cloud that a program speaks for. Which permissions it needs only the program knows.
pub struct Program;

#[async_trait]
impl Kind for Program {
    fn name(&self) -> &'static str {
        "plugin"
    }

    async fn connect(&self, config: &Config) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(Plugin::connect(config.plugin.clone()).await?))
    }
}

/// A cloud that a plugin speaks for.
pub struct Plugin {
    caller: Caller,
}

impl Plugin {
    /// Starts the program and agrees with it on the protocol.
    ///
    /// # Errors
    /// `NotFound` or `Denied` if `plugin.command` can't be executed; `Unsupported` if it speaks
    /// another version of the protocol; `Unreachable` if it ends or doesn't answer in time;
    /// `Invalid` if it answers nonsense; or what it says itself.
    pub async fn connect(options: config::Plugin) -> Result<Self> {
        Self::connect_with(options, Limits::default()).await
    }

    /// As [`Plugin::connect`], with other limits on time and size.
    ///
    /// # Errors
    /// As for [`Plugin::connect`].
    pub async fn connect_with(options: config::Plugin, limits: Limits) -> Result<Self> {
        let caller = Caller::new(Lives::new(options, limits)?);
        caller.start().await?;
        Ok(Self { caller })
    }
}

#[async_trait]
impl Provider for Plugin {
    fn name(&self) -> &'static str {
        "plugin"
    }

    async fn instance(&self) -> Result<Instance> {
        let doing = "ask the plugin who this machine is";
        let answer = self.caller.call(doing, wire::INSTANCE, &wire::Nothing {}).await?;
        facts::instance(answer).map_err(|why| self.caller.nonsense(doing, wire::INSTANCE, &why))
    }

    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        let doing = "list this machine's interfaces";
        let answer: wire::InterfacesResult =
            self.caller.call(doing, wire::INTERFACES, &wire::Nothing {}).await?;
        let port = |listed| {
            let facts = facts::interface(listed)
                .map_err(|why| self.caller.nonsense(doing, wire::INTERFACES, &why))?;
            Ok(Arc::new(Port::new(facts, self.caller.clone())) as Arc<dyn Interface>)
        };
        answer.interfaces.into_iter().map(port).collect()
    }

    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables> {
        if *selector == TableSelector::default() {
            return Ok(RouteTables::default());
        }
        let doing = "list route tables";
        let asked = wire::TableSelector::from(selector);
        let answer = self.caller.call(doing, wire::ROUTE_TABLES, &asked).await?;
        let (found, missing) = facts::route_tables(answer, selector)
            .map_err(|why| self.caller.nonsense(doing, wire::ROUTE_TABLES, &why))?;
        let table = |facts| Arc::new(Table::new(facts, self.caller.clone())) as Arc<dyn RouteTable>;
        Ok(RouteTables { found: found.into_iter().map(table).collect(), missing })
    }
}
