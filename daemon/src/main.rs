//! `p2pd`: starts the daemon and turns what stops it into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use p2pd::config::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| p2pd::run::LOG_FILTER.into()),
        )
        .with_ansi(false)
        .init();
    match p2pd::run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reject) => {
            eprintln!("p2pd: {}", reject.message);
            if !reject.hint.is_empty() {
                eprintln!("hint: {}", reject.hint);
            }
            ExitCode::from(reject.code.exit_code())
        }
    }
}
