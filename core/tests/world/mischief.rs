//! What goes wrong while natd works, from a seed: calls that fail, or take effect all the same, or are shown
//! late; writes of the host that fail; and natd killed before or after any change.

use std::panic::resume_unwind;

use natd_core::error::{Error, Kind, Result};

/// Numbers from a seed, the same ones everywhere (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("it fits")
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len())).expect("something to pick from").clone()
    }
}

/// natd is no more: the process unwinds past everything that it would still have done.
#[derive(Debug)]
pub struct Killed;

const KINDS: [Kind; 7] = [
    Kind::NotFound,
    Kind::Conflict,
    Kind::Denied,
    Kind::Throttled,
    Kind::Unreachable,
    Kind::Invalid,
    Kind::Unsupported,
];

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Made,
    /// It fails, and nothing is changed.
    Refused(Kind),
    /// It is made, and answered as if it weren't.
    MadeUnheard(Kind),
    KilledBefore,
    KilledAfter,
}

/// Goes wrong now and then.
#[derive(Debug)]
pub struct Mischief {
    dice: Dice,
    /// How often each sort has come about.
    pub counts: [usize; 5],
}

impl Mischief {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), counts: [0; 5] }
    }

    /// Of a change.
    pub fn fate(&mut self, what: &str) -> Fate {
        // To go back to a target that isn't there any more means to be removed: that is no fault.
        let kinds = if what.starts_with("return ") { &KINDS[1..] } else { &KINDS[..] };
        let (number, fate) = match self.dice.below(24) {
            0 => (0, Fate::KilledBefore),
            1 => (1, Fate::KilledAfter),
            2 | 3 => (2, Fate::Refused(self.dice.pick(kinds))),
            4 => (3, Fate::MadeUnheard(self.dice.pick(kinds))),
            _ => return Fate::Made,
        };
        *self.counts.get_mut(number).expect("a sort") += 1;
        fate
    }

    /// Of a question.
    pub fn answer(&mut self, what: &str) -> Result<()> {
        if !self.dice.once_in(8) {
            return Ok(());
        }
        self.counts[4] += 1;
        Err(fault(self.dice.pick(&KINDS), what))
    }
}

pub fn fault(kind: Kind, what: &str) -> Error {
    Error::new(kind, what, "it was to go wrong")
}

pub fn kill() -> ! {
    resume_unwind(Box::new(Killed))
}
