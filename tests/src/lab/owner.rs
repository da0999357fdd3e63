//! What the owner of the cloud does by hand, past natd: routes and source/destination checks; and the API's outages.
//!
//! What changes something returns once the network has followed. Ids are the cloud's; see [`Cloud`](super::cloud::Cloud)
//! for what a route targets.

use anyhow::{Context, Result};

use super::Lab;

/// The destination of a default route.
pub const DEFAULT: &str = "0.0.0.0/0";

impl Lab {
    /// What the route to `destination` in the table of that id targets, by its id.
    pub fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        self.cloud.route(table, destination)
    }

    /// Points a route at an interface or [elsewhere](super::ids::Ids::elsewhere), whether it was there or not.
    pub fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        self.cloud.point_route(table, destination, target)?;
        self.sync()
    }

    /// Takes a route away.
    pub fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        self.cloud.remove_route(table, destination)?;
        self.sync()
    }

    /// Has instances find nobody listening at the API, until [`resume_api`](Self::resume_api).
    pub fn interrupt_api(&self) -> Result<()> {
        self.cloud.interrupt()
    }

    /// Has the API listen again.
    pub fn resume_api(&self) -> Result<()> {
        self.cloud.resume()
    }

    /// Whether the cloud has a source/destination check at all.
    pub fn has_check(&self) -> Result<bool> {
        Ok(self.cloud.check(self.ids.interface("nat/eth0"))?.is_some())
    }

    /// Whether the source/destination check of the interface of that id is on.
    ///
    /// # Errors
    /// If the cloud has no such check.
    pub fn checks(&self, interface: &str) -> Result<bool> {
        let check = self.cloud.check(interface)?;
        check.with_context(|| format!("{} has no source/destination check", self.cloud.kind()))
    }

    /// Switches it.
    pub fn set_check(&self, interface: &str, on: bool) -> Result<()> {
        self.cloud.set_check(interface, on)?;
        self.sync()
    }

    /// A new route table in the lab's network, that serves no subnet yet, by its id.
    pub fn new_table(&self) -> Result<String> {
        self.cloud.new_table()
    }
}
