//! A gateway that is really booted: a Debian tree with systemd, started by `systemd-nspawn` in a network namespace
//! between a private client and the internet.
//!
//! Every boot gets a new namespace, so that whatever is in its kernel was brought there by the tree itself. The tree is
//! made once by `tests/setup/install.sh`; each machine writes into a layer of its own over it.
//!
//! - [`bare`]: the tree without systemd, whose scripts are run by hand.
//! - [`gateway`]: natd as its gateway beside other firewalls.
//! - [`machine`]: the tree, booted, driven and cut off from power.
//! - [`neighbours`]: the tree with ufw, firewalld and Docker.
//! - [`theirs`]: what others have in its firewall.
//! - [`wires`]: client and internet, and a stream of datagrams between them that misses nothing.

pub mod bare;
pub mod gateway;
pub mod machine;
pub mod neighbours;
pub mod theirs;
pub mod wires;
