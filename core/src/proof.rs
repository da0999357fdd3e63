//! The proof that packets get through: a canary, that is a packet that goes a private host's way; and
//! where none can be sent, or none is answered, a connection of this host's own.

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    canary::{self, Flight, Forwarding, Loss, Outcome, Station},
    desired::Rules,
    error::{Error, Kind},
    host::{Host, SysctlKey},
    model::InterfaceName,
    neighbours::{Obstacle, Passage, advice},
    ruleset::Translation,
    verdict::Proof,
};

/// What is to be proven.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    /// The rules that are to carry packets.
    pub rules: &'a Rules,
    /// `host:port`; one that answers is proof. Empty: nobody is asked.
    pub targets: &'a [String],
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Whether packets get out.
    pub proof: Proof,
    /// What became of the canary: of several, one for each interface by which private hosts come in,
    /// the first that was lost.
    pub canary: Option<Flown>,
}

/// A canary that has flown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flown {
    /// By which interface it came in.
    pub entrance: InterfaceName,
    /// By which it was to leave.
    pub egress: InterfaceName,
    /// What became of it.
    pub outcome: Outcome,
    /// What to do about that, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl From<Proof> for Evidence {
    fn from(proof: Proof) -> Self {
        Self { proof, canary: None }
    }
}

impl Evidence {
    /// What doesn't work.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        match (&self.proof, self.canary.as_ref().map(|flown| &flown.outcome)) {
            (Proof::Failed(error), _) => Some(error.clone()),
            (_, Some(Outcome::Lost(loss))) => {
                let cause = format!("{}: {loss}", loss.station().name());
                let error = Error::new(Kind::Unreachable, "prove the way out", cause);
                let advice = self.canary.as_ref().and_then(|flown| flown.advice.clone());
                Some(match advice {
                    Some(advice) => error.with_advice(advice),
                    None => error,
                })
            }
            _ => None,
        }
    }

    /// Whether it works, as far as was tried; `None`: nothing was.
    #[must_use]
    pub fn is_good(&self) -> Option<bool> {
        let flown = || self.canary.as_ref().and_then(|flown| flown.outcome.is_good());
        match (self.failure(), &self.proof) {
            (Some(_), _) => Some(false),
            (None, Proof::Reached(_)) => Some(true),
            (None, Proof::Failed(_) | Proof::Unproven) => flown(),
        }
    }
}

/// Sends a canary in by each interface that private hosts come in by. Changes nothing that stays.
pub async fn prove(course: &Course<'_>, host: &Host) -> Evidence {
    let Course { rules, targets } = course;
    let egress = &rules.ruleset.egress;
    let mut canary: Option<Flown> = None;
    for entrance in &rules.entrances {
        let flight = Flight { entrance, ruleset: &rules.ruleset, targets };
        let outcome = match host.canary.fly(&flight).await {
            Ok(sightings) => canary::judge(&flight, &forwarding(&flight, host), &sightings),
            Err(error) => Outcome::Unsent(error),
        };
        let goes_on = outcome.is_good() == Some(true);
        let advice = advise(&outcome, rules);
        let flown = Flown { entrance: entrance.clone(), egress: egress.clone(), outcome, advice };
        canary = Some(flown);
        if !goes_on {
            break;
        }
    }
    let proof = match canary.as_ref().map(|flown| &flown.outcome) {
        Some(Outcome::Returned { target, .. }) => Proof::Reached(target.clone()),
        Some(Outcome::Lost(Loss::Unanswered { .. } | Loss::Reset { .. }) | Outcome::Unsent(_))
        | None => connect(course, host).await,
        Some(Outcome::Left { .. } | Outcome::Lost(_)) => Proof::Unproven,
    };
    if let Some(flown) = canary.as_mut()
        && matches!(proof, Proof::Reached(_))
    {
        flown.excuse(&rules.ruleset.translation);
    }
    Evidence { proof, canary }
}

/// What to do about a rule that has dropped the canary, if it isn't natd's own.
fn advise(outcome: &Outcome, rules: &Rules) -> Option<String> {
    let Outcome::Lost(loss) = outcome else { return None };
    let (rule, legacy) = match loss {
        Loss::Dropped { rule, .. } => (rule.clone(), false),
        Loss::Vanished { suspects, .. } => match suspects.as_slice() {
            [suspect] => (canary::legacy::rule(suspect)?, true),
            _ => return None,
        },
        _ => return None,
    };
    if rule.owner.as_deref() == Some("natd") {
        return None;
    }
    let passage = Passage::of(&rules.ruleset, &rules.entrances);
    advice(&Obstacle { rule, legacy, asked: [].into() }, &passage)
}

/// What forwarding is set to on both ends of the flight.
fn forwarding(flight: &Flight<'_>, host: &Host) -> Forwarding {
    let read = |interface: &InterfaceName| {
        let value = host.sysctl.read(&SysctlKey::ipv4(interface, "forwarding")).ok().flatten()?;
        Some((interface.clone(), value))
    };
    [flight.entrance, &flight.ruleset.egress].into_iter().filter_map(read).collect()
}

