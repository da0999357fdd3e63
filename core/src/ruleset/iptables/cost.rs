//! What the iptables back end costs a host that holds many blocks in chains.

use std::fmt;

use crate::ruleset::Rendering;

/// What a rendering costs a host that holds many blocks in chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Rules in the kernel.
    pub rules: usize,
    /// Chains.
    pub chains: usize,
}

impl Cost {
    /// Of that text.
    #[must_use]
    pub fn of(rendering: &Rendering) -> Self {
        let text6 = rendering.text6.as_deref().unwrap_or_default();
        let lines = || rendering.text.lines().chain(text6.lines());
        let count = |start: &str| lines().filter(|line| line.starts_with(start)).count();
        Self { rules: count("-A"), chains: count(":") }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules in {} chains", self.rules, self.chains)
    }
}
