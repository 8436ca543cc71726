//! The program `tracker`.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use p2p_host::log::Log;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_tracker::config::{ConfigError, Source, Task};
use p2p_tracker::run::{End, run};
use p2p_tracker::{backup, membership, seeders, status};

fn main() -> ExitCode {
    // What is kept here (the signing key, OPAQUE's secrets) is for this user alone, whoever makes the file.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let done = match Task::read(std::env::args_os()) {
        Ok(Task::Serve(source)) => serve(&source),
        // Whoever asked may have stopped reading, here and below.
        Ok(Task::Check(source)) => source.approve().map(|right| drop(writeln!(std::io::stdout(), "{right}"))),
        Ok(Task::Status { folder, json }) => status::show(&folder, json),
        Ok(Task::Seeders { folder, json }) => seeders::show(&folder, json),
        Ok(Task::Backup { folder, file }) => backup::back_up(&folder, &file),
        Ok(Task::Restore { folder, file }) => backup::restore(&folder, &file),
        Ok(Task::Promote { folder, force }) => membership::promote(&folder, force),
        Ok(Task::Remove { folder, tracker, force }) => membership::remove(&folder, tracker, force),
        Err(ConfigError::Usage(usage)) => usage.exit(),
        Err(ConfigError::ManualPage(program)) => {
            let _ = clap_mangen::Man::new(*program).render(&mut std::io::stdout());
            Ok(())
        }
        Err(ConfigError::Refused(reject)) => Err(reject),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reject) => tell(&reject),
    }
}

/// Runs the tracker to its end.
fn serve(source: &Source) -> Result<(), Reject> {
    let config = source.config()?;
    let log = Log::start(config.log_format, &config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let end = runtime
        .map_err(|error| Reject::new(ErrorCode::INTERNAL, format!("the system gives no threads: {error}")))
        .and_then(|runtime| runtime.block_on(run(config, source, &log)))?;
    match end {
        End::Stopped => Ok(()),
        End::Again => Err(begin_again()),
    }
}

/// Puts this program in its own place, with the same words: locks, sockets and memory are gone then, and the start is like any
/// other. The service manager sees the same process. Returns only where that fails.
fn begin_again() -> Reject {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let error = match std::env::current_exe() {
        Ok(path) => std::process::Command::new(path).arg0(program).args(words).exec(),
        Err(error) => error,
    };
    Reject::new(ErrorCode::INTERNAL, format!("the tracker has to begin again, and cannot: {error}"))
        .hint("start it again")
}

/// Tells a person why the tracker ends.
fn tell(reject: &Reject) -> ExitCode {
    eprintln!("tracker: {}", reject.message);
    if !reject.hint.is_empty() {
        eprintln!("hint: {}", reject.hint);
    }
    ExitCode::from(reject.code.exit_code())
}
