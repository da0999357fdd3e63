//! From what was seen of the canary to what became of it: a pure function.

use super::{
    Answer, Flight, Forwarding, Glimpse, Loss, Milestone, Outcome, SOURCE, Sighting, Tracked, Way,
};
use crate::{
    error::{Error, Kind},
    model::InterfaceName,
};

/// What became of the canary. Of several targets one that answers is enough; where none does, the
/// one that the canary came closest to counts.
#[must_use]
pub fn judge(flight: &Flight<'_>, forwarding: &Forwarding, sightings: &[Sighting]) -> Outcome {
    let outcomes = sightings.iter().map(|sighting| of_one(flight, forwarding, sighting));
    outcomes.max_by_key(closeness).unwrap_or_else(|| {
        Outcome::Unsent(Error::new(Kind::Invalid, "send a canary", "there is nowhere to send it"))
    })
}

fn closeness(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Unsent(_) => 0,
        Outcome::Lost(loss) => 1 + loss.station() as u8,
        Outcome::Left { .. } | Outcome::Returned { .. } => u8::MAX,
    }
}

fn of_one(flight: &Flight<'_>, forwarding: &Forwarding, sighting: &Sighting) -> Outcome {
    if let Some(why) = &sighting.blind {
        return unwatched(flight, forwarding, sighting, why);
    }
    let Sighting { target, out, back, .. } = sighting;
    let translated = match end(out) {
        None => {
            return Outcome::Lost(lost(flight.entrance, Way::Out, out, forwarding, sighting));
        }
        Some((source, by, _)) => {
            if let Some(by) = by.filter(|by| *by != flight.ruleset.egress) {
                return Outcome::Lost(Loss::LeftBy { interface: by });
            }
            if source == SOURCE {
                return Outcome::Lost(Loss::Untranslated);
            }
            source
        }
    };
    let Some(target) = target.clone() else { return Outcome::Left { translated, silent: None } };
    match end(back) {
        Some((_, _, false)) => Outcome::Returned { target, translated, seen_back: true },
        Some((_, _, true)) => Outcome::Lost(Loss::Reset { target }),
        None if back.is_empty() => Outcome::Lost(Loss::Unanswered { target, translated }),
        None => {
            let egress = &flight.ruleset.egress;
            Outcome::Lost(lost(egress, Way::Back, back, forwarding, sighting))
        }
    }
}

fn end(seen: &[Glimpse]) -> Option<(std::net::Ipv4Addr, Option<InterfaceName>, bool)> {
    seen.iter().find_map(|glimpse| match glimpse {
        Glimpse::End { source, by, reset } => Some((*source, by.clone(), *reset)),
        _ => None,
    })
}

/// Why a packet that came in by that interface wasn't seen at its end.
fn lost(
    interface: &InterfaceName,
    way: Way,
    seen: &[Glimpse],
    forwarding: &Forwarding,
    sighting: &Sighting,
) -> Loss {
    for glimpse in seen {
        match glimpse {
            Glimpse::Dropped(rule) => return Loss::Dropped { rule: rule.clone(), way },
            Glimpse::Queued(rule) => return Loss::Queued { rule: rule.clone(), way },
            Glimpse::At(_) | Glimpse::End { .. } => {}
        }
    }
    let reached = seen.iter().rev().find_map(|glimpse| match glimpse {
        Glimpse::At(milestone) => Some(*milestone),
        _ => None,
    });
    let is_off = forwarding.get(interface).is_some_and(|value| value == "0");
    if is_off && reached < Some(Milestone::Forward) {
        return Loss::NotForwarded { interface: interface.clone(), way };
    }
    let after = match reached {
        None => "before any firewall saw it: by XDP, tc, or a chain of the netdev family",
        Some(Milestone::In) => {
            "before it was forwarded, and in no chain of nftables: by the host's routes, or its rp_filter"
        }
        Some(Milestone::Forward) => "in the forward hook, and in no chain of nftables",
        Some(Milestone::Forwarded) => {
            "after it was forwarded (postrouting), and in no chain of nftables"
        }
    };
    Loss::Vanished { after: after.to_owned(), suspects: sighting.suspects.clone(), way }
}

