//! What the three programs say to each other: names, ids, manifests, messages, limits, identity and TLS.
//!
//! Nothing here opens a socket or starts a task; only [`identity`] touches the disk, to keep a key. Every message is
//! [postcard](https://postcard.jamesmunns.com/wire-format) inside a length-prefixed frame, and the bytes of each are
//! held still by the recordings in `golden/`.

pub mod codec;
pub mod control;
pub mod escape;
pub mod folder;
pub mod frame;
pub mod geometry;
#[cfg(test)]
mod golden;
pub mod grant;
pub mod have_map;
pub mod id;
pub mod identity;
pub mod limit;
pub mod manifest;
pub mod mtorrent;
pub mod name;
pub mod password;
pub mod paths;
pub mod peer;
pub mod private_folder;
pub mod reject;
pub mod service;
pub mod time;
pub mod tls;
pub mod tracker;
pub mod tracker_info;
pub mod version;
