//! The contract of the providers: what each of them promises, as checks against the traits alone.
//!
//! The same checks prove natd's own providers in its tests and an operator's cloud by
//! `natd provider check`: [`read`] asks and changes nothing; [`write`](fn@write) works on one
//! table and takes everything back.
//!
//! | file | holds |
//! |---|---|
//! | `promise` | the promises, and what became of each |
//! | `reading` | identity, interfaces, route tables |
//! | `scratch` | where may be written |
//! | `writing` | routes: create, replace, remove, nothing lost |
//! | `checking` | the source/destination check, both ways |

mod checking;
mod promise;
mod reading;
mod scratch;
mod writing;

pub use promise::{Breach, Finding, Outcome, Promise};
pub use reading::read;
pub use scratch::Scratch;
pub use writing::write;
