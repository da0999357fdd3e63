//! One flight: sends, watches, and keeps book of what was seen of each packet.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use natd_core::canary::{Glimpse, Milestone, SOURCE, Sighting, Way};

use super::{
    aim::Aim,
    culprit,
    packet::{Flag, Segment},
    table,
    trace::{Event, Events},
    tracked::Connection,
    tun::Tun,
    wire::Dialogue,
};

/// The first of the ports that it flies from; above those that hosts choose by themselves.
const FIRST_PORT: u16 = 61_000;
const PORTS: u64 = 4_000;

/// When what is not answered is sent again, after it was sent first: as TCP does it.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// A packet is through the host, or isn't, within this time. It takes microseconds; a host may be busy.
const THROUGH: Duration = Duration::from_millis(500);

/// How long each look for news is.
const LOOK: Duration = Duration::from_millis(50);

/// Packets that are sent to tell by counters which rule drops them.
const COUNTED: u64 = 5;

/// A canary. Its device goes last: whoever gets that next finds nothing else of it.
pub(super) struct Bird {
    watch: Result<Watch, String>,
    tun: Tun,
    number: u32,
    probes: Vec<Probe>,
}

/// Who watches it.
struct Watch {
    events: Events,
    /// Which packets of whose are known by their ids.
    known: BTreeMap<u32, (usize, Way)>,
    _table: Dialogue,
}

/// The packets to one address.
struct Probe {
    aim: Aim,
    from: SocketAddrV4,
    sighting: Sighting,
}

impl Bird {
    /// Of that device, with a number of its own that nobody can foresee.
    pub(super) async fn hatch(tun: Tun, aims: Vec<Aim>, random: u64) -> Self {
        let number = u32::try_from(random >> 32).unwrap_or(0);
        let ports = u16::try_from(random % PORTS).unwrap_or(0) + FIRST_PORT..;
        let probes = aims.into_iter().zip(ports).map(|(aim, port)| Probe {
            sighting: Sighting { target: aim.target.clone(), ..Sighting::default() },
            aim,
            from: SocketAddrV4::new(SOURCE, port),
        });
        let watch = Watch::open(number.wrapping_add(1))
            .await
            .map_err(|error| format!("watching takes nftables and Linux 5.12: {error}"));
        Self { tun, watch, number, probes: probes.collect() }
    }

