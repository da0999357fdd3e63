//! natd on the host: the back ends of `natd_core::host`, and the loop that keeps the gateway a gateway.
//!
//! | module | holds |
//! |---|---|
//! | [`gateway`] | looks, plans, converges, proves: what every command is made of |
//! | `survey`, `forwarding` | what there is, in cloud and host |
//! | [`daemon`] | the loop of `natd run` |
//! | [`standing`] | what the proofs of late add up to |
//! | [`contest`] | when to leave a route to somebody else |
//! | [`notify`] | what the service manager is told |
//! | [`status`], [`serve`] | what the daemon tells of itself, and to whom |
//! | [`lock`] | one natd a machine |
//! | [`firewall`] | natd's own rules, in nftables or iptables |
//! | [`sysctl`], [`links`], `sockets`, [`conntrack`], [`egress`] | the rest of the host |
//! | [`neighbours`] | other firewalls of the host, asked in their own ways to let natd's traffic through |
//! | [`canary`] | the way through the host, tried with a packet |
//! | [`persist`] | what brings NAT back after a reboot |
//! | [`events`] | what the kernel reports of itself |
//! | `netlink`, [`process`] | how the kernel and other programs are asked |

pub mod canary;
pub mod conntrack;
pub mod contest;
pub mod daemon;
pub mod egress;
pub mod events;
pub mod firewall;
mod forwarding;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod links;
pub mod lock;
pub mod neighbours;
mod netlink;
pub mod notify;
pub mod pace;
pub mod persist;
pub mod process;
pub mod serve;
mod sockets;
pub mod standing;
pub mod status;
mod survey;
pub mod sysctl;
mod told;
