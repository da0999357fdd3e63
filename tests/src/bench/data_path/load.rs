//! What is sent through a chain, and what it costs.
//!
//! A client and a server work on each processor, bound to it. The kernel carries a packet all the way in the time of who
//! sends it, the gateway's part included, or in that of its own thread for soft interrupts there. So a rate is what was
//! done in a second of the processor time of these threads: on a machine with nothing else to do, that is a second; on a
//! busy one, the neighbours hardly count.

use std::thread::{self, ScopedJoinHandle, available_parallelism};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::super::chain::Chain;
use super::pair::{self, Work};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    Connections,
    Throughput,
    Packets,
}

impl Load {
    pub const ALL: [Self; 3] = [Self::Connections, Self::Throughput, Self::Packets];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "new connections",
            Self::Throughput => "TCP throughput",
            Self::Packets => "UDP packets",
        }
    }

    /// What happens, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Connections => {
                "each client connects over TCP, reads the end that the server sends at once, resets the connection, and \
                 begins again."
            }
            Self::Throughput => {
                "one TCP connection for each processor, as fast as it goes, in packets of up to 64 KiB as the kernel \
                 makes them."
            }
            Self::Packets => {
                "datagrams of 18 bytes, one flow for each processor. Almost nothing is done for a packet but to forward \
                 it, so this is the dearest that rules can be. No target is set for it."
            }
        }
    }

    /// The least part of the bare rule's rate that natd's rules are to reach.
    pub fn target(self) -> Option<f64> {
        match self {
            Self::Connections | Self::Throughput => Some(0.97),
            Self::Packets => None,
        }
    }

    /// A rate, with its unit.
    pub fn in_words(self, rate: f64) -> String {
        match self {
            Self::Connections | Self::Packets => format!("{rate:.0} / s"),
            Self::Throughput => format!("{:.2} Gbit/s", rate / 1e9),
        }
    }

    /// Sends for as long as that; gives the rate, summed over the processors.
    pub fn run(self, chain: &Chain, time: Duration) -> Result<f64> {
        let work = match self {
            Self::Connections => pair::connections,
            Self::Throughput => pair::throughput,
            Self::Packets => pair::packets,
        };
        let processors = available_parallelism().context("counting processors")?.get();
        let rate = thread::scope(|scope| {
            let pairs: Vec<_> = (0..processors)
                .map(|processor| scope.spawn(move || work(chain, processor, time)))
                .collect();
            let rate = |pair: ScopedJoinHandle<'_, Result<Work>>| {
                let work = pair.join().map_err(|_| anyhow!("a client panicked"))??;
                anyhow::Ok(work.done / work.processor_time.as_secs_f64())
            };
            pairs.into_iter().map(rate).sum()
        });
        chain.forget_connections()?;
        rate
    }
}
