//! Programs of the tests' own that speak the protocols as they like: a peer, a provider, a tracker's client, a tracker.
//!
//! Their QUIC connections, TLS set-up and streams are made here from quinn and rustls, and share nothing with the
//! daemon's; only the messages are the protocol's own types, since refusals are to be understood.

pub mod client;
pub mod datagram;
pub mod key;
pub mod peer;
pub mod provider;
pub mod tracker;
pub mod wire;

pub use client::Client;
pub use key::{Key, Shown};
pub use peer::Peer;
pub use provider::{Lie, Provider};
pub use tracker::Tracker;
pub use wire::{Heard, Line, Stream};

/// What hostile programs run on, beside the test that drives them.
///
/// # Panics
/// If the system gives no threads.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads")
}