/// Tries all targets side by side, from the egress interface's own address; one that answers is proof.
async fn connect(course: &Course<'_>, host: &Host) -> Proof {
    let Course { rules, targets } = course;
    let (interface, address) = (&rules.ruleset.egress, rules.egress_address.into());
    let tries = targets.iter().map(|target| host.egress.reach(target, interface, Some(address)));
    let mut failures = Vec::new();
    for (target, result) in targets.iter().zip(join_all(tries).await) {
        match result {
            Ok(()) => return Proof::Reached(target.clone()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() {
        return Proof::Unproven;
    }
    Proof::Failed(Error::new(Kind::Unreachable, "prove the way out", failures.join("; ")))
}

/// What was found at a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The canary came by.
    Passed(String),
    /// It was lost here.
    Lost(String),
    /// Nobody knows.
    Unknown(String),
}

impl Flown {
    /// Of several addresses it is translated to one, as each private host is, and others may well be
    /// answered: those that this host is answered at show that the way out is there.
    fn excuse(&mut self, translation: &Translation) {
        let is_one_of_several =
            matches!(translation, Translation::Snat(pool) if pool.addresses().len() > 1);
        if let Outcome::Lost(Loss::Unanswered { target, translated }) = &self.outcome
            && is_one_of_several
        {
            let (translated, silent) = (*translated, Some(target.clone()));
            self.outcome = Outcome::Left { translated, silent };
        }
    }

    /// Each station of its way, and what was found there.
    #[must_use]
    pub fn stations(&self) -> Vec<(Station, Found)> {
        let Self { entrance, egress, outcome, advice } = self;
        let end = match outcome {
            Outcome::Lost(loss) => Some(loss.station()),
            Outcome::Unsent(_) => return Vec::new(),
            Outcome::Returned { .. } | Outcome::Left { .. } => None,
        };
        let of = |station: Station| match (outcome, end) {
            (Outcome::Lost(loss), Some(end)) if end == station => Found::Lost(match advice {
                Some(advice) => format!("{loss}; {advice}"),
                None => loss.to_string(),
            }),
            (Outcome::Left { silent: Some(target), translated }, _)
                if station == Station::Answer =>
            {
                Found::Unknown(format!(
                    "{target} doesn't answer {translated}, though it answers another of nat.addresses"
                ))
            }
            (_, Some(end)) if station > end => Found::Unknown("not known".to_owned()),
            _ => self
                .passed(station, entrance, egress)
                .map_or_else(|| Found::Unknown("not known".to_owned()), Found::Passed),
        };
        Station::ALL.into_iter().map(|station| (station, of(station))).collect()
    }

    fn passed(
        &self,
        station: Station,
        entrance: &InterfaceName,
        egress: &InterfaceName,
    ) -> Option<String> {
        let translated = match &self.outcome {
            Outcome::Returned { translated, .. }
            | Outcome::Left { translated, .. }
            | Outcome::Lost(Loss::Unanswered { translated, .. }) => format!(" as {translated}"),
            Outcome::Lost(_) | Outcome::Unsent(_) => String::new(),
        };
        match (station, &self.outcome) {
            (Station::Forwarding, _) => Some(format!("what comes in by {entrance} is forwarded")),
            (Station::Firewalls, _) => Some("none drops it".to_owned()),
            (Station::Translation, _) => Some(format!("it leaves by {egress}{translated}")),
            (Station::Answer, Outcome::Returned { target, .. }) => Some(format!("of {target}")),
            (Station::Answer, Outcome::Lost(_)) => Some("came".to_owned()),
            (Station::WayBack, Outcome::Returned { seen_back: true, .. }) => {
                Some(format!("the answer gets back to {entrance}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ruleset::Pool;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn flown(outcome: Outcome) -> Flown {
        let eth0: InterfaceName = "eth0".parse().expect("a name");
        Flown { entrance: eth0.clone(), egress: eth0, outcome, advice: None }
    }

    fn unanswered() -> Outcome {
        let target = "198.51.100.10:80".to_owned();
        Outcome::Lost(Loss::Unanswered { target, translated: ONE })
    }

    #[test]
    fn one_of_several_addresses_that_isnt_answered_is_no_loss() {
        let mut single = flown(unanswered());
        single.excuse(&Translation::to(ONE));
        assert_eq!(single.outcome.is_good(), Some(false));
        let mut pooled = flown(unanswered());
        pooled.excuse(&Translation::Snat(Pool::new(ONE, [OTHER])));
        assert_eq!(pooled.outcome.is_good(), Some(true));
        let answer = pooled.stations().into_iter().find(|(station, _)| *station == Station::Answer);
        let Some((_, Found::Unknown(said))) = answer else { panic!("{answer:?}") };
        assert!(said.contains("doesn't answer 10.0.0.1"), "{said}");
    }

    #[test]
    fn behind_the_station_where_it_was_lost_nothing_is_known() {
        let stations = flown(Outcome::Lost(Loss::Untranslated)).stations();
        let of = |(_, found): &(Station, Found)| match found {
            Found::Passed(_) => '+',
            Found::Lost(_) => '-',
            Found::Unknown(_) => '?',
        };
        assert_eq!(stations.iter().map(of).collect::<String>(), "++-??");
        assert_eq!(flown(unanswered()).stations().iter().map(of).collect::<String>(), "+++-?");
        let evidence = |outcome| Evidence { proof: Proof::Unproven, canary: Some(flown(outcome)) };
        assert_eq!(evidence(Outcome::Lost(Loss::Untranslated)).is_good(), Some(false));
        let left = Outcome::Left { translated: ONE, silent: None };
        assert_eq!(evidence(left).is_good(), Some(true));
        assert_eq!(Evidence::from(Proof::Unproven).is_good(), None);
    }
}
