//! The way through this host, tried with a packet like a private host's.
//!
//! | module | does |
//! |---|---|
//! | `tun`, `road` | the device that packets set out by, and their road to the entrance and back |
//! | `table`, `trace` | the marks on the way, and what nftables tells of each chain that is passed |
//! | `tracked` | the connection tracking table's word |
//! | `aim` | where to: names, addresses, and what is flown to if there are no targets |
//! | `flight` | sends, watches, and keeps book |
//! | `culprit` | whose rule it was |
//! | `packet`, `wire` | packets and netlink messages, as bytes |

mod aim;
mod culprit;
mod flight;
mod packet;
mod road;
mod table;
pub(crate) mod trace;
mod tracked;
mod tun;
mod wire;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use natd_core::{
    canary::{DEVICE, Flight, Sighting},
    error::{Error, Kind, Result},
    host::Canary,
    model::InterfaceName,
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};

use self::{flight::Bird, tun::Tun};
pub(crate) use road::ANCHOR;

/// What all of this is for, after "could not".
const DOING: &str = "send a canary";

/// How long another canary may be in the air.
const TAKEN: Duration = Duration::from_secs(30);

/// How long before the device's name is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Canaries that set out by a TUN device, in the calling thread's network namespace.
///
/// It takes `CAP_NET_ADMIN`, `/dev/net/tun`, and the kernel's `sch_ingress`, `cls_u32` and
/// `act_mirred`. With nftables and Linux 5.12 its way is watched from chain to chain; without, only
/// what the connection tracking table tells is known.
///
/// A canary is a TCP segment that opens a connection. What answers gets a reset; the entry in the
/// connection tracking table goes with it.
#[derive(Debug, Clone)]
pub struct TunCanary {
    deadline: Duration,
    device: PathBuf,
}

impl TunCanary {
    /// `deadline` is for the answer of a target.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self::with_device(deadline, "/dev/net/tun")
    }

    /// The same with that device file.
    #[must_use]
    pub fn with_device(deadline: Duration, device: impl Into<PathBuf>) -> Self {
        Self { deadline, device: device.into() }
    }

    /// The device; the name is had by one canary at a time.
    async fn device(&self) -> Result<Tun> {
        let begin = Instant::now();
        loop {
            match Tun::create(&self.device, DEVICE) {
                Ok(tun) => return Ok(tun),
                Err(error) if is(&error, Errno::BUSY) && begin.elapsed() < TAKEN => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(self.no_device(&error)),
            }
        }
    }

    fn no_device(&self, error: &io::Error) -> Error {
        let path = self.device.display();
        let cause = format!("{path}: {error}");
        if is(error, Errno::BUSY) {
            return Error::new(Kind::Conflict, DOING, "another one has been flying for too long");
        }
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            io::ErrorKind::PermissionDenied => Kind::Denied,
            _ => Kind::Unsupported,
        };
        Error::new(kind, DOING, cause).with_advice(format!(
            "load the module tun, and in a container allow {path}; CAP_NET_ADMIN is needed"
        ))
    }
}

#[async_trait]
impl Canary for TunCanary {
    async fn fly(&self, flight: &Flight<'_>) -> Result<Vec<Sighting>> {
        let aims = aim::aims(flight, self.deadline).await?;
        let entrance = index(flight.entrance)?;
        let tun = self.device().await?;
        road::lay(tun.index, entrance).await.map_err(|error| no_road(&error, flight.entrance))?;
        // Not to be foreseen, so that nobody else's packets are taken for the canary's.
        let number = RandomState::new().build_hasher().finish();
        let mut bird = Bird::hatch(tun, aims, number).await;
        bird.fly(self.deadline)
            .await
            .map_err(|error| Error::new(Kind::Unreachable, DOING, error))?;
        Ok(bird.land().await)
    }
}

fn index(interface: &InterfaceName) -> Result<u32> {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|any| name_to_index(&any, interface.as_str()))
        .map_err(|error| Error::new(Kind::NotFound, DOING, format!("{interface}: {error}")))
}

fn no_road(error: &io::Error, entrance: &InterfaceName) -> Error {
    let cause = format!("its road to {entrance} can't be laid: {error}");
    let (kind, advice) = if is(error, Errno::PERM) || is(error, Errno::ACCESS) {
        (Kind::Denied, "run natd with CAP_NET_ADMIN".to_owned())
    } else if is(error, Errno::NOENT) {
        (Kind::Unsupported, "load the modules sch_ingress, cls_u32 and act_mirred".to_owned())
    } else {
        (
            Kind::Unsupported,
            format!("see that {entrance} is up, and nobody has a route to 192.0.0.8"),
        )
    };
    Error::new(kind, DOING, cause).with_advice(advice)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
