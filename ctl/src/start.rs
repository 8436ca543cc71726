//! Starting the daemon in the background, once, and waiting until it says that it serves.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::connect::Connection;
use crate::error::{Failure, cause};

/// How long a daemon may take until it serves. Its stores open in far less; the rest is for a slow disk.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the daemon's ready line begins with, on its standard output.
const READY_LINE: &str = "p2pd ready";

/// How much of what a daemon prints before its ready line is looked at, in bytes.
const READY_BYTES_MAX: u64 = 64 * 1024;

/// How much of the log is read for its last lines, in bytes.
const LOG_TAIL_BYTES_MAX: u64 = 4 * 1024;

/// How many of the log's last lines are told.
const LOG_TAIL_LINES: usize = 3;

/// What to start.
#[derive(Debug)]
pub struct Starter {
    /// The program: beside this one, or wherever `PATH` finds it.
    program: PathBuf,
    /// The folder given with `--home`, absolute, passed on.
    home: Option<PathBuf>,
    folders: Folders,
    timeout: Duration,
}

impl Starter {
    /// A starter of the `p2pd` that lies beside this program, or else in `PATH`.
    pub fn new(home: Option<PathBuf>, folders: Folders) -> Starter {
        let beside = std::env::current_exe().ok().map(|program| program.with_file_name("p2pd"));
        let program = beside.filter(|program| program.is_file()).unwrap_or_else(|| "p2pd".into());
        Starter { program, home, folders, timeout: READY_TIMEOUT }
    }

    /// The daemon at `socket`, started unless another command has done so meanwhile. Calls `started` with the
    /// process id of a daemon that serves now.
    pub async fn start(&self, socket: &Path, started: impl FnOnce(u32)) -> Result<Connection, Failure> {
        self.folders.make_state().map_err(Reject::from)?;
        // Held until the daemon serves: of several commands at once one starts it, and the others find it running.
        // Whoever holds it gives up after its own timeout, so this waits no longer than that for each of them.
        let _lock = self.lock().map_err(|error| self.not_started(&cause(&error)))?;
        if let Some(connection) = Connection::open(socket).await? {
            return Ok(connection);
        }
        let mut log = self.open_log().map_err(|error| self.not_started(&cause(&error)))?;
        let log_start = log.seek(SeekFrom::End(0)).unwrap_or_default();
        let mut child = self.spawn(&log)?;
        let process_id = child.id().unwrap_or_default();
        let outcome = tokio::time::timeout(self.timeout, ready(&mut child)).await;
        // It may be there in spite of all: started by systemd at the same time, for instance.
        let connection = Connection::open(socket).await?;
        match (connection, outcome) {
            (Some(connection), _) => {
                started(process_id);
                Ok(connection)
            }
            (None, Ok(Err(end))) => Err(self.not_started(&with_log(&end, &mut log, log_start))),
            (None, Ok(Ok(()))) => {
                Err(self.not_started(&format!("it says that it serves, but not at {}", socket.display())))
            }
            (None, Err(_)) => {
                let end = format!("process {process_id} is not ready after {} s", self.timeout.as_secs());
                Err(self.not_started(&with_log(&end, &mut log, log_start)))
            }
        }
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.folders.state.join("start.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(self.folders.daemon_log())
    }

    /// Starts the process: a group of its own, so that Ctrl-C here does not reach it; no folder of ours held open.
    fn spawn(&self, log: &File) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        if let Some(home) = &self.home {
            command.arg("--home").arg(home);
        }
        let log = log.try_clone().map_err(|error| self.not_started(&cause(&error)))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/").process_group(0);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                no_daemon("p2pd is neither beside p2pctl nor in PATH").hint("install p2pd beside p2pctl")
            }
            _ => self.not_started(&cause(&error)),
        })
    }

    fn not_started(&self, why: &str) -> Failure {
        let log = self.folders.daemon_log();
        no_daemon(&format!("p2pd could not be started: {why}")).hint(format!("its log is {}", log.display()))
    }
}

fn no_daemon(message: &str) -> Failure {
    Failure::new(ErrorCode::NO_DAEMON, message)
}

/// Waits for the ready line; the error says how the process ended without one.
async fn ready(child: &mut Child) -> Result<(), String> {
    let stdout = child.stdout.take().ok_or("its output cannot be read")?;
    if says_ready(stdout).await {
        return Ok(());
    }
    match child.wait().await {
        Ok(status) => Err(format!("it ended ({status})")),
        Err(error) => Err(cause(&error)),
    }
}

async fn says_ready(stdout: impl AsyncRead + Unpin) -> bool {
    let mut lines = BufReader::new(stdout.take(READY_BYTES_MAX)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with(READY_LINE) {
            return true;
        }
    }
    false
}

/// `end`, and the last lines that the process wrote to its log, which is read from where the process found it.
fn with_log(end: &str, log: &mut File, start: u64) -> String {
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let from = start.max(length.saturating_sub(LOG_TAIL_BYTES_MAX));
    let mut bytes = Vec::new();
    let read = log.seek(SeekFrom::Start(from)).and_then(|_| log.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    if read.is_err() || last.is_empty() { end.to_owned() } else { format!("{end}: {}", last.join("; ")) }
}

#[cfg(test)]
mod tests;
