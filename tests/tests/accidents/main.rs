//! Accidents while natd works: it comes out of each on its own, says what it was, and harms nobody. Packets tell.

mod clock;
mod cloned_image;
mod everything;
mod full_disk;
mod nft_killed;
mod power_loss;
mod scene;
mod two_at_once;
mod two_hosts;
mod xtables_lock;
