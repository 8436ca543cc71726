//! How a file in a group is named on the command line: NAME, OWNER:NAME, or NAME with `--owner`.
//!
//! NAME is split at its first `:` where what stands before it does for a user's name and what follows for a file's.
//! A file whose own name contains `:` is therefore named with `--owner`, which takes NAME as it is.

use p2p_proto::name::{FileName, FileSelector, NameError, UserName};

use crate::error::Failure;

/// A file in a group.
#[derive(Debug, clap::Args)]
pub struct FileArgument {
    /// The file's name; OWNER:NAME where several members have one of that name
    #[arg(value_name = "NAME", value_parser = split)]
    file: FileSelector,
    /// Whose file; NAME may then contain `:`
    #[arg(long, value_name = "USER")]
    owner: Option<UserName>,
}

impl FileArgument {
    /// Which file is meant.
    pub fn selector(self) -> Result<FileSelector, Failure> {
        match self.owner {
            None => Ok(self.file),
            Some(owner) => {
                let name = self.file.to_string().parse().map_err(p2p_proto::reject::Reject::from)?;
                Ok(FileSelector { owner: Some(owner), name })
            }
        }
    }
}

/// A folder's name may be given as lists show it, with a `/` at its end.
fn split(text: &str) -> Result<FileSelector, NameError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Some((left, right)) = text.split_once(':')
        && let (Ok(owner), Ok(name)) = (left.parse(), right.parse())
    {
        return Ok(FileSelector { owner: Some(owner), name });
    }
    text.parse::<FileName>().map(|name| FileSelector { owner: None, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str, owner: Option<&str>) -> (Option<String>, String) {
        let owner = owner.map(|owner| owner.parse().expect("a user's name"));
        let selector = FileArgument { file: split(text).expect("allowed"), owner }.selector().expect("allowed");
        (selector.owner.map(String::from), selector.name.into())
    }

    #[test]
    fn a_name_is_split_at_its_first_colon_unless_the_owner_is_given() {
        assert_eq!(select("a.txt", None), (None, "a.txt".to_owned()));
        assert_eq!(select("bob:a.txt", None), (Some("bob".to_owned()), "a.txt".to_owned()));
        assert_eq!(select("bob:a:b", None), (Some("bob".to_owned()), "a:b".to_owned()));
        assert_eq!(select("a:b", Some("bob")), (Some("bob".to_owned()), "a:b".to_owned()));
        assert_eq!(select("a", Some("bob")), (Some("bob".to_owned()), "a".to_owned()));
        assert_eq!(select("bob:album/", None), (Some("bob".to_owned()), "album".to_owned()));
    }

    #[test]
    fn what_cannot_be_an_owner_belongs_to_the_name() {
        for text in [":a", "bob:", "-x:a", " x:a"] {
            assert_eq!(select(text, None), (None, text.to_owned()));
        }
        assert!(split("bob:a/b").is_err());
    }
}
