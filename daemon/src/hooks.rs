//! Programs of the user's own that are run when something has happened: `on_complete`, for each download that is complete.
//!
//! A program is run by its path, without a shell and without arguments; names that others have chosen reach it in its
//! environment alone. It is run at most once for a completion, after that is on disk: a daemon that is killed in between does
//! not run it at its next start, and one that is stopped ends those that run.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_host::figures::Figures;
use prometheus::{IntCounterVec, IntGauge};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::engine::record::DownloadRecord;

/// Programs that run at once: what they do is the user's own, and not to take the machine from transfers.
const RUNNING_MAX: usize = 4;

/// Completions that wait for their turn, each some hundred bytes; more are logged and not run.
const WAITING_MAX: usize = 4096;

/// How long one may run: enough to unpack a large file, or to copy it away.
const RUN_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// How much is kept of the end of what one says on its standard error, in bytes: it is logged when it has failed.
const SAID_BYTES_MAX: usize = 1024;

/// How long it may take to read what it has said last when it has ended: that is there already.
const SAID_DEADLINE: Duration = Duration::from_millis(100);

/// How long those that run may take to be gone when the daemon ends, after SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What of the daemon's own environment is not for others: they could speak to the service manager in its name.
const MANAGERS_VARIABLES: &[&str] =
    &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How a run can end, as the label has it.
const ENDS: &[&str] = &["succeeded", "failed", "timed_out", "stopped", "not_run"];

/// Runs programs. Clones share it.
#[derive(Debug, Clone)]
pub struct Hooks {
    on_complete: Arc<Mutex<Option<PathBuf>>>,
    runs: mpsc::Sender<Run>,
    /// Set when the daemon ends.
    ending: watch::Sender<bool>,
    runner: Arc<Mutex<Option<JoinHandle<()>>>>,
    ended: IntCounterVec,
}

/// A program to be run, and what for.
#[derive(Debug)]
struct Run {
    program: PathBuf,
    record: DownloadRecord,
}

impl Hooks {
    /// Runs nothing before [`set_on_complete`](Self::set_on_complete). Programs find the daemon of `home`, an absolute path,
    /// by `P2P_HOME`.
    pub fn start(home: Option<&Path>, figures: &Figures) -> Hooks {
        Hooks::with_deadline(home, figures, RUN_DEADLINE)
    }

    fn with_deadline(home: Option<&Path>, figures: &Figures, deadline: Duration) -> Hooks {
        let ended = figures.counters("p2pd_hooks_total", "Programs of on_complete, by how they ended.", "result", ENDS);
        let running = figures.gauge("p2pd_hooks_running", "Programs of on_complete that run.");
        let (runs, waiting) = mpsc::channel(WAITING_MAX);
        let (ending, ends) = watch::channel(false);
        let runner = Runner { home: home.map(Path::to_owned), deadline, ended: ended.clone(), running, ends };
        let runner = Arc::new(Mutex::new(Some(tokio::spawn(runner.run_all(waiting)))));
        Hooks { on_complete: Arc::default(), runs, ending, runner, ended }
    }

    /// What is run from now on for each download that is complete; `None`: nothing.
    pub fn set_on_complete(&self, program: Option<PathBuf>) {
        *lock(&self.on_complete) = program;
    }

    /// A download is in its place, and that is on disk.
    pub fn completed(&self, record: DownloadRecord) {
        let Some(program) = lock(&self.on_complete).clone() else { return };
        if let Err(error) = self.runs.try_send(Run { program, record }) {
            self.ended.with_label_values(&["not_run"]).inc();
            let Run { program, record } = error.into_inner();
            let (download, program) = (record.id.short(), program.display());
            tracing::warn!(%download, %program, "on_complete is not run: {WAITING_MAX} wait for it already");
        }
    }

