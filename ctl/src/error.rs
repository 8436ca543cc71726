//! What ends a command: one kind for every failure, told on standard error and turned into the exit code here alone.

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use p2p_proto::name::NameError;
use p2p_proto::paths::PathsError;
use p2p_proto::reject::{ErrorCode, Reject};

use crate::render::escape::escape;
use crate::render::{Screen, json};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Refused, by the daemon or here.
    Refused(Reject),
    /// No command to carry out: clap has a text to show, the help asked for among them.
    Usage(clap::Error),
    /// Whoever read standard output has gone, as `head` does: nothing more to say, and not a fault.
    OutputClosed,
    /// Told already; only the exit code is left.
    Told(ErrorCode),
}

impl Failure {
    /// A refusal without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::Refused(Reject::new(code, message))
    }

    /// The same with what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        match self {
            Failure::Refused(reject) => Failure::Refused(reject.hint(hint)),
            other => other,
        }
    }

    /// A command line that is understood but makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(ErrorCode::USAGE, message)
    }

    /// A local file or folder that the system refuses; `what` names it.
    pub fn file(what: &str, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorCode::FILE_MISSING,
            io::ErrorKind::IsADirectory => ErrorCode::NOT_A_FILE,
            io::ErrorKind::PermissionDenied => ErrorCode::FILE_UNREADABLE,
            _ => ErrorCode::DISK_ERROR,
        };
        Failure::new(code, format!("{what}: {}", cause(error)))
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Failure {
        Failure::Refused(reject)
    }
}

impl From<PathsError> for Failure {
    fn from(error: PathsError) -> Failure {
        let hint = match error {
            PathsError::NoHome => "say where the daemon lives with --home DIR",
            PathsError::Home { .. } => "",
            PathsError::SocketTooLong(_) => "choose a shorter folder with --home DIR",
        };
        Failure::usage(error.to_string()).hint(hint)
    }
}

impl From<clap::Error> for Failure {
    /// A name that is not allowed has a code of its own; the rest is clap's to explain.
    fn from(error: clap::Error) -> Failure {
        let name_error = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<NameError>());
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            _ => "",
        };
        match name_error {
            Some(cause) => {
                let (value, argument) = (text(ContextKind::InvalidValue), text(ContextKind::InvalidArg));
                let argument = argument.trim_matches(['<', '>', '[', ']']);
                Failure::new(ErrorCode::BAD_NAME, format!("`{value}` does not do for {argument}: {cause}"))
            }
            None => Failure::Usage(error),
        }
    }
}

/// The system's own words for an error, in lower case and without its number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// Tells what went wrong, if anything did, and gives the process its exit code.
pub fn finish(as_json: bool, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(tell(as_json, failure)),
    }
}

/// Tells a failure on standard error; its exit code.
pub fn tell(as_json: bool, failure: Failure) -> u8 {
    let reject = match failure {
        Failure::Refused(reject) => reject,
        Failure::OutputClosed => return 0,
        Failure::Told(code) => return code.exit_code(),
        Failure::Usage(error) if !error.use_stderr() => {
            // Help or version, on standard output; if nobody reads it, nobody is told.
            let _ = error.print();
            return 0;
        }
        Failure::Usage(error) if as_json => usage_reject(&error),
        Failure::Usage(error) => {
            Screen::lines_to_stderr(error.render().to_string().trim_end().lines().map(escape));
            return ErrorCode::USAGE.exit_code();
        }
    };
    if as_json {
        Screen::lines_to_stderr([json::error(&reject).as_str()]);
    } else {
        Screen::error(&reject);
    }
    reject.code.exit_code()
}

/// clap's explanation as one message and one hint.
fn usage_reject(error: &clap::Error) -> Reject {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Reject::new(ErrorCode::USAGE, "no command given").hint("`p2pctl --help` lists the commands");
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = parts.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let help: Vec<String> = parts.filter(|part| part.starts_with("tip:") || part.starts_with("Usage:")).collect();
    Reject::new(ErrorCode::USAGE, message).hint(help.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_failure(words: &[&str]) -> Failure {
        crate::args::parse(words.iter().map(Into::into)).expect_err("refused")
    }

    #[test]
    fn every_code_of_the_daemon_becomes_the_exit_code() {
        for code in ErrorCode::ALL {
            assert_eq!(tell(true, Failure::Told(*code)), code.exit_code(), "{code:?}");
        }
        assert_eq!(tell(false, Failure::OutputClosed), 0);
    }

    #[test]
    fn a_bad_name_has_its_own_code_and_says_why() {
        for words in [
            ["p2pctl", "join_group", "a/b"],
            ["p2pctl", "join_group", ".."],
            ["p2pctl", "join_group", ""],
            ["p2pctl", "join_group", "a\nb"],
            ["p2pctl", "login", "a:b"],
        ] {
            let Failure::Refused(reject) = parse_failure(&words) else { panic!("{words:?}") };
            assert_eq!(reject.code, ErrorCode::BAD_NAME, "{words:?}");
            assert_eq!(reject.code.exit_code(), 2);
        }
        let Failure::Refused(reject) = parse_failure(&["p2pctl", "join_group", "a/b"]) else { panic!() };
        assert_eq!(reject.message, "`a/b` does not do for GROUP: the character `/` is not allowed in a name");
        let long = "x".repeat(256);
        let Failure::Refused(reject) = parse_failure(&["p2pctl", "create_group", &long]) else { panic!() };
        assert_eq!(reject.code, ErrorCode::BAD_NAME);
    }

    #[test]
    fn a_wrong_command_line_is_one_message_and_one_hint() {
        let Failure::Usage(error) = parse_failure(&["p2pctl", "accept_request", "photos"]) else { panic!() };
        let reject = usage_reject(&error);
        assert_eq!(reject.message, "the following required arguments were not provided: <USER>");
        assert_eq!(reject.hint, "Usage: p2pctl accept_request <GROUP> <USER>");
        let Failure::Usage(error) = parse_failure(&["p2pctl"]) else { panic!() };
        assert_eq!(usage_reject(&error).message, "no command given");
    }

    #[test]
    fn the_systems_words_are_kept_and_its_numbers_are_not() {
        assert_eq!(cause(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
