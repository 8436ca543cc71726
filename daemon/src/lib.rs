//! The daemon's parts, as a library so that tests can drive the engine without a process around it.

pub mod engine;
