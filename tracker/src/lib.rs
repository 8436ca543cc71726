//! The tracker: users, groups, listings, and who is online with what.
//!
//! ```text
//! server → log → state        server: connections, requests, events      log: durable order of all changes
//!        ↘ presence           presence: who is online, memory only       state: the pure machine behind the log
//!        ↘ granted            granted: who may be served, memory only
//! ```

mod admin;
pub mod backup;
pub mod clock;
pub mod config;
mod figures;
mod frames;
pub mod granted;
pub mod log;
pub mod membership;
pub mod presence;
pub mod run;
pub mod seeders;
pub mod server;
pub mod state;
pub mod status;
mod turn;
