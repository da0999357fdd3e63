//! A thousand ticks in which anything may go wrong, from a seed: whatever it was, natd comes out of it by
//! itself, and gives back what was there.
//!
//! `NATD_SEED=N` has the tests go by that seed alone; one that fails prints its own.

#![expect(clippy::indexing_slicing, reason = "a test knows what is there")]
#![expect(
    clippy::disallowed_methods,
    reason = "it is a file torn by a crash that is to be written"
)]
#![expect(clippy::print_stderr, reason = "whoever sees it fail needs the seed")]

mod owner;

use std::{
    any::Any,
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use natd_core::{
    advise::{forgotten, stranded},
    apply::Attempt,
    journal::JournalFile,
    plan::plan,
};
use owner::Owner;
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    Desired, State, World, all_done, is_reached, run,
    world::{
        mischief::{Dice, Killed, Mischief},
        random::{wishes, worlds},
    },
};

const TICKS: usize = 1000;

/// How many ticks it may take, after the last fault, until all is as it should be.
const RECOVERY: usize = 3;

/// How natd's journal fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JournalFate {
    /// It can't be written now and then.
    Refused,
    /// That, and power failures tear it.
    Torn,
}

struct Scene {
    seed: u64,
    fate: JournalFate,
    dice: Dice,
    folder: tempfile::TempDir,
    world: World,
    owner: Owner,
    wish: Desired,
    wishes: Vec<Desired>,
    /// What natd has in memory, for as long as it lives.
    journal: Option<JournalFile>,
    /// The latest states, for a cloud that shows them late.
    past: Vec<State>,
    kills: usize,
    torn: usize,
}

impl Scene {
    fn new(seed: u64, fate: JournalFate) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let before = worlds().new_tree(&mut runner).expect("a world").current();
        let mut wish = || wishes().new_tree(&mut runner).expect("a wish").current();
        let wishes: Vec<Desired> = (0..4).map(|_| wish()).collect();
        // Much is synced here, and nothing needs to outlive the machine.
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        Self {
            seed,
            fate,
            dice: Dice::new(seed),
            folder: tempfile::tempdir_in(place).expect("a folder"),
            world: World::new(before.clone()),
            owner: Owner::of(before),
            wish: wishes[0].clone(),
            wishes,
            journal: None,
            past: Vec::new(),
            kills: 0,
            torn: 0,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("var/lib/natd/journal.json")
    }

    /// In its place nothing can be written, not by root either.
    fn obstacle(&self) -> PathBuf {
        self.file().with_file_name(".journal.json.new")
    }

    fn open(&mut self) -> JournalFile {
        self.journal.take().unwrap_or_else(|| {
            JournalFile::open(self.folder.path(), None).expect("the journal opens")
        })
    }

    /// One tick, as the daemon does it: what somebody has edited of natd's is left. `None` if natd is killed in it.
    fn tick(&mut self, wish: &Desired) -> Option<Vec<Attempt>> {
        let mut journal = self.open();
        let mut plan = plan(wish, &self.world.observed(), &journal.journal, &BTreeSet::new(), &[]);
        assert!(plan.edited.is_empty(), "seed {}: nobody has edited {:?}", self.seed, plan.edited);
        plan.spare_edited();
        let ticked = catch_unwind(AssertUnwindSafe(|| {
            let attempts = run(self.world.run(&plan, wish, &mut journal));
            (attempts, journal)
        }));
        match ticked {
            Ok((attempts, journal)) => {
                self.journal = Some(journal);
                Some(attempts)
            }
            Err(why) => {
                assert!(is_a_kill(why.as_ref()), "seed {}: natd panicked", self.seed);
                self.kills += 1;
                None
            }
        }
    }

    /// What befalls the world between two ticks.
    fn befall(&mut self) {
        let Self { dice, world, owner, .. } = self;
        for _ in 0..dice.below(5) {
            world.edit(|state| owner.acts(dice, state));
        }
        if dice.once_in(20) {
            self.journal = None;
        }
        // One wish while the journal may be lost: what an earlier one had wanted nobody could know.
        if self.fate == JournalFate::Refused && self.dice.once_in(25) {
            self.wish = self.dice.pick(&self.wishes);
        }
        let late = self.past.len().min(3);
        let outdated = (late > 0 && self.dice.once_in(6))
            .then(|| self.past[self.past.len() - 1 - self.dice.below(late)].clone());
        self.world.shows(outdated);
        if self.dice.once_in(12) {
            fs::create_dir_all(self.obstacle()).expect("made");
        } else if self.dice.once_in(2) {
            fs::remove_dir(self.obstacle()).ok();
        }
        if self.fate == JournalFate::Torn && self.dice.once_in(40) {
            self.tear();
        }
        self.past.push(self.world.state());
    }

