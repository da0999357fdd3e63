//! An interface that a plugin has listed, and its source/destination check.

use async_trait::async_trait;
use natd_core::{
    cloud::{CheckSettings, Interface, InterfaceFacts},
    error::Result,
};

use super::{lives::Caller, wire};

/// An interface as it was listed.
pub(super) struct Port {
    facts: InterfaceFacts,
    caller: Caller,
}

impl Port {
    pub(super) fn new(facts: InterfaceFacts, caller: Caller) -> Self {
        Self { facts, caller }
    }
}

#[async_trait]
impl Interface for Port {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    async fn set_source_dest_check(
        &self,
        enabled: bool,
        earlier: Option<&CheckSettings>,
    ) -> Result<()> {
        let id = &self.facts.id;
        let on_or_off = if enabled { "on" } else { "off" };
        let doing = format!("switch the source/destination check of {id} {on_or_off}");
        let params = wire::SetCheckParams {
            interface: id.to_string(),
            enabled,
            earlier: earlier.filter(|_| enabled).map(|settings| settings.0.clone()),
        };
        let wire::Nothing {} = self.caller.call(&doing, wire::SET_CHECK, &params).await?;
        Ok(())
    }

    async fn source_dest_check(&self) -> Result<bool> {
        let id = &self.facts.id;
        let doing = format!("read the source/destination check of {id}");
        let params = wire::CheckParams { interface: id.to_string() };
        let answer: wire::CheckResult = self.caller.call(&doing, wire::CHECK, &params).await?;
        Ok(answer.enabled)
    }
}
