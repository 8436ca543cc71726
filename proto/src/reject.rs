//! Refusals: one kind for all three wires, each with its word for scripts and its exit code.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limit::REJECT_TEXT_BYTES_MAX;
use crate::name::NameError;

/// Why something was refused. A number on the wire, so that one this version does not know is kept and passed on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

/// Defines the codes: name, number, word for scripts, exit code of `p2pctl`.
macro_rules! define_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, exit $exit:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode($number);)*

            /// Every code this version knows.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// The word that scripts see, `unknown_<number>` for a code of a later version.
            pub fn word(self) -> String {
                match self.0 {
                    $($number => $word.to_owned(),)*
                    number => format!("unknown_{number}"),
                }
            }

            /// The exit code of `p2pctl`; 1 for a code of a later version.
            pub fn exit_code(self) -> u8 {
                match self.0 {
                    $($number => $exit,)*
                    _ => 1,
                }
            }
        }
    };
}

// Numbers are never given again to another meaning: an older program may still send them.
define_codes! {
    /// Something here broke that is nobody's fault outside; the log has more.
    INTERNAL = 1, "internal", exit 1;
    /// Bytes that are not the message they should be.
    MALFORMED = 2, "malformed", exit 1;
    /// A request or version that this program does not know.
    UNSUPPORTED = 3, "unsupported", exit 1;
    /// Too much at once; trying again later helps.
    BUSY = 4, "busy", exit 1;
    /// The command line is not one.
    USAGE = 10, "usage", exit 2;
    /// A name that is not allowed.
    BAD_NAME = 11, "bad_name", exit 2;
    /// No such user.
    USER_NOT_FOUND = 20, "user_not_found", exit 3;
    /// No such group.
    GROUP_NOT_FOUND = 21, "group_not_found", exit 3;
    /// No such file in the group.
    FILE_NOT_FOUND = 22, "file_not_found", exit 3;
    /// No such download here.
    DOWNLOAD_NOT_FOUND = 23, "download_not_found", exit 3;
    /// Nobody asked to join under that name.
    REQUEST_NOT_FOUND = 24, "request_not_found", exit 3;
    /// The content is not here.
    CONTENT_NOT_FOUND = 25, "content_not_found", exit 3;
    /// The user is not logged in on such a node.
    NODE_NOT_FOUND = 26, "node_not_found", exit 3;
    /// This node is not logged in.
    LOGIN_NEEDED = 30, "login_needed", exit 4;
    /// Wrong user or wrong password; which of them is not told.
    LOGIN_REFUSED = 31, "login_refused", exit 4;
    /// Not allowed, for a reason that the message names.
    NOT_ALLOWED = 40, "not_allowed", exit 5;
    /// Only members of the group may.
    NOT_MEMBER = 41, "not_member", exit 5;
    /// Only the group's owner may.
    NOT_OWNER = 42, "not_owner", exit 5;
    /// A grant that is missing, forged, expired, from the future, of another node or group.
    GRANT_REFUSED = 43, "grant_refused", exit 5;
    /// The user exists already.
    USER_EXISTS = 50, "user_exists", exit 6;
    /// The group exists already.
    GROUP_EXISTS = 51, "group_exists", exit 6;
    /// Another file stands under that name.
    FILE_EXISTS = 52, "file_exists", exit 6;
    /// The destination exists.
    DESTINATION_EXISTS = 53, "destination_exists", exit 6;
    /// A member already.
    ALREADY_MEMBER = 54, "already_member", exit 6;
    /// A request to join waits already.
    ALREADY_REQUESTED = 55, "already_requested", exit 6;
    /// An owner hands the group on before leaving it.
    OWNER_MUST_HAND_OVER = 56, "owner_must_hand_over", exit 6;
    /// Somebody is logged in here already.
    ALREADY_LOGGED_IN = 57, "already_logged_in", exit 6;
    /// What is asked does not fit the state that the thing is in.
    WRONG_STATE = 58, "wrong_state", exit 6;
    /// Several files of that name, where `OWNER:NAME` chooses, or several ids that begin so, where more digits do.
    AMBIGUOUS_NAME = 59, "ambiguous_name", exit 6;
    /// No daemon answers.
    NO_DAEMON = 70, "no_daemon", exit 7;
    /// The daemon answers, but not to this program (another user's, another version's).
    DAEMON_REFUSED = 71, "daemon_refused", exit 7;
    /// No tracker answers.
    NO_TRACKER = 80, "no_tracker", exit 8;
    /// The tracker has another key than the one remembered.
    TRACKER_KEY_CHANGED = 81, "tracker_key_changed", exit 8;
    /// Trackers answer, but no majority of them.
    NO_MAJORITY = 82, "no_majority", exit 8;
    /// The local file is not there.
    FILE_MISSING = 90, "file_missing", exit 9;
    /// The local file cannot be read.
    FILE_UNREADABLE = 91, "file_unreadable", exit 9;
    /// A folder (or a device) where a file is needed.
    NOT_A_FILE = 92, "not_a_file", exit 9;
    /// No room on the disk.
    DISK_FULL = 93, "disk_full", exit 9;
    /// The destination cannot be written.
    NOT_WRITABLE = 94, "not_writable", exit 9;
    /// A shared file is no longer what was shared.
    SOURCE_CHANGED = 95, "source_changed", exit 9;
    /// The disk answered with an error.
    DISK_ERROR = 96, "disk_error", exit 9;
    /// A folder that somebody else could have put there, or could change.
    UNSAFE_FOLDER = 97, "unsafe_folder", exit 9;
    /// Bytes that are not what their digest says.
    INTEGRITY = 100, "integrity", exit 10;
    /// Not done in the time given.
    TIMED_OUT = 110, "timed_out", exit 11;
    /// Nobody online has it.
    NO_SEEDER = 111, "no_seeder", exit 11;
    /// Stopped by the person at the prompt.
    INTERRUPTED = 130, "interrupted", exit 130;
    /// A download that was cancelled by another command.
    CANCELLED = 131, "cancelled", exit 6;
}

