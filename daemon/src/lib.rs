//! The daemon's parts, as a library so that tests can drive the engine without a process around it.

pub mod clock;
pub mod control;
pub mod engine;
pub mod store;
