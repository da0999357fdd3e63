//! Which tables are read in a tick: a table's routes cost a call of their own.
//!
//! Always read are tables that were never read, that natd has written since, that the list shows as
//! changed since (`updated_at`), and those whose turn can't wait for another tick. Up to
//! [`AT_ONCE`] tables in all are read in every tick. Where more are selected, the least recently
//! read ones come first, so many of them that each has its turn within `service.audit`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use natd_core::{config, model::RouteTableId};
use tokio::time::Instant;

use super::table::WireRoute;

/// Tables that a tick reads in turn.
const AT_ONCE: usize = 8;

/// What was read of each table, and when.
pub(super) struct Rotation {
    interval: Duration,
    audit: Duration,
    read: Mutex<BTreeMap<RouteTableId, Read>>,
}

struct Read {
    routes: Vec<WireRoute>,
    at: Instant,
    /// As the list told before the table was read.
    updated: Option<String>,
    /// natd has written the table since.
    written: bool,
}

impl Rotation {
    pub(super) fn new(service: &config::Service) -> Self {
        Self { interval: service.interval, audit: service.audit, read: Mutex::default() }
    }

    /// Those of the `selected` tables, each with its `updated_at`, that are to be read now.
    pub(super) fn due(
        &self,
        selected: &BTreeMap<RouteTableId, Option<String>>,
        now: Instant,
    ) -> BTreeSet<RouteTableId> {
        if selected.len() <= AT_ONCE {
            return selected.keys().cloned().collect();
        }
        let read = self.read();
        let (known, mut due): (Vec<_>, BTreeSet<_>) = {
            let is_current = |id: &RouteTableId, updated: &Option<String>| {
                read.get(id).is_some_and(|read| {
                    !read.written
                        && read.updated == *updated
                        && now.duration_since(read.at) + self.interval <= self.audit
                })
            };
            let (known, due): (Vec<_>, Vec<_>) =
                selected.iter().partition(|(id, updated)| is_current(id, updated));
            (known, due.into_iter().map(|(id, _)| id.clone()).collect())
        };
        let mut turns: Vec<_> =
            known.into_iter().map(|(id, _)| (read.get(id).map(|read| read.at), id)).collect();
        turns.sort();
        let turns = turns.into_iter().take(self.turns(selected.len()).saturating_sub(due.len()));
        due.extend(turns.map(|(_, id)| id.clone()));
        due
    }

    /// How many have their turn in a tick, if each of `tables` is to have one within the audit time.
    fn turns(&self, tables: usize) -> usize {
        let ticks = self.audit.as_secs_f64() / self.interval.as_secs_f64().max(f64::EPSILON);
        let ticks = ticks.floor().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 1, and saturating"
        )]
        let ticks = ticks as usize;
        tables.div_ceil(ticks).max(AT_ONCE)
    }

    /// Notes what a table shows.
    pub(super) fn note(
        &self,
        id: &RouteTableId,
        routes: &[WireRoute],
        updated: Option<String>,
        asked: Instant,
    ) {
        let read = Read { routes: routes.to_vec(), at: asked, updated, written: false };
        self.read().insert(id.clone(), read);
    }

    /// Notes that natd is writing a table: what is known of it isn't worth anything now.
    pub(super) fn written(&self, id: &RouteTableId) {
        if let Some(read) = self.read().get_mut(id) {
            read.written = true;
        }
    }

    /// What a table showed last.
    pub(super) fn last(&self, id: &RouteTableId) -> Option<Vec<WireRoute>> {
        self.read().get(id).map(|read| read.routes.clone())
    }

    /// Forgets the tables that are not there any more.
    pub(super) fn keep(&self, there: impl Fn(&RouteTableId) -> bool) {
        self.read().retain(|id, _| there(id));
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<RouteTableId, Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(interval: u64, audit: u64) -> Rotation {
        Rotation::new(&config::Service {
            interval: Duration::from_secs(interval),
            audit: Duration::from_secs(audit),
            ..config::Service::default()
        })
    }

    fn tables(count: usize) -> BTreeMap<RouteTableId, Option<String>> {
        (0..count).filter_map(|n| Some((format!("rtb-{n:03}").parse().ok()?, None))).collect()
    }

    /// Ticks every `interval` seconds; the number of tables read in each.
    fn run(rotation: &Rotation, count: usize, ticks: u64, interval: u64) -> Vec<usize> {
        let (tables, start) = (tables(count), Instant::now());
        let mut at: BTreeMap<RouteTableId, Instant> = BTreeMap::new();
        let mut counts = Vec::new();
        for tick in 0..ticks {
            let now = start + Duration::from_secs(tick * interval);
            let due = rotation.due(&tables, now);
            for id in &due {
                rotation.note(id, &[], None, now);
                at.insert(id.clone(), now);
            }
            assert!(at.values().all(|at| now.duration_since(*at) < rotation.audit), "tick {tick}");
            counts.push(due.len());
        }
        counts
    }

    #[test]
    fn few_tables_are_all_read_every_time() {
        assert_eq!(run(&rotation(30, 600), 8, 3, 30), [8, 8, 8]);
    }

    #[test]
    fn of_many_eight_are_read_in_turn_after_all_were_once() {
        let counts = run(&rotation(30, 600), 100, 60, 30);
        assert_eq!(counts.first(), Some(&100));
        assert!(counts.iter().skip(1).all(|count| *count == 8), "{counts:?}");
    }

    #[test]
    fn more_are_read_where_the_audit_time_asks_for_it() {
        let counts = run(&rotation(30, 600), 200, 60, 30);
        assert!(counts.iter().skip(1).all(|count| *count == 10), "{counts:?}");
        let counts = run(&rotation(30, 20), 9, 3, 30);
        assert_eq!(counts, [9, 9, 9]);
    }

    #[test]
    fn what_was_written_or_has_changed_is_read_at_once() {
        let rotation = rotation(30, 600);
        run(&rotation, 100, 1, 30);
        let (mut tables, now) = (tables(100), Instant::now());
        let ids: Vec<_> = tables.keys().rev().take(2).cloned().collect();
        rotation.written(&ids[0]);
        tables.insert(ids[1].clone(), Some("later".to_owned()));
        let due = rotation.due(&tables, now);
        assert!(ids.iter().all(|id| due.contains(id)), "{due:?}");
        assert_eq!(due.len(), 8);
        rotation.keep(|id| *id != ids[0]);
        assert!(rotation.last(&ids[0]).is_none() && rotation.last(&ids[1]).is_some());
    }
}
