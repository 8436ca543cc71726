//! One program that runs in the background: started with a clean environment, awaited by its ready line, killed on drop.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::usage;
use crate::wait::eventually;

/// How much of a log is printed when a test fails, in lines from its end.
const LOG_LINES: usize = 60;

/// What a program did to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileBytes {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    left_running: bool,
    /// What it printed when it was ready.
    pub ready_line: String,
}

/// `program` with nothing of this process's environment but a place for temporary files: no home, no settings.
pub fn clean_command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", folder.join("nobody"));
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

impl Process {
    /// Starts `command` and waits for the line that begins with `ready`. What it says goes behind what is in `log`.
    ///
    /// Standard output is a file too, not a pipe: the program may outlive this one.
    ///
    /// # Errors
    /// How it ended, or what it did instead of getting ready.
    pub fn start(name: &str, mut command: Command, log: PathBuf, ready: &str) -> Result<Process, String> {
        let file = open_log(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let stdout = file.try_clone().map_err(|error| error.to_string())?;
        let start = file.metadata().map_err(|error| error.to_string())?.len();
        let child = command.stdout(stdout).stderr(file).spawn();
        let child = child.map_err(|error| format!("{name} does not start: {error}"))?;
        let mut process = Process { name: name.to_owned(), log, child, left_running: false, ready_line: String::new() };
        let is_ready = |line: &&str| line.starts_with(ready);
        let outcome = eventually(&format!("{name} is ready"), || {
            // In this order: what it said last is in the log when it has ended.
            let ended = process.child.try_wait();
            let said = process.log_from(start);
            match (said.split_inclusive('\n').filter(|line| line.ends_with('\n')).find(is_ready), ended) {
                (Some(line), _) => Some(Ok(line.trim_end().to_owned())),
                (None, Ok(None)) => None,
                (None, ended) => Some(Err(format!("{name} is not ready ({ended:?})\n{}", process.log_tail()))),
            }
        });
        process.ready_line = outcome?;
        Ok(process)
    }

    /// What it said since its log had `start` bytes.
    fn log_from(&self, start: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)
        });
        read.map_or(String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the program does nothing more, not even tidy up. Waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, as a service manager sends it; how the program ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("our own child, not yet waited for");
    }

    /// How the program ended, which it does by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, || self.child.try_wait().expect("our own child"))
    }

    /// Lets it run when this is dropped.
    pub fn leave_running(&mut self) {
        self.left_running = true;
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Bytes of memory that it occupies now; `None` where the system does not tell.
    pub fn resident_bytes(&self) -> Option<u64> {
        usage::resident_bytes(self.id())
    }

    /// The most bytes of memory that it has occupied; `None` where the system does not tell.
    pub fn peak_resident_bytes(&self) -> Option<u64> {
        usage::peak_resident_bytes(self.id())
    }

    /// All that it has said so far, earlier processes of the same log included.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    /// Bytes that it has read and written with calls on files so far, its log and its libraries included, datagrams not;
    /// `None` where the system does not tell.
    pub fn file_bytes(&self) -> Option<FileBytes> {
        let counts = std::fs::read_to_string(format!("/proc/{}/io", self.id())).ok()?;
        let count = |name: &str| counts.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(FileBytes { read: count("rchar:")?, written: count("wchar:")? })
    }

    /// Time that it has had on processors so far; `None` where the system does not tell.
    pub fn processor_time(&self) -> Option<Duration> {
        usage::processor_time(self.id())
    }

    /// How many lines of its log hold this text.
    pub fn log_lines_with(&self, text: &str) -> usize {
        self.log_from(0).lines().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line that holds this text, behind the first `known` ones that do.
    pub fn logs(&self, known: usize, text: &str) -> String {
        eventually(&format!("{} logs {text}", self.name), || {
            let log = self.log();
            log.lines().filter(|line| line.contains(text)).nth(known).map(str::to_owned)
        })
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("---- log of {}\n{}\n----", self.name, last.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.left_running {
            return;
        }
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}
