//! What the tests, the demo and the benchmarks share: the real programs driven from outside, and the cores in [`sim`].
//!
//! A [`World`] is one temporary folder with a tracker and any number of daemons in it, each with a home of its own.
//! Every program runs with an environment of its own, listens on a port that the system chooses, says on a ready line
//! which one, writes its log to a file, and is killed when the world is dropped. Nothing waits by sleeping: what the
//! programs tell is followed, and what they do not tell is asked for until it is so ([`wait::eventually`]).

pub mod binaries;
pub mod chaos;
pub mod cluster;
pub mod ctl;
pub mod daemon;
pub mod file;
pub mod groups;
pub mod hostile;
#[cfg(test)]
mod house_rules;
pub mod namespace;
pub mod process;
pub mod relay;
pub mod schema;
pub mod sim;
pub mod size;
pub mod small_disk;
pub mod tracker;
pub mod usage;
pub mod wait;
pub mod world;

pub use binaries::Binaries;
pub use cluster::Cluster;
pub use ctl::Ctl;
pub use daemon::Daemon;
pub use relay::Relay;
pub use tracker::Tracker;
pub use world::World;