impl ErrorCode {
    /// Whether it says that a local file is not what was shared (gone, changed, unreadable), rather than that this
    /// machine is short of something.
    pub fn is_of_a_source(self) -> bool {
        [Self::FILE_MISSING, Self::FILE_UNREADABLE, Self::SOURCE_CHANGED].contains(&self)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.word())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// Only from the wire: the words are for reading, the numbers are what travels.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(ErrorCode)
    }
}

/// A refusal: what failed and with what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Reject {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What failed, with its subject; lower case, no final stop. May carry others' names: escape before showing.
    pub message: String,
    /// What to do next; empty where nothing helps.
    pub hint: String,
}

impl Reject {
    /// A refusal without a hint; an over-long message is cut.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Reject {
        Reject { code, message: cut(message.into()), hint: String::new() }
    }

    /// The same with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Reject {
        self.hint = cut(hint.into());
        self
    }

    /// One that came from outside, cut to what one of ours would be.
    pub fn within_limits(self) -> Reject {
        Reject { code: self.code, message: cut(self.message), hint: cut(self.hint) }
    }
}

impl From<NameError> for Reject {
    fn from(error: NameError) -> Reject {
        Reject::new(ErrorCode::BAD_NAME, error.to_string())
    }
}

/// `text` shortened to what a frame has room for, at a character's boundary.
fn cut(mut text: String) -> String {
    if text.len() > REJECT_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REJECT_TEXT_BYTES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_and_numbers_are_given_once() {
        let words: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.word()).collect();
        let numbers: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.0).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_code_of_a_later_version_is_kept() {
        let code: ErrorCode = crate::codec::decode(&crate::codec::encode(&ErrorCode(999))).expect("decodes");
        assert_eq!((code, code.word().as_str(), code.exit_code()), (ErrorCode(999), "unknown_999", 1));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let reject = Reject::new(ErrorCode::INTERNAL, "é".repeat(2000));
        assert_eq!(reject.message.len(), REJECT_TEXT_BYTES_MAX);
    }
}
