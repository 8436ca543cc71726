//! Running `p2pctl`: what it prints, how it is refused, and following it while it runs.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

use crate::wait::TRANSFER_DEADLINE;

/// One command to come.
#[derive(Debug)]
pub struct Ctl {
    command: Command,
}

/// How a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The process's exit code.
    pub exit_code: i32,
    /// The word for scripts; empty where the refusal was not asked for as JSON.
    pub code: String,
    /// What failed.
    pub message: String,
    /// What to do next, where something helps.
    pub hint: Option<String>,
}

impl Ctl {
    /// A command whose global options are there already.
    pub(crate) fn new(command: Command) -> Ctl {
        Ctl { command }
    }

    /// Changes the command before it runs.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Ctl {
        change(&mut self.command);
        self
    }

    /// Runs it to its end, whatever that is.
    pub fn output<S: AsRef<OsStr>>(mut self, words: &[S]) -> Output {
        self.command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let child = Follower::new(self.command.spawn().expect("p2pctl starts"), shown);
        child.finish()
    }

    /// All that it says to people, on standard output and then on standard error; it must succeed.
    pub fn said<S: AsRef<OsStr>>(self, words: &[S]) -> String {
        let output = self.output(words);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {text}", show(words));
        text
    }

    /// The data that it prints for people; it must succeed.
    pub fn run<S: AsRef<OsStr>>(self, words: &[S]) -> String {
        let output = self.output(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}{}", show(words), String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Every document it prints; it must succeed.
    pub fn documents<S: AsRef<OsStr>>(self, words: &[S]) -> Vec<Value> {
        let text = self.with(|command| _ = command.arg("--json")).run(words);
        let documents: Vec<Value> = text.lines().map(|line| document(line, words)).collect();
        assert!(!documents.is_empty(), "{} prints no document", show(words));
        documents
    }

    /// The last document it prints; it must succeed.
    pub fn json<S: AsRef<OsStr>>(self, words: &[S]) -> Value {
        self.documents(words).pop().unwrap_or_default()
    }

    /// How it is refused, told to people.
    pub fn refusal<S: AsRef<OsStr>>(self, words: &[S]) -> Refusal {
        let output = self.output(words);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{} succeeds", show(words));
        assert!(!message.trim().is_empty(), "{} fails and says nothing", show(words));
        let exit_code = output.status.code().unwrap_or_else(|| panic!("{}: {}", show(words), output.status));
        Refusal { exit_code, code: String::new(), message, hint: None }
    }

    /// How it is refused, told to scripts: one document on standard error, whose fields are checked.
    pub fn json_refusal<S: AsRef<OsStr>>(self, words: &[S]) -> Refusal {
        let refusal = self.with(|command| _ = command.arg("--json")).refusal(words);
        let error = document(refusal.message.trim_end(), words);
        assert_eq!((&error["schema"], &error["type"]), (&1.into(), &"error".into()), "{error}");
        assert_eq!(error["exit_code"], refusal.exit_code, "{error}");
        let text = |field: &str| error[field].as_str().map(str::to_owned);
        let (code, message) = (text("code").expect("a code"), text("message").expect("a message"));
        assert!(!code.is_empty() && !message.is_empty(), "{error}");
        assert!(error.get("hint").is_some(), "unknown is null, not absent: {error}");
        Refusal { exit_code: refusal.exit_code, code, message, hint: text("hint") }
    }

    /// What comes of it for a script: its last document, or the code of its refusal.
    pub fn outcome<S: AsRef<OsStr>>(self, words: &[S]) -> Result<Value, String> {
        let output = self.with(|command| _ = command.arg("--json")).output(words);
        let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        let document = document(text.lines().last().unwrap_or_default(), words);
        match document["code"].as_str() {
            Some(code) if !output.status.success() => Err(code.to_owned()),
            _ => Ok(document),
        }
    }

    /// Runs it with `--json` and gives each document as it comes.
    pub fn follow<S: AsRef<OsStr>>(mut self, words: &[S]) -> Follower {
        self.command.arg("--json").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        Follower::new(self.command.spawn().expect("p2pctl starts"), show(words))
    }
}

/// A command that runs. Killed when it is dropped, which the daemon does not care about.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    shown: String,
    lines: Receiver<Vec<u8>>,
    errors: Receiver<Vec<u8>>,
}

impl Follower {
    fn new(mut child: Child, shown: String) -> Follower {
        let (sender, lines) = mpsc::channel();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                // Whoever follows may have seen enough.
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        let (sender, errors) = mpsc::channel();
        let mut stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            let _ = sender.send(text);
        });
        Follower { child, shown, lines, errors }
    }

    /// The next document, `None` when the command has printed its last.
    pub fn next_document(&mut self) -> Option<Value> {
        let line = self.next_line()?;
        Some(document(String::from_utf8_lossy(&line).trim_end(), &[&self.shown]))
    }

    /// The first document that `wanted` accepts.
    ///
    /// # Panics
    /// If the command ends before.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        while let Some(document) = self.next_document() {
            if wanted(&document) {
                return document;
            }
            seen.push(document);
        }
        let errors = self.errors.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        panic!("{} ended before that: {seen:?} {}", self.shown, String::from_utf8_lossy(&errors));
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        match self.lines.recv_timeout(TRANSFER_DEADLINE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("p2pctl {} says nothing for {} s", self.shown, TRANSFER_DEADLINE.as_secs())
            }
        }
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("our own child, not yet waited for");
    }

    /// Everything the command prints from here on, and how it ends.
    pub fn finish(mut self) -> Output {
        let mut stdout = Vec::new();
        while let Some(line) = self.next_line() {
            stdout.extend(line);
        }
        let stderr = self.errors.recv_timeout(TRANSFER_DEADLINE).unwrap_or_default();
        let status = self.child.wait().expect("our own child");
        Output { status, stdout, stderr }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one document in `text`.
fn document<S: AsRef<OsStr>>(text: &str, words: &[S]) -> Value {
    let document: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error} in {text:?}", show(words)));
    assert_eq!(document["schema"], 1, "{}: {document}", show(words));
    crate::schema::check(&document).unwrap_or_else(|fault| panic!("{}: {document}: {fault}", show(words)));
    document
}

/// A command as a person reads it in a failure.
fn show<S: AsRef<OsStr>>(words: &[S]) -> String {
    words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
