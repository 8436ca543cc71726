//! `p2pctl`: one request to the daemon per invocation. Nothing is kept between two of them.

mod args;
mod command;
mod complete;
mod connect;
mod error;
#[cfg(test)]
mod fake_daemon;
mod file_output;
mod render;
mod session;
mod spool;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    complete::answer_shell();
    error::finish(args::ask_for_json(std::env::args_os()), args::parse(std::env::args_os()).and_then(command::run))
}