    /// Sends to all addresses until one has answered, nothing is left to wait for, or the time is over.
    pub(super) async fn fly(&mut self, deadline: Duration) -> io::Result<()> {
        let begin = Instant::now();
        self.send(Flag::Syn)?;
        let mut again = AGAIN.into_iter().peekable();
        while begin.elapsed() < deadline && !self.is_settled(begin.elapsed()) {
            self.look().await?;
            if again.next_if(|after| begin.elapsed() >= *after).is_some() {
                self.send(Flag::Syn)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing left to wait for.
    fn is_settled(&self, elapsed: Duration) -> bool {
        let mut sightings = self.probes.iter().map(|probe| &probe.sighting);
        sightings.clone().any(|sighting| sighting.target.is_some() && is_back(sighting))
            || sightings.all(|sighting| match sighting.target {
                Some(_) if is_out(sighting) => is_stopped(&sighting.back),
                _ => is_out(sighting) || is_stopped(&sighting.out) || elapsed > THROUGH,
            })
    }

    async fn look(&mut self) -> io::Result<()> {
        let watch = match &mut self.watch {
            Ok(watch) => watch,
            Err(why) => {
                tokio::time::sleep(LOOK).await;
                for probe in &mut self.probes {
                    probe.sighting.blind = Some(why.clone());
                    probe.sighting.tracked = probe.connection().look_up().await?;
                }
                return Ok(());
            }
        };
        for event in watch.events.within(LOOK).await? {
            let Some((index, way)) = watch.whose(&event, &self.probes) else { continue };
            let (Some(probe), Some(glimpse)) = (self.probes.get_mut(index), event.glimpse) else {
                continue;
            };
            let seen = match way {
                Way::Out => &mut probe.sighting.out,
                Way::Back => &mut probe.sighting.back,
            };
            if !seen.contains(&glimpse) {
                seen.push(glimpse);
            }
        }
        Ok(())
    }

    fn send(&self, flag: Flag) -> io::Result<()> {
        self.probes.iter().try_for_each(|probe| self.send_one(probe, flag))
    }

    fn send_one(&self, probe: &Probe, flag: Flag) -> io::Result<()> {
        let Probe { aim, from, .. } = probe;
        let sequence = match flag {
            Flag::Syn => self.number,
            Flag::Reset => self.number.wrapping_add(1),
        };
        let segment = Segment { from: *from, to: aim.address, sequence, flag, ttl: aim.ttl };
        self.tun.send(&segment.bytes())
    }

    /// Takes back what it has left anywhere, finds out who has done it harm, and tells what was seen.
    pub(super) async fn land(mut self) -> Vec<Sighting> {
        for probe in &self.probes {
            let answered = !probe.sighting.back.is_empty()
                || probe.sighting.tracked.is_some_and(|tracked| tracked.answer.is_some());
            // What is still half open at the target would send its answer again and again.
            if answered {
                self.send_one(probe, Flag::Reset).ok();
            }
        }
        let suspects = self.suspects().await;
        for probe in &mut self.probes {
            // A table without it, or no table at all, is as good.
            probe.connection().forget().await.ok();
            if !is_out(&probe.sighting) {
                probe.sighting.suspects.clone_from(&suspects);
            }
            let Sighting { out, back, .. } = &mut probe.sighting;
            for glimpse in out.iter_mut().chain(back) {
                if let Glimpse::Dropped(rule) | Glimpse::Queued(rule) = glimpse {
                    culprit::name(rule).await;
                }
            }
        }
        self.probes.into_iter().map(|probe| probe.sighting).collect()
    }

    /// Rules of iptables-legacy, which tell nobody what they do, that drop what is gone without a trace.
    async fn suspects(&self) -> Vec<String> {
        let is_gone = |probe: &&Probe| {
            let Sighting { out, .. } = &probe.sighting;
            !is_out(&probe.sighting) && !out.iter().any(is_stop)
        };
        let Some(gone) = self.probes.iter().find(is_gone) else { return Vec::new() };
        let send = || {
            for _ in 0..COUNTED {
                self.send_one(gone, Flag::Syn).ok();
            }
        };
        culprit::counted(COUNTED, send).await
    }
}

impl Probe {
    fn connection(&self) -> Connection {
        Connection { from: self.from, to: self.aim.address }
    }
}

fn is_stop(glimpse: &Glimpse) -> bool {
    matches!(glimpse, Glimpse::Dropped(_) | Glimpse::Queued(_))
}

fn is_end(glimpse: &Glimpse) -> bool {
    matches!(glimpse, Glimpse::End { .. })
}

/// It has been dropped.
fn is_stopped(seen: &[Glimpse]) -> bool {
    seen.iter().any(is_stop)
}

/// It has left the host.
fn is_out(sighting: &Sighting) -> bool {
    sighting.out.iter().any(is_end) || sighting.tracked.is_some()
}

/// Its answer is back.
fn is_back(sighting: &Sighting) -> bool {
    sighting.back.iter().any(is_end)
        || sighting.tracked.is_some_and(|tracked| tracked.answer.is_some())
}

impl Watch {
    async fn open(acknowledged: u32) -> io::Result<Self> {
        let events = Events::open()?;
        let table = table::watch(acknowledged).await?;
        Ok(Self { events, known: BTreeMap::new(), _table: table })
    }

    /// Which probe's packet that is about, and which way it goes. Not all events have addresses: the
    /// first that has them introduces the packet, at natd's own mark where it comes in.
    fn whose(&mut self, event: &Event, probes: &[Probe]) -> Option<(usize, Way)> {
        let comes_in = event.glimpse == Some(Glimpse::At(Milestone::In));
        if let Some((from, to)) = event.ends.filter(|_| comes_in) {
            let position = |holds: &dyn Fn(&Probe) -> bool| probes.iter().position(holds);
            let whose = position(&|probe| probe.from == from)
                .map(|index| (index, Way::Out))
                .or_else(|| {
                    let answers = |probe: &Probe| probe.aim.address == from && *to.ip() != SOURCE;
                    position(&answers).map(|index| (index, Way::Back))
                });
            if let Some(whose) = whose {
                self.known.insert(event.id, whose);
            }
        }
        self.known.get(&event.id).copied()
    }
}
