//! The demo's command line.

use std::ffi::OsString;
use std::path::PathBuf;

use p2p_tests::size::parse_size;

/// How it is called.
const USAGE: &str = "\
usage: cargo demo [FILE] [--size SIZE] [--keep]

Starts a tracker and two daemons in a temporary folder and sends FILE from one to the other,
or random bytes (1GiB, or --size 64MiB, 500MB, …) where none is given.
--keep leaves everything running and says how to go on.";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The file to share, in place.
    pub file: Option<PathBuf>,
    /// Bytes of the file that is made where none is given.
    pub size: u64,
    /// Leave it running.
    pub keep: bool,
}

impl Options {
    /// The words of the command line, without the program's name. The error is what to print.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Options, String> {
        let mut options = Options { file: None, size: 1 << 30, keep: false };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--keep") => options.keep = true,
                Some("--size") => {
                    let size = words.next().and_then(|word| parse_size(word.to_str()?));
                    options.size = size.ok_or(USAGE)?;
                }
                Some(option) if option.starts_with('-') => return Err(USAGE.to_owned()),
                _ if options.file.is_none() => {
                    let path = PathBuf::from(word);
                    if !path.is_file() {
                        return Err(format!("{} is not a file\n\n{USAGE}", path.display()));
                    }
                    options.file = Some(path);
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_the_usage() {
        assert_eq!(parse("--keep --size 64MiB"), Ok(Options { file: None, size: 64 << 20, keep: true }));
        for line in ["--size", "--size x", "--help", "/no/such/file"] {
            assert!(parse(line).expect_err(line).contains("usage:"), "{line}");
        }
    }
}
