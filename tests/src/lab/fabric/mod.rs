//! The fabric: makes the network behave as the cloud's API says it should, and keeps it so.
//!
//! - [`routes`]: route tables, as policy routes of the router.
//! - [`filter`]: security groups and the source/destination check, as rules of each port.
//! - [`gateway`]: public addresses, as stateless translation at the edge of the internet.
//!
//! Only differences are applied, so that reading the same state again disturbs no packet and no tracked connection.

pub mod filter;
pub mod gateway;
pub mod routes;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::namespace::Namespace;
use super::network::PortWire;
use super::picture::Picture;

/// Every change is told to the fabric as it passes by; this is for those that come about in the API by themselves.
const IDLE: Duration = Duration::from_secs(2);

/// The latest picture that the fabric has applied.
pub type Current = Arc<RwLock<Picture>>;

/// The background thread that keeps the network in step. It ends when dropped.
#[derive(Debug)]
pub struct Fabric {
    board: Arc<Board>,
    current: Current,
    thread: Option<JoinHandle<()>>,
}

/// Tells the fabric that the cloud may have changed.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Board>);

impl Nudge {
    pub fn nudge(&self) {
        self.0.ask();
    }
}

/// Where work is asked for and reported.
#[derive(Debug, Default)]
struct Board {
    notes: Mutex<Notes>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    /// How many times a sync was asked for, and how many of those are served.
    asked: u64,
    served: u64,
    /// Why the last sync failed.
    failure: Option<String>,
    /// Nothing is to be read, and the network stays as it is.
    held: bool,
    stop: bool,
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) -> u64 {
        let mut notes = self.notes();
        notes.asked += 1;
        self.written.notify_all();
        notes.asked
    }

    /// Waits for the next sync to do; `None` to stop.
    fn next(&self) -> Option<u64> {
        let idle = |notes: &mut Notes| (notes.asked == notes.served || notes.held) && !notes.stop;
        loop {
            let notes = self.notes();
            let (notes, _) = self
                .written
                .wait_timeout_while(notes, IDLE, idle)
                .unwrap_or_else(PoisonError::into_inner);
            if notes.stop || !notes.held {
                return (!notes.stop).then_some(notes.asked);
            }
        }
    }

    fn report(&self, served: u64, result: Result<()>) {
        let mut notes = self.notes();
        notes.served = served;
        notes.failure = result.err().map(|error| format!("{error:#}"));
        self.written.notify_all();
    }
}

impl Fabric {
    /// Starts keeping the network as `read` says. `ports` is by the cloud's id. Nothing is applied yet: [`sync`](Self::sync).
    pub fn start<R>(
        router: Namespace,
        ports: BTreeMap<String, PortWire>,
        nudge: &Nudge,
        read: R,
    ) -> Self
    where
        R: Fn() -> Result<Picture> + Send + 'static,
    {
        let board = Arc::clone(&nudge.0);
        let current = Current::default();
        let (working, shown) = (Arc::clone(&board), Arc::clone(&current));
        let thread = thread::spawn(move || {
            let mut installed = Installed::nothing(router, ports);
            while let Some(asked) = working.next() {
                let result = read().and_then(|picture| {
                    installed.apply(&picture)?;
                    *shown.write().unwrap_or_else(PoisonError::into_inner) = picture;
                    Ok(())
                });
                working.report(asked, result);
            }
        });
        Self { board, current, thread: Some(thread) }
    }

    /// Reads nothing from now on and leaves the network as it is.
    pub fn hold(&self) {
        self.board.notes().held = true;
    }

    /// Reads and applies the cloud's state now, and returns once that is done; at once if the network is held.
    pub fn sync(&self) -> Result<()> {
        if self.board.notes().held {
            return Ok(());
        }
        let number = self.board.ask();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut notes = self.board.notes();
        while notes.served < number {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the fabric doesn't answer");
            }
            notes = self
                .board
                .written
                .wait_timeout(notes, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        notes.failure.as_ref().map_or(Ok(()), |failure| Err(anyhow!("the fabric: {failure}")))
    }

    pub fn current(&self) -> Current {
        Arc::clone(&self.current)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.board.notes().stop = true;
        self.board.written.notify_all();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// What is in the kernel now.
struct Installed {
    router: Namespace,
    ports: BTreeMap<String, PortWire>,
    routes: routes::Routes,
    tables: routes::TableNumbers,
    gateway: String,
    filters: BTreeMap<String, String>,
}

impl Installed {
    fn nothing(router: Namespace, ports: BTreeMap<String, PortWire>) -> Self {
        Self {
            router,
            ports,
            routes: routes::Routes::default(),
            tables: routes::TableNumbers::default(),
            gateway: String::new(),
            filters: BTreeMap::new(),
        }
    }

    /// Security first: a port that closes does so before a route leads to it.
    fn apply(&mut self, picture: &Picture) -> Result<()> {
        for (id, wire) in &self.ports {
            let script = filter::render(picture.ports.get(id));
            if self.filters.get(id) != Some(&script) {
                wire.namespace.nft(&script)?;
                self.filters.insert(id.clone(), script);
            }
        }
        let script = gateway::render(&picture.public);
        if self.gateway != script {
            self.router.nft(&script)?;
            self.gateway = script;
        }
        let numbers = self.ports.iter().map(|(id, wire)| (id.as_str(), wire.number)).collect();
        let routes = routes::render(picture, &numbers, &mut self.tables);
        let commands = routes.commands_from(&self.routes);
        if !commands.is_empty() {
            self.router.ip(&commands)?;
            self.routes = routes;
        }
        Ok(())
    }
}
