//! The steps that a plan is made of, their order, and what each needs.

use std::fmt;

use serde::Serialize;

use crate::{
    cloud::CheckSettings,
    desired::{Rules, Weight},
    host::SysctlKey,
    journal::FileBefore,
    model::{InterfaceId, NextHop, Route, RouteKey},
    neighbours::{Neighbour, Passage},
    persist::{Form, HostPath, Part, ServiceName},
    ruleset::{FirewallKind, Ruleset},
};

/// One change. Idempotent; safe to be interrupted and run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Gives a route back: to its earlier target, or away if there was none.
    ReturnRoute {
        /// The route.
        key: RouteKey,
        /// Where it goes; `None`: it is removed.
        to: Option<NextHop>,
    },
    /// Loads natd's rules in place of whatever natd has loaded, and deletes the tracked
    /// connections that began before them.
    LoadRules {
        /// The rules.
        rules: Rules,
        /// What is wrong with what is there; empty if there is nothing, or only older rules.
        damage: Vec<String>,
        /// Whether natd has rules there already.
        replaces: bool,
    },
    /// Deletes the tracked connections that are not what the rules would make of them: what an
    /// interrupted `LoadRules` left to do.
    ClearStaleFlows {
        /// The rules that they missed.
        ruleset: Ruleset,
    },
    /// Sets a kernel parameter.
    SetSysctl {
        /// The parameter.
        key: SysctlKey,
        /// What it is; `None` if the kernel doesn't have it.
        from: Option<String>,
        /// What it becomes.
        to: String,
        /// What depends on it.
        weight: Weight,
    },
    /// Switches a source/destination check off.
    SwitchCheckOff {
        /// The interface.
        interface: InterfaceId,
        /// What that overwrites.
        #[serde(skip_serializing_if = "Option::is_none")]
        earlier: Option<CheckSettings>,
    },
    /// Has another firewall of this host let natd's traffic through.
    OpenPassage {
        /// Whose.
        who: Neighbour,
        /// What is let through.
        passage: Passage,
        /// What is wrong with what natd has there; empty if there is nothing, or only an older one.
        damage: Vec<String>,
        /// Whether natd has something there already.
        replaces: bool,
    },
    /// Puts natd's part into a file that brings NAT back after a reboot.
    Persist {
        /// The file.
        path: HostPath,
        /// What it is to hold.
        part: Part,
        /// What is there of it that natd gives back: permissions, missing folders.
        before: FileBefore,
        /// Whether a part of natd's is there already.
        replaces: bool,
        /// It was not written to its end.
        cut_off: bool,
    },
    /// Has a service be started at boot that isn't.
    EnableService {
        /// The service.
        service: ServiceName,
    },
    /// Proves with packets that this host carries them, before any route is taken.
    ProveEgress {
        /// Who is to answer, `host:port`: one of them. Empty: nobody is asked.
        targets: Vec<String>,
    },
    /// Points a route at this machine.
    TakeRoute {
        /// The route.
        key: RouteKey,
        /// The interface that it is to target.
        target: InterfaceId,
        /// What is there now.
        from: Option<Route>,
    },
    /// Switches a source/destination check on again.
    SwitchCheckOn {
        /// The interface.
        interface: InterfaceId,
        /// What is put back with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        earlier: Option<CheckSettings>,
    },
    /// Takes natd's part out of such a file, and gives back what natd changed for its sake.
    Unpersist {
        /// The file.
        path: HostPath,
        /// How natd's part is told from the rest.
        form: Form,
        /// What was there before natd.
        before: FileBefore,
    },
    /// Has a service no longer be started at boot, as it was before natd.
    DisableService {
        /// The service.
        service: ServiceName,
    },
    /// Removes what natd has in another firewall of this host.
    ClosePassage {
        /// Whose.
        who: Neighbour,
    },
    /// Gives a kernel parameter its earlier value back.
    RestoreSysctl {
        /// The parameter.
        key: SysctlKey,
        /// What natd made of it.
        from: String,
        /// What it was.
        to: String,
    },
    /// Removes natd's rules.
    UnloadRules {
        /// The back end.
        kind: FirewallKind,
    },
}

/// The order of steps. Up: rules, forwarding, check, proof, routes. Down: the other way round.
/// What is no longer wanted is given back in between, when nothing leads to it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Routes are given back.
    ReturnRoutes,
    /// Rules are loaded.
    Rules,
    /// Connections that began before the rules are deleted.
    Flows,
    /// Kernel parameters are set.
    Sysctls,
    /// Other firewalls are asked to let natd's traffic through. Nothing needs it: whether that gets
    /// through is proven anyhow.
    Passages,
    /// What brings NAT back after a reboot is put in place. Nothing needs it: packets are carried now.
    Persist,
    /// Source/destination checks are switched off.
    Checks,
    /// The way out is proven.
    Proof,
    /// Routes are taken.
    TakeRoutes,
    /// Source/destination checks are switched on again.
    ReturnChecks,
    /// What brings NAT back after a reboot is taken away, before what it brings back.
    ReturnPersisted,
    /// Other firewalls need not let natd's traffic through any more.
    ReturnPassages,
    /// Kernel parameters get their earlier values back.
    ReturnSysctls,
    /// Rules are removed.
    ReturnRules,
}

