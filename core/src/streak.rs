//! How often in a row the proof has failed or come out: one lost packet is no reason to do anything,
//! and one good one no reason to undo it.

use std::num::NonZeroU32;

use serde::Serialize;

/// The proofs of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Streak {
    #[serde(skip)]
    fall: NonZeroU32,
    #[serde(skip)]
    rise: NonZeroU32,
    /// Whether the last one came out; `None`: there was none.
    pub good: Option<bool>,
    /// How many like it, in a row.
    pub length: u32,
    /// So many have failed in a row that it counts, and not as many have come out since.
    pub fallen: bool,
}

impl Streak {
    /// Falls by that many failures in a row, and rises by that many successes.
    #[must_use]
    pub fn new(fall: NonZeroU32, rise: NonZeroU32) -> Self {
        Self { fall, rise, good: None, length: 0, fallen: false }
    }

    /// Takes note of a proof; tells whether that made it fall or rise. One that came ahead of its time
    /// (`due` is false: something happened on the host) counts only if it is unlike the one before:
    /// many events in a second must not add up to many failures.
    pub fn note(&mut self, good: bool, due: bool) -> bool {
        if self.good != Some(good) {
            self.good = Some(good);
            self.length = 1;
        } else if due {
            self.length = self.length.saturating_add(1);
        }
        let enough = if good { self.rise } else { self.fall };
        let turns = self.fallen == good && self.length >= enough.get();
        if turns {
            self.fallen = !good;
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is fallen after each of these: `+` good, `-` bad, `.` bad ahead of its time.
    fn after(proofs: &str) -> String {
        let [fall, rise] = [3, 2].map(|n| NonZeroU32::new(n).expect("not zero"));
        let mut streak = Streak::new(fall, rise);
        let note = |proof: char| {
            let was = streak.fallen;
            let turned = streak.note(proof == '+', proof != '.');
            assert_eq!(turned, was != streak.fallen, "{proofs}");
            if streak.fallen { 'x' } else { 'o' }
        };
        proofs.chars().map(note).collect()
    }

    #[test]
    fn it_takes_three_failures_to_fall_and_two_successes_to_rise() {
        assert_eq!(after("++--+---"), "ooooooox");
        assert_eq!(after("---+-+--++-"), "ooxxxxxxxoo");
        assert_eq!(after("--+--+--+"), "ooooooooo");
    }

    #[test]
    fn many_events_are_not_many_failures() {
        assert_eq!(after("+-.....-.-"), "ooooooooox");
        assert_eq!(after("+...-."), "oooooo");
    }
}
