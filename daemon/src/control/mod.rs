//! The control socket: commands come in, frames go out, one connection an invocation of `p2pctl`.

mod listener;
mod session;

pub use listener::{Control, SocketError, activated_socket};