    /// The power fails: natd is no more, and the journal is not what it was.
    fn tear(&mut self) {
        self.journal = None;
        let Ok(mut content) = fs::read(self.file()) else { return };
        match self.dice.below(4) {
            0 => content.clear(),
            1 => content.truncate(self.dice.below(content.len().max(1))),
            2 => content.fill(0),
            _ => content.iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        fs::write(self.file(), content).expect("written");
        self.torn += 1;
    }

    fn endure(&mut self) {
        eprintln!("NATD_SEED={} ({:?})", self.seed, self.fate);
        self.world.suffers(Some(Mischief::new(self.seed ^ 0xdead)));
        for _ in 0..TICKS {
            self.befall();
            let wish = self.wish.clone();
            self.tick(&wish);
            assert_eq!(self.world.wrongs(), [""; 0], "seed {}", self.seed);
        }
        let mischief = self.world.suffers(None).expect("it was there");
        let enough =
            mischief.counts.iter().all(|count| *count > TICKS / 100) && self.kills > TICKS / 50;
        assert!(enough, "seed {}: too little went wrong: {mischief:?}", self.seed);
        self.world.shows(None);
        fs::remove_dir(self.obstacle()).ok();
        let (world, owner) = (&self.world, &mut self.owner);
        world.edit(|state| owner.brings_links_up(state));
    }

    /// After the faults all comes to what is wanted, and then natd has nothing more to do.
    fn recovers(&mut self) {
        let wish = self.wish.clone();
        let mut rest = Vec::new();
        for _ in 0..RECOVERY {
            rest = self.tick(&wish).expect("nobody kills it any more");
        }
        let seed = self.seed;
        assert!(rest.is_empty(), "seed {seed}: after {RECOVERY} ticks it still does {rest:?}");
        let state = self.world.state();
        assert!(is_reached(&wish, &state), "seed {seed}: not what is wanted: {state:#?}");
    }

    /// Gives all back, by whoever finds only the journal on the disk. Tells what is said of what can't be.
    fn down(&mut self) -> String {
        let said = {
            let journal = JournalFile::peek(self.folder.path(), None).expect("read");
            let observed = self.world.observed();
            let mut said = stranded(&observed, &journal);
            said.extend(forgotten(&self.wish, &observed, &journal));
            said.into_iter().map(|warning| warning.message + "\n").collect()
        };
        self.journal = None;
        let attempts = self.tick(&Desired::default()).expect("nobody kills it");
        assert!(all_done(&attempts), "seed {}: {attempts:?}", self.seed);
        said
    }
}

fn is_a_kill(why: &(dyn Any + Send)) -> bool {
    why.is::<Killed>()
}

fn seeds(first: u64) -> Vec<u64> {
    match std::env::var("NATD_SEED") {
        Ok(seed) => vec![seed.parse().expect("NATD_SEED is a number")],
        Err(_) => (first..first + 5).collect(),
    }
}

#[test]
fn a_thousand_ticks_of_faults_end_converged_and_down_gives_back_all() {
    for seed in seeds(1) {
        let mut scene = Scene::new(seed, JournalFate::Refused);
        scene.endure();
        scene.recovers();
        let before = scene.world.state();
        let said = scene.down();
        assert_eq!(said, "", "seed {seed}: the journal knew all");
        scene.owner.finds_all(seed, &before, &scene.world.state(), "");
        assert!(!scene.file().exists(), "seed {seed}: the journal is left");
    }
}

#[test]
fn where_the_journal_is_torn_what_it_knew_is_told_by_name_and_not_made_up() {
    for seed in seeds(101) {
        let mut scene = Scene::new(seed, JournalFate::Torn);
        scene.endure();
        assert!(scene.torn > 5, "seed {seed}: it was torn {} times", scene.torn);
        scene.recovers();
        let before = scene.world.state();
        let said = scene.down();
        scene.owner.finds_all(seed, &before, &scene.world.state(), &said);
    }
}
