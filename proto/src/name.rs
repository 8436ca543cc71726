//! Names of users, groups and files: what is allowed in one, and when two count as the same.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::escape;
use crate::limit::NAME_BYTES_MAX;

/// Name of the built-in group, which everybody with an account reads and publishes in; also of the owner that it is
/// shown with, since it has none: no account gets this name.
pub const PUBLIC: &str = "public";

/// Why a text is not allowed as a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name must not be longer than {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// `.` or `..`, which name folders.
    #[error("`{0}` names a folder, not a file, user or group")]
    Dots(String),
    /// A character that would make it a path, or that no terminal should be shown.
    #[error("the character `{}` is not allowed in a name", .0.escape_debug())]
    Character(char),
    /// White space at either end of a user's or group's name.
    #[error("a user's or group's name must not begin or end with white space")]
    OuterSpace,
    /// A leading `-`, which a command line takes for an option.
    #[error("a user's or group's name must not begin with `-`")]
    LeadingDash,
}

/// One path component: not empty, `.` or `..`; no `/`, `\`, NUL or other control characters; at most
/// [`NAME_BYTES_MAX`] bytes. Refused rather than repaired, so that no two sides repair it differently.
pub(crate) fn check_component(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots(text.to_owned()));
    }
    match text.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
        Some(character) => Err(NameError::Character(character)),
        None => Ok(()),
    }
}

/// What a user's and a group's name must keep beside [`check_component`]: `:` separates `OWNER:NAME`, and nothing that cannot be
/// seen may tell one from another.
fn check_account(text: &str) -> Result<(), NameError> {
    check_component(text)?;
    let refused = |character: &char| *character == ':' || escape::steers(*character) || escape::shapes(*character);
    if let Some(character) = text.chars().find(refused) {
        return Err(NameError::Character(character));
    }
    if text.trim() != text {
        return Err(NameError::OuterSpace);
    }
    if text.starts_with('-') {
        return Err(NameError::LeadingDash);
    }
    Ok(())
}

/// Two names with the same key look the same to people or fall together on some file system: case is folded
/// (by lower-casing) and composed characters are made one (Unicode NFC, UAX #15).
pub(crate) fn folded(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// Defines a checked name; decoding one from the wire checks it again. `$identity` says of a text what makes two equal.
macro_rules! define_name {
    ($(#[$doc:meta])* $name:ident, $check:ident, $identity:expr) => {
        $(#[$doc])*
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            text: String,
            identity: String,
        }

        impl $name {
            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            /// What two names share when they must not stand beside each other (case folded, NFC).
            pub fn key(&self) -> String {
                folded(&self.text)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.identity == other.identity
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.identity.cmp(&other.identity)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.identity.hash(state);
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text)?;
                let identity = $identity(&text);
                Ok(Self { text, identity })
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.text)
            }
        }
    };
}

define_name! {
    /// An account at the tracker. Two spellings with one key are one user.
    UserName, check_account, folded
}
define_name! {
    /// A group of users. Two spellings with one key are one group.
    GroupName, check_account, folded
}
define_name! {
    /// The name a file has in a group: one path component, never a path. Two spellings are two names, which a group
    /// does not hold beside each other if they have one key.
    FileName, check_component, str::to_owned
}

impl GroupName {
    /// The built-in group, [`PUBLIC`].
    pub fn public() -> GroupName {
        PUBLIC.parse().expect("an allowed name")
    }
}

impl UserName {
    /// The name of nobody's, [`PUBLIC`].
    pub fn public() -> UserName {
        PUBLIC.parse().expect("an allowed name")
    }
}

/// A file in a group as a person names it: `NAME`, or `OWNER:NAME` where several members publish different files under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSelector {
    /// Whose file; `None` where the name alone is meant to be enough.
    pub owner: Option<UserName>,
    /// The file's name.
    pub name: FileName,
}

impl fmt::Display for FileSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}:{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_path_component() {
        for bad in ["", ".", "..", "../x", "/x", "a/../b", "a\\b", "a\0b", "a\nb", "a\u{1b}[0m", "a\u{85}b"] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
            assert!(bad.parse::<GroupName>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(255).parse::<FileName>().is_ok());
        assert_eq!("x".repeat(256).parse::<FileName>(), Err(NameError::TooLong(256)));
        assert_eq!("é".repeat(128).parse::<FileName>(), Err(NameError::TooLong(256)));
    }

    #[test]
    fn spaces_and_letters_of_any_script_are_allowed() {
        for good in ["holiday 2026.tar", "naïve café.txt", "写真.zip", "...", "-rf", "a:b"] {
            assert!(good.parse::<FileName>().is_ok(), "{good:?}");
        }
        for bad in ["a:b", " a", "a ", "-a", "bob\u{200b}", "bob\u{feff}", "b\u{2028}b", "bob\u{200d}", "b\u{202e}ob"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn case_and_composition_twins_share_a_key() {
        let key = |text: &str| text.parse::<FileName>().expect("a good name").key();
        assert_eq!(key("A.txt"), key("a.TXT"));
        assert_eq!(key("e\u{301}.txt"), key("\u{e9}.txt"));
        assert_ne!(key("a.txt"), key("b.txt"));
        assert_ne!("A.txt".parse::<FileName>(), "a.txt".parse::<FileName>());
        assert_eq!("Photos".parse::<GroupName>(), "photos".parse::<GroupName>());
    }
}
