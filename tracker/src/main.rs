//! The program `tracker`.

use std::process::ExitCode;

use p2p_proto::escape::HarmlessLines;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_tracker::config::{Config, ConfigError, Task};
use p2p_tracker::run::run;
use p2p_tracker::{backup, seeders, status};
use tracing_subscriber::EnvFilter;

/// What its log calls the library that the cluster rests on.
const OPENRAFT: &str = "openraft";

fn main() -> ExitCode {
    let config = match Config::read(std::env::args_os()) {
        Ok(Task::Serve(config)) => config,
        Ok(Task::Status { folder, json }) => return end(status::show(&folder, json)),
        Ok(Task::Seeders { folder, json }) => return end(seeders::show(&folder, json)),
        Ok(Task::Backup { folder, file }) => return end(backup::back_up(&folder, &file)),
        Ok(Task::Restore { folder, file }) => return end(backup::restore(&folder, &file)),
        Err(ConfigError::Usage(usage)) => usage.exit(),
        Err(ConfigError::ManualPage(program)) => {
            // Whoever asked may have stopped reading.
            let _ = clap_mangen::Man::new(*program).render(&mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Refused(reject)) => return tell(&reject),
    };
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.trim().is_empty());
    let asked = asked.unwrap_or_else(|| "info".to_owned());
    // What openraft does, the log tells in its own words; whoever wants to know more has to name it.
    let asked = if asked.contains(OPENRAFT) { asked } else { format!("{asked},{OPENRAFT}=off") };
    let filter = EnvFilter::builder().parse_lossy(asked);
    // What is kept here (the signing key, OPAQUE's secrets) is for this user alone, whoever makes the file.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    tracing_subscriber::fmt()
        .with_writer(|| HarmlessLines(std::io::stderr()))
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime
        .map_err(|error| Reject::new(ErrorCode::INTERNAL, format!("the system gives no threads: {error}")))
        .and_then(|runtime| runtime.block_on(run(config)));
    end(ended)
}

fn end(ended: Result<(), Reject>) -> ExitCode {
    ended.map_or_else(|reject| tell(&reject), |()| ExitCode::SUCCESS)
}

/// Tells a person why the tracker ends.
fn tell(reject: &Reject) -> ExitCode {
    eprintln!("tracker: {}", reject.message);
    if !reject.hint.is_empty() {
        eprintln!("hint: {}", reject.hint);
    }
    ExitCode::from(reject.code.exit_code())
}
