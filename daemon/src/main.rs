//! `p2pd`: starts the daemon and turns what stops it into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use p2p_proto::escape::HarmlessLines;
use p2pd::config::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.man {
        // Whoever asked may have stopped reading.
        let _ = clap_mangen::Man::new(Arguments::command()).render(&mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_writer(|| HarmlessLines(std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| p2pd::run::LOG_FILTER.into()),
        )
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    match p2pd::run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reject) => {
            // Where the disk that holds the log is full, nothing can be said; the exit code still is.
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "p2pd: {}", reject.message);
            if !reject.hint.is_empty() {
                let _ = writeln!(stderr, "hint: {}", reject.hint);
            }
            ExitCode::from(reject.code.exit_code())
        }
    }
}