impl Phase {
    /// The phases that must have succeeded: packets are never attracted before they can be
    /// carried, never forwarded before they are translated, and what carries them stays for as
    /// long as anything leads to it.
    #[must_use]
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::ReturnRoutes | Self::Rules => &[],
            Self::Flows | Self::Sysctls | Self::Passages | Self::Persist | Self::Proof => {
                &[Self::Rules]
            }
            Self::Checks => &[Self::Rules, Self::Sysctls],
            Self::TakeRoutes => &[Self::Rules, Self::Sysctls, Self::Checks, Self::Proof],
            Self::ReturnChecks
            | Self::ReturnPersisted
            | Self::ReturnPassages
            | Self::ReturnSysctls => &[Self::ReturnRoutes, Self::TakeRoutes],
            // What is let through without them would leave as it came.
            Self::ReturnRules => {
                &[Self::ReturnRoutes, Self::TakeRoutes, Self::ReturnPassages, Self::ReturnSysctls]
            }
        }
    }

    /// Whether its steps are writes to the cloud.
    #[must_use]
    pub fn writes_to_the_cloud(self) -> bool {
        matches!(self, Self::ReturnRoutes | Self::Checks | Self::TakeRoutes | Self::ReturnChecks)
    }

    /// Whether its steps change what only the journal remembers: none of them may run before their
    /// entries are on the disk. A full disk keeps natd neither from repairing its own rules, which
    /// are known by their name, nor from giving back what is in the journal already.
    #[must_use]
    pub fn is_journalled(self) -> bool {
        matches!(self, Self::Sysctls | Self::Persist | Self::Checks | Self::TakeRoutes)
    }
}

impl Step {
    /// Its place in the order.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::ReturnRoute { .. } => Phase::ReturnRoutes,
            Self::LoadRules { .. } => Phase::Rules,
            Self::ClearStaleFlows { .. } => Phase::Flows,
            Self::SetSysctl { .. } => Phase::Sysctls,
            Self::OpenPassage { .. } => Phase::Passages,
            Self::Persist { .. } | Self::EnableService { .. } => Phase::Persist,
            Self::SwitchCheckOff { .. } => Phase::Checks,
            Self::ProveEgress { .. } => Phase::Proof,
            Self::TakeRoute { .. } => Phase::TakeRoutes,
            Self::SwitchCheckOn { .. } => Phase::ReturnChecks,
            Self::Unpersist { .. } | Self::DisableService { .. } => Phase::ReturnPersisted,
            Self::ClosePassage { .. } => Phase::ReturnPassages,
            Self::RestoreSysctl { .. } => Phase::ReturnSysctls,
            Self::UnloadRules { .. } => Phase::ReturnRules,
        }
    }

    /// Whether phases that need this one must not run if the step fails.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        match self {
            Self::SetSysctl { weight, .. } => *weight == Weight::Carries,
            Self::OpenPassage { .. } => false,
            _ => true,
        }
    }

    /// Whether the step changes anything.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !matches!(self, Self::ProveEgress { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReturnRoute { key, to: Some(next_hop), .. } => {
                write!(f, "give {key} back to {next_hop}")
            }
            Self::ReturnRoute { key, to: None, .. } => write!(f, "remove {key}"),
            Self::LoadRules { rules, replaces, .. } => {
                let verb = if *replaces { "replace" } else { "load" };
                write!(f, "{verb} natd's {} rules", rules.rendering.kind)
            }
            Self::ClearStaleFlows { .. } => {
                f.write_str("delete connections that began before the rules")
            }
            Self::SetSysctl { key, to, .. } | Self::RestoreSysctl { key, to, .. } => {
                write!(f, "set {key} = {to}")
            }
            Self::SwitchCheckOff { interface, .. } => {
                write!(f, "switch off the source/destination check of {interface}")
            }
            Self::SwitchCheckOn { interface, .. } => {
                write!(f, "switch on the source/destination check of {interface}")
            }
            Self::OpenPassage { who, replaces: false, .. } => {
                write!(f, "have {who} let natd's traffic through")
            }
            Self::OpenPassage { who, .. } => {
                write!(f, "replace what has {who} let natd's traffic through")
            }
            Self::ClosePassage { who } => {
                write!(f, "remove what has {who} let natd's traffic through")
            }
            Self::Persist { path, replaces, cut_off, .. } => {
                let verb = if *replaces { "replace natd's part of" } else { "write" };
                let found = if *cut_off { " (it was cut off)" } else { "" };
                write!(f, "{verb} {path}{found}")
            }
            Self::EnableService { service } => write!(f, "have {service} started at boot"),
            Self::Unpersist { path, form: Form::Whole, .. } => write!(f, "remove {path}"),
            Self::Unpersist { path, .. } => write!(f, "remove natd's part of {path}"),
            Self::DisableService { service } => {
                write!(f, "have {service} no longer started at boot")
            }
            Self::ProveEgress { targets } if targets.is_empty() => {
                f.write_str("see a packet like a private host's leave translated")
            }
            Self::ProveEgress { targets } => write!(f, "reach {}", targets.join(" or ")),
            Self::TakeRoute { key, target, .. } => write!(f, "point {key} at {target}"),
            Self::UnloadRules { kind } => write!(f, "remove natd's {kind} rules"),
        }
    }
}
