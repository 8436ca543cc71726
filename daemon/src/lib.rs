//! The daemon's parts, as a library so that tests can drive the engine without a process around it.

pub mod clock;
pub mod config;
pub mod control;
pub mod driver;
pub mod endpoint;
pub mod engine;
pub mod figures;
pub mod frame_stream;
pub mod hooks;
pub mod net;
pub mod piece_buffer;
pub mod run;
pub mod silence;
pub mod store;
pub mod tracker_link;
pub mod watch;