    /// Ends those that run, and waits until they are gone; those that wait are not run.
    pub async fn shut_down(&self) {
        self.ending.send_replace(true);
        let runner = lock(&self.runner).take();
        if let Some(runner) = runner {
            // What is not gone by then, the system has not let go yet.
            let _ = timeout(STOP_DEADLINE, runner).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all runs share.
#[derive(Debug, Clone)]
struct Runner {
    home: Option<PathBuf>,
    deadline: Duration,
    ended: IntCounterVec,
    running: IntGauge,
    ends: watch::Receiver<bool>,
}

impl Runner {
    /// Runs what comes, a few at once, until the daemon ends.
    async fn run_all(self, mut waiting: mpsc::Receiver<Run>) {
        let mut ends = self.ends.clone();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Some(run) = waiting.recv(), if running.len() < RUNNING_MAX => {
                    running.spawn(self.clone().run(run));
                }
                Some(_) = running.join_next() => (),
                _ = ends.wait_for(|ending| *ending) => break,
            }
        }
        while running.join_next().await.is_some() {}
        waiting.close();
        while let Some(Run { record, program }) = waiting.recv().await {
            self.ended.with_label_values(&["not_run"]).inc();
            let (download, program) = (record.id.short(), program.display());
            tracing::warn!(%download, %program, "on_complete is not run: the daemon ends");
        }
    }

    /// Runs one program to its end, whatever that is.
    async fn run(mut self, Run { program, record }: Run) {
        let mut command = Command::new(&program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/");
        // A group of its own, so that what it starts ends with it.
        command.process_group(0).kill_on_drop(true);
        MANAGERS_VARIABLES.iter().for_each(|name| _ = command.env_remove(name));
        command.env("P2P_ID", record.id.to_string()).env("P2P_CONTENT", record.content.to_string());
        command.env("P2P_GROUP", record.group.as_str()).env("P2P_OWNER", record.owner.as_str());
        command.env("P2P_NAME", record.name.as_str()).env("P2P_PATH", &record.destination);
        command.env("P2P_SIZE", record.length_wanted().to_string());
        if let Some(home) = &self.home {
            command.env("P2P_HOME", home);
        }
        let (download, program) = (record.id.short(), program.display());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.ended.with_label_values(&["not_run"]).inc();
                return tracing::warn!(%download, %program, %error, "on_complete cannot be run");
            }
        };
        self.running.inc();
        let mut said = Said { stderr: child.stderr.take(), end: Vec::new() };
        let end = tokio::select! {
            status = said.until_ended(&mut child) => Some(status),
            () = tokio::time::sleep(self.deadline) => None,
            _ = self.ends.wait_for(|ending| *ending) => None,
        };
        if end.is_none() {
            kill(&mut child).await;
        }
        self.running.dec();
        let said = said.last_line();
        let word = match end {
            Some(Ok(status)) if status.success() => {
                tracing::info!(%download, %program, "on_complete has ended");
                "succeeded"
            }
            Some(Ok(status)) => {
                tracing::warn!(%download, %program, %status, said, "on_complete failed");
                "failed"
            }
            Some(Err(error)) => {
                tracing::warn!(%download, %program, %error, "nobody knows how on_complete has ended");
                "failed"
            }
            None if *self.ends.borrow() => {
                tracing::warn!(%download, %program, said, "on_complete was ended with the daemon");
                "stopped"
            }
            None => {
                let seconds = self.deadline.as_secs();
                tracing::warn!(%download, %program, said, "on_complete was ended after {seconds} s");
                "timed_out"
            }
        };
        self.ended.with_label_values(&[word]).inc();
    }
}

/// Ends a program with all that it has started and that has not gone its own way.
async fn kill(child: &mut Child) {
    // Not waited for yet, so the number is still its own.
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process_group(id, Signal::KILL);
    }
    let _ = child.wait().await;
}

/// The end of what a program says on its standard error.
#[derive(Debug)]
struct Said {
    /// `None` once it is closed.
    stderr: Option<ChildStderr>,
    end: Vec<u8>,
}

impl Said {
    /// Listens until the program has ended; what it has left running may go on to speak to nobody.
    async fn until_ended(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let status = tokio::select! {
            status = child.wait() => status,
            () = self.listen() => child.wait().await,
        };
        let _ = timeout(SAID_DEADLINE, self.listen()).await;
        status
    }

    /// Listens until the last who can speak is gone.
    async fn listen(&mut self) {
        let mut buffer = [0; SAID_BYTES_MAX];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer).await {
                Ok(0) | Err(_) => self.stderr = None,
                Ok(bytes) => {
                    self.end.extend_from_slice(&buffer[..bytes]);
                    let surplus = self.end.len().saturating_sub(SAID_BYTES_MAX);
                    self.end.drain(..surplus);
                }
            }
        }
    }

    /// The last line that is not empty.
    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.end);
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests;