/// By the connection tracking table alone: a packet is in it once it has passed all chains.
fn unwatched(
    flight: &Flight<'_>,
    forwarding: &Forwarding,
    sighting: &Sighting,
    why: &str,
) -> Outcome {
    let Some(Tracked { translated, answer }) = sighting.tracked else {
        let interface = flight.entrance;
        if forwarding.get(interface).is_some_and(|value| value == "0") {
            let interface = interface.clone();
            return Outcome::Lost(Loss::NotForwarded { interface, way: Way::Out });
        }
        return Outcome::Lost(Loss::Vanished {
            after: format!(
                "on its way through this host, by a firewall or for want of a route; where can't be told ({why})"
            ),
            suspects: sighting.suspects.clone(),
            way: Way::Out,
        });
    };
    if translated == SOURCE {
        return Outcome::Lost(Loss::Untranslated);
    }
    match (&sighting.target, answer) {
        (None, _) => Outcome::Left { translated, silent: None },
        (Some(target), Some(Answer::Accepts)) => {
            Outcome::Returned { target: target.clone(), translated, seen_back: false }
        }
        (Some(target), Some(Answer::Reset)) => {
            Outcome::Lost(Loss::Reset { target: target.clone() })
        }
        (Some(target), None) => {
            Outcome::Lost(Loss::Unanswered { target: target.clone(), translated })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{
        super::{Rule, Station},
        *,
    };
    use crate::ruleset::tests::ruleset;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 5);
    const TARGET: &str = "198.51.100.10:80";

    fn at(milestones: &[Milestone]) -> Vec<Glimpse> {
        milestones.iter().map(|milestone| Glimpse::At(*milestone)).collect()
    }

    fn through(source: Ipv4Addr, by: &str, reset: bool) -> Vec<Glimpse> {
        let mut way = at(&[Milestone::In, Milestone::Forward, Milestone::Forwarded]);
        way.push(Glimpse::End { source, by: Some(by.parse().expect("a name")), reset });
        way
    }

    fn rule(handle: Option<u64>) -> Rule {
        Rule {
            family: "ip".to_owned(),
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            handle,
            text: None,
            owner: Some("Docker".to_owned()),
        }
    }

    fn dropped(mut way: Vec<Glimpse>) -> Vec<Glimpse> {
        way.push(Glimpse::Dropped(rule(None)));
        way
    }

    fn of(out: Vec<Glimpse>, back: Vec<Glimpse>) -> Sighting {
        Sighting { target: Some(TARGET.to_owned()), out, back, ..Sighting::default() }
    }

    fn judged(sightings: &[Sighting], off: bool) -> Outcome {
        let ruleset = ruleset();
        let targets = [TARGET.to_owned()];
        let flight = Flight { entrance: &ruleset.egress, ruleset: &ruleset, targets: &targets };
        let value = if off { "0" } else { "1" };
        let forwarding = [(ruleset.egress.clone(), value.to_owned())].into();
        judge(&flight, &forwarding, sightings)
    }

    /// The station at which it is lost, and what is said of it.
    fn loss(sighting: Sighting, off: bool) -> (Station, String) {
        match judged(&[sighting], off) {
            Outcome::Lost(loss) => (loss.station(), loss.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_that_comes_all_the_way_back_is_good() {
        let returned = of(through(OWN, "eth0", false), through(SOURCE, "eth0", false));
        let good =
            Outcome::Returned { target: TARGET.to_owned(), translated: OWN, seen_back: true };
        assert_eq!(judged(std::slice::from_ref(&returned), false), good);
        // Of several targets one is enough.
        let silent = of(through(OWN, "eth0", false), Vec::new());
        assert_eq!(judged(&[silent.clone(), returned, silent], false), good);
        let nobody = Sighting { out: through(OWN, "eth0", false), ..Sighting::default() };
        assert_eq!(judged(&[nobody], false), Outcome::Left { translated: OWN, silent: None });
    }

    #[test]
    fn each_loss_has_its_station() {
        let into = || at(&[Milestone::In]);
        let forward = || at(&[Milestone::In, Milestone::Forward]);
        let out = || through(OWN, "eth0", false);
        let silent = Vec::new;
        for (sighting, off, station, words) in [
            (of(into(), silent()), true, Station::Forwarding, "net.ipv4.conf.eth0.forwarding is 0"),
            (of(into(), silent()), false, Station::Firewalls, "before it was forwarded"),
            (of(silent(), silent()), false, Station::Firewalls, "before any firewall"),
            (
                of(dropped(forward()), silent()),
                false,
                Station::Firewalls,
                "dropped by Docker: the policy of chain FORWARD in table ip filter",
            ),
            // Forwarding is off, and yet a rule before that was it.
            (of(dropped(into()), silent()), true, Station::Firewalls, "dropped by Docker"),
            (of(forward(), silent()), false, Station::Firewalls, "in the forward hook"),
            (
                of(through(SOURCE, "eth0", false), silent()),
                false,
                Station::Translation,
                "as it came",
            ),
            (of(through(SOURCE, "eth7", false), silent()), false, Station::Translation, "by eth7"),
            (of(out(), silent()), false, Station::Answer, "doesn't answer"),
            (of(out(), through(SOURCE, "eth0", true)), false, Station::Answer, "a reset"),
            (of(out(), dropped(forward())), false, Station::WayBack, "the answer was dropped by"),
            (
                of(out(), into()),
                true,
                Station::WayBack,
                "the answer came, and what comes in by eth0",
            ),
        ] {
            let (found, said) = loss(sighting.clone(), off);
            assert_eq!(found, station, "{sighting:?}: {said}");
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn what_nobody_can_watch_is_suspected() {
        let suspects = vec!["filter: -A FORWARD -j DROP".to_owned()];
        let sighting =
            Sighting { suspects, ..of(at(&[Milestone::In, Milestone::Forward]), Vec::new()) };
        let (station, said) = loss(sighting, false);
        assert_eq!(station, Station::Firewalls);
        assert!(said.ends_with("iptables-legacy: filter: -A FORWARD -j DROP"), "{said}");
    }

    #[test]
    fn the_closest_of_several_targets_counts() {
        let early = of(at(&[Milestone::In]), Vec::new());
        let late = of(through(OWN, "eth0", false), Vec::new());
        assert_eq!(
            judged(&[early.clone(), late, early], false),
            Outcome::Lost(Loss::Unanswered { target: TARGET.to_owned(), translated: OWN })
        );
        assert!(matches!(judged(&[], false), Outcome::Unsent(_)));
    }

    #[test]
    fn blind_it_goes_by_the_connection_tracking_table() {
        let blind = |tracked| Sighting {
            blind: Some("an old kernel".to_owned()),
            tracked,
            ..of(Vec::new(), Vec::new())
        };
        let tracked = |translated, answer| Some(Tracked { translated, answer });
        assert_eq!(loss(blind(None), true).0, Station::Forwarding);
        let (station, said) = loss(blind(None), false);
        assert!(station == Station::Firewalls && said.contains("an old kernel"), "{said}");
        assert_eq!(loss(blind(tracked(SOURCE, None)), false).0, Station::Translation);
        assert_eq!(loss(blind(tracked(OWN, None)), false).0, Station::Answer);
        assert_eq!(loss(blind(tracked(OWN, Some(Answer::Reset))), false).0, Station::Answer);
        let good = judged(&[blind(tracked(OWN, Some(Answer::Accepts)))], false);
        assert_eq!(good.is_good(), Some(true));
    }
}
