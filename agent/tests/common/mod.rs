//! Network namespaces of a test's own: born with it, gone with it.

#![allow(dead_code, reason = "every test binary uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "tests panic where it isn't as they expect")]
#![expect(clippy::disallowed_methods, reason = "a test may wait for a program")]

use std::{
    fs::File,
    os::fd::AsFd as _,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace; needs root. Loopback is up.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// `label` tells it apart from the test's others; the name is unique on this machine.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("natd-{}-{count}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// As `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell script inside and gives its output; panics if any command of it fails.
    pub fn sh(&self, script: &str) -> String {
        run(Command::new("ip").args(["netns", "exec", &self.name, "sh", "-ec", script]))
    }

    /// Runs `work` on a thread that is inside, and so are the threads and sockets that it makes.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a future inside, on a runtime of one thread.
    pub fn block_on<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.run(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(work())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its links go with it.
        _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two namespaces by a pair of links, which are up: `veth((&a, "eth0"), (&b, "eth0"))`.
pub fn veth(one: (&Namespace, &str), other: (&Namespace, &str)) {
    one.0.sh(&format!(
        "ip link add name '{}' type veth peer name '{}' netns {}; ip link set '{}' up",
        one.1, other.1, other.0.name, one.1
    ));
    other.0.sh(&format!("ip link set '{}' up", other.1));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
