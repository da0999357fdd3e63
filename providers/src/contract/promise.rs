//! What a provider promises, and what became of it.

use std::{fmt, future::Future};

use natd_core::error::{Error, Kind};
use serde::Serialize;

/// One promise of every provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Who the machine is doesn't change from one question to the next, and its network has blocks.
    Identity,
    /// Its interfaces are listed, each once, each in a subnet of the machine's.
    Interfaces,
    /// What a single look at a source/destination check says is what the list says.
    CheckIsShown,
    /// Who asks for no table gets none.
    NothingAskedNothingFound,
    /// Each own subnet is served by at most one table, or it is said why none is found.
    TablesBySubnet,
    /// A table that was found by subnet is found by its id, and looks the same.
    TablesById,
    /// A table that isn't there is told as missing, and hides no other.
    AbsentTable,
    /// A table has at most one static route to a destination.
    OneRouteADestination,
    /// A route is made where there was none.
    PutCreates,
    /// Putting the same route again changes nothing.
    PutTwice,
    /// A route gets another target where there was one.
    PutReplaces,
    /// Every target that stands in the table can be written again, as it was.
    PutGivesBack,
    /// A route to nowhere is refused, and is no success.
    PutRefusesNowhere,
    /// What changed since the table was listed stops no write.
    StaleSnapshot,
    /// Of two writers at once neither loses a route.
    ConcurrentWriters,
    /// A route is removed.
    Remove,
    /// Removing what isn't there is success.
    RemoveAbsent,
    /// Nobody else's route has changed.
    OthersUntouched,
    /// The source/destination check goes off and on, and everything else about the interface is as before.
    CheckBothWays,
}

impl Promise {
    /// Those that asking alone shows.
    pub const READ: [Self; 8] = [
        Self::Identity,
        Self::Interfaces,
        Self::CheckIsShown,
        Self::NothingAskedNothingFound,
        Self::TablesBySubnet,
        Self::TablesById,
        Self::AbsentTable,
        Self::OneRouteADestination,
    ];

    /// Those that take a write.
    pub const WRITE: [Self; 11] = [
        Self::PutCreates,
        Self::PutTwice,
        Self::PutReplaces,
        Self::PutGivesBack,
        Self::PutRefusesNowhere,
        Self::StaleSnapshot,
        Self::ConcurrentWriters,
        Self::Remove,
        Self::RemoveAbsent,
        Self::OthersUntouched,
        Self::CheckBothWays,
    ];

    /// The promise in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Identity => "tells who this machine is, and the blocks of its network",
            Self::Interfaces => "lists the interfaces, each once and with its address",
            Self::CheckIsShown => "tells the source/destination check of each interface",
            Self::NothingAskedNothingFound => "finds no table where none is asked for",
            Self::TablesBySubnet => "finds the tables of the own subnets",
            Self::TablesById => "finds a table by its id, as it was found by subnet",
            Self::AbsentTable => "tells a table that isn't there, and serves the others",
            Self::OneRouteADestination => "shows one static route a destination",
            Self::PutCreates => "makes a route",
            Self::PutTwice => "leaves a route as it is that is right already",
            Self::PutReplaces => "gives a route another target",
            Self::PutGivesBack => "writes every target that the table has",
            Self::PutRefusesNowhere => "refuses a target that doesn't exist",
            Self::StaleSnapshot => "writes whatever has changed since the table was listed",
            Self::ConcurrentWriters => "loses no route of two writers at once",
            Self::Remove => "removes a route",
            Self::RemoveAbsent => "takes the removal of an absent route for done",
            Self::OthersUntouched => "leaves all other routes as they were",
            Self::CheckBothWays => "switches the source/destination check off and on",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// What became of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was kept.
    Kept,
    /// It was broken, by this.
    Broken(String),
    /// The cloud's own answer stood in the way.
    Failed(Error),
    /// It could not be tried, and why.
    NotTried(String),
}

/// A promise and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The promise.
    pub promise: Promise,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why a promise was not seen to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// It was broken, by this.
    Broken(String),
    /// The cloud's own answer stood in the way.
    Failed(Error),
    /// It could not be tried, and why.
    NotTried(String),
}

impl From<Error> for Breach {
    /// What the cloud can't do it need not show.
    fn from(error: Error) -> Self {
        if error.kind() == Kind::Unsupported {
            Self::NotTried(error.to_string())
        } else {
            Self::Failed(error)
        }
    }
}

impl Finding {
    pub(super) async fn of(
        promise: Promise,
        check: impl Future<Output = Result<(), Breach>>,
    ) -> Self {
        let outcome = match check.await {
            Ok(()) => Outcome::Kept,
            Err(Breach::Broken(why)) => Outcome::Broken(why),
            Err(Breach::Failed(error)) => Outcome::Failed(error),
            Err(Breach::NotTried(why)) => Outcome::NotTried(why),
        };
        Self { promise, outcome }
    }

    /// Whether the promise was seen to be kept, or could not be tried.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        matches!(self.outcome, Outcome::Kept | Outcome::NotTried(_))
    }
}

/// Breaks the promise unless `holds`.
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach::Broken(otherwise())) }
}
