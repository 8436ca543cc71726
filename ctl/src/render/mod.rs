//! Showing: answers on standard output, all else on standard error, for people or as JSON.

pub mod escape;
pub mod event;
#[cfg(test)]
pub mod examples;
pub mod human;
pub mod json;
pub mod progress;
mod rate;
mod status;
mod table;
mod unit;
mod why;

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::SystemTime;

use console::Style;
use p2p_proto::control::Answer;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;

use crate::error::{Failure, cause};
use escape::escape;

/// What people are shown of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Data, for standard output.
    pub lines: Vec<String>,
    /// What has changed, or that there is nothing to show, for standard error.
    pub message: Option<String>,
    /// What may come next, a command or a sentence.
    pub next: Option<String>,
}

impl Text {
    /// Data; `none` says it where there is nothing.
    pub fn data(lines: Vec<String>, none: impl FnOnce() -> String) -> Text {
        let message = lines.is_empty().then(none);
        Text { lines, message, next: None }
    }

    /// What has changed.
    pub fn change(message: impl Into<String>) -> Text {
        Text { message: Some(message.into()), ..Text::default() }
    }

    /// The same with what may come next.
    pub fn next(mut self, next: impl Into<String>) -> Text {
        self.next = Some(next.into());
        self
    }
}

/// What a rendering depends on beside the answer.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// This machine's clock.
    pub now: UnixMillis,
    /// Columns of the terminal that standard output is; `None` where it is none.
    pub width: Option<u16>,
}

/// Standard output and standard error, and what may be shown there. Everything from others is escaped here.
#[derive(Debug)]
pub struct Screen {
    /// JSON documents instead of text for people.
    pub as_json: bool,
    quiet: bool,
    /// Whether the answer may be old.
    stale: Cell<bool>,
    /// Whether standard output is a file's: then documents go to standard error.
    stdout_is_a_files: Cell<bool>,
}

impl Screen {
    /// A screen for the options given.
    pub fn new(as_json: bool, quiet: bool) -> Screen {
        Screen { as_json, quiet, stale: Cell::new(false), stdout_is_a_files: Cell::new(false) }
    }

    /// Shows an answer: its document, or what `text` makes of it for people.
    pub fn answer(&self, answer: &Answer, text: impl FnOnce(View) -> Text) -> Result<(), Failure> {
        if self.as_json {
            return self.document(&match self.stale.get() {
                false => json::answer(answer),
                true => json::stale_answer(answer),
            });
        }
        let text = text(view());
        if !text.lines.is_empty() {
            to_stdout(text.lines.iter().map(|line| colour_problem(&escape(line))))?;
        }
        if let Some(message) = &text.message {
            self.message(message);
        }
        if let (Some(next), false) = (&text.next, self.quiet) {
            Screen::lines_to_stderr([format!(
                "{} {}",
                Style::new().dim().for_stderr().apply_to("next:"),
                escape(next)
            )]);
        }
        Ok(())
    }

    /// Takes note that the answer may be old, for want of a majority of the trackers, and says so.
    pub fn mark_stale(&self) {
        if !self.stale.replace(true) {
            self.warning("this may be old: the tracker that tells it has lost sight of the majority of its cluster");
        }
    }

    /// Prints a line of what is followed.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        to_stdout([escape(line)])
    }

    /// Prints a file's text, as it is.
    pub fn raw(&self, text: &[u8]) -> Result<(), Failure> {
        write_to_stdout(text)
    }

    /// Prints a document of what is followed.
    pub fn document(&self, document: &str) -> Result<(), Failure> {
        if self.stdout_is_a_files.get() {
            Screen::lines_to_stderr([document]);
            return Ok(());
        }
        to_stdout([document])
    }

    /// From now on nothing but a file's bytes goes to standard output, which others write there.
    pub fn leave_stdout_to_a_file(&self) {
        self.stdout_is_a_files.set(true);
    }

    /// Makes room for what is shown in the place of what was shown before: a terminal is cleared.
    pub fn begin_again(&self) {
        let stdout = console::Term::stdout();
        if stdout.is_term() && !self.as_json {
            // A terminal that cannot be cleared shows one below the other.
            let _ = stdout.clear_screen();
        }
    }

    /// Tells people something on standard error, unless they want to be left alone.
    pub fn message(&self, message: &str) {
        if self.shows_messages() {
            Screen::lines_to_stderr([escape(message)]);
        }
    }

    /// The same for something that is not as it should be.
    pub fn warning(&self, message: &str) {
        if self.shows_messages() {
            let word = Style::new().yellow().bold().for_stderr().apply_to("warning:");
            Screen::lines_to_stderr([format!("{word} {}", escape(message))]);
        }
    }

    /// Whether messages and progress are shown to people.
    pub fn shows_messages(&self) -> bool {
        !self.quiet && !self.as_json
    }

    /// Tells people what went wrong and what to do next.
    pub fn error(reject: &Reject) {
        let word = Style::new().red().bold().for_stderr().apply_to("error:");
        Screen::lines_to_stderr([format!("{word} {}", escape(&reject.message))]);
        if !reject.hint.is_empty() {
            let word = Style::new().dim().for_stderr().apply_to("hint:");
            Screen::lines_to_stderr([format!("{word} {}", escape(&reject.hint))]);
        }
    }

    /// Writes lines to standard error. There is nobody to tell if that fails.
    pub fn lines_to_stderr<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) {
        let mut stderr = io::stderr().lock();
        for line in lines {
            let _ = writeln!(stderr, "{}", line.as_ref());
        }
    }
}

fn view() -> View {
    let stdout = console::Term::stdout();
    let width = if stdout.is_term() { stdout.size_checked().map(|(_, columns)| columns) } else { None };
    View { now: SystemTime::now().into(), width }
}

/// A line that begins with `!` says what is wrong; the sign stands out.
fn colour_problem(line: &str) -> String {
    match line.strip_prefix("! ") {
        Some(problem) => format!("{} {problem}", Style::new().yellow().bold().apply_to("!")),
        None => line.to_owned(),
    }
}

/// Writes lines to standard output, all at once.
fn to_stdout<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> Result<(), Failure> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    write_to_stdout(text.as_bytes())
}

fn write_to_stdout(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| output_failure(&error))
}

/// What to say where standard output takes nothing: nothing at all where whoever read it has seen enough.
pub fn output_failure(error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => return Failure::OutputClosed,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DISK_FULL,
        _ => ErrorCode::INTERNAL,
    };
    Failure::new(code, format!("standard output cannot be written: {}", cause(error)))
}
