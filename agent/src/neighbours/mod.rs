//! Other programs of this host that filter what it forwards: Docker, ufw, firewalld. Each is asked in
//! its own way to let natd's traffic through.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use natd_core::{host::NeighbouringFirewall, neighbours::Neighbour};

mod docker;
mod firewalld;
mod obstacles;
mod ufw;

pub use docker::Docker;
pub use firewalld::Firewalld;
pub(crate) use obstacles::obstacles;
pub use ufw::Ufw;

/// The neighbours that natd knows how to ask, whether or not they are on this host; with their files below
/// `root`.
#[must_use]
pub fn neighbours(root: &Path) -> BTreeMap<Neighbour, Arc<dyn NeighbouringFirewall>> {
    let all: [Arc<dyn NeighbouringFirewall>; 3] =
        [Arc::new(Docker::default()), Arc::new(Ufw::new(root)), Arc::new(Firewalld::new(root))];
    all.into_iter().map(|neighbour| (neighbour.who(), neighbour)).collect()
}
