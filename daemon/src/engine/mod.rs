//! The core of the daemon: decides everything, touches nothing.

pub mod input;
pub mod output;
pub mod record;

pub use input::Input;
pub use output::Output;
