//! Other programs of this host that filter what it forwards: Docker, ufw, firewalld. Each is asked in
//! its own way to let natd's traffic through.

use std::{collections::BTreeMap, sync::Arc};

use natd_core::{host::NeighbouringFirewall, neighbours::Neighbour};

mod docker;
mod obstacles;

pub use docker::Docker;
pub(crate) use obstacles::obstacles;

/// The neighbours that natd knows how to ask, whether or not they are on this host.
#[must_use]
pub fn neighbours() -> BTreeMap<Neighbour, Arc<dyn NeighbouringFirewall>> {
    let all: [Arc<dyn NeighbouringFirewall>; 1] = [Arc::new(Docker::default())];
    all.into_iter().map(|neighbour| (neighbour.who(), neighbour)).collect()
}
