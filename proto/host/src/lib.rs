//! What both daemons need of the machine they run on: settings in a file, the log, and figures over local HTTP.

pub mod figures;
pub mod log;
pub mod monitor;
pub mod reload;
pub mod settings;
