//! The real server over real sockets, with a client made of quinn and the protocol's own parts.

mod accounts;
mod audit;
mod cluster;
mod harness;
mod hostile;
mod public;
mod sharing;
