//! `p2pd`: starts the daemon and turns what stops it into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use p2p_host::log::Log;
use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use p2pd::config::{Arguments, Config};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.man {
        // Whoever asked may have stopped reading.
        let _ = clap_mangen::Man::new(Arguments::command()).render(&mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    match start(arguments) {
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

/// Reads the settings, and checks them or runs the daemon.
fn start(arguments: Arguments) -> Result<(), Reject> {
    let folders =
        Folders::find(arguments.home.as_deref()).map_err(|error| Reject::new(ErrorCode::USAGE, error.to_string()))?;
    let config = Config::read(&arguments, &folders)?;
    if arguments.check_config {
        let right = config.approve(&arguments, &folders)?;
        let _ = writeln!(std::io::stdout(), "{right}");
        return Ok(());
    }
    let log = Log::start(config.log_format, &config.log);
    p2pd::run::run(arguments, folders, config, log)
}
