//! Where a password comes from: the command line, a file, or the person at the terminal. Wiped wherever it was held.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use p2p_proto::control::Password;
use p2p_proto::limit::PASSWORD_BYTES_MAX;
use p2p_proto::name::UserName;
use zeroize::Zeroizing;

use crate::error::{Failure, cause};
use crate::render::escape::escape;

/// The ways to give a password.
#[derive(Debug, clap::Args)]
pub struct PasswordArguments {
    /// The password; others on this machine may see it here. Without it: asked for on the terminal
    #[arg(value_parser = taken_as_it_is, conflicts_with = "password_file")]
    password: Option<Password>,
    /// Read the password from a file (`-` = standard input), without its last line end
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArguments {
    /// The password of an account that exists.
    pub fn password(self, user: &UserName) -> Result<Password, Failure> {
        self.or_ask(|| ask(&format!("password for {user}: ")))
    }

    /// The password of an account that is to be: on a terminal asked for twice, since nobody sees a typing error.
    pub fn new_password(self, user: &UserName) -> Result<Password, Failure> {
        self.or_ask(|| {
            let first = ask(&format!("new password for {user}: "))?;
            if first != ask("the same again: ")? {
                return Err(Failure::usage("the two passwords differ"));
            }
            Ok(first)
        })
    }

    fn or_ask(self, ask: impl FnOnce() -> Result<Password, Failure>) -> Result<Password, Failure> {
        let password = match (self.password, self.password_file) {
            (Some(password), _) => password,
            (None, Some(file)) if file == Path::new("-") => read(&mut io::stdin().lock(), "standard input")?,
            (None, Some(file)) => {
                let what = format!("password file {}", file.display());
                read(&mut File::open(&file).map_err(|error| Failure::file(&what, &error))?, &what)?
            }
            (None, None) if io::stdin().is_terminal() => ask()?,
            (None, None) => {
                return Err(Failure::usage("no password given, and no terminal to ask for it")
                    .hint("give it with --password-file FILE (`-` reads standard input)"));
            }
        };
        check(password)
    }
}

/// For clap, which shows a value that it refuses: a password is therefore judged later.
fn taken_as_it_is(text: &str) -> Result<Password, std::convert::Infallible> {
    Ok(Password::new(text.to_owned()))
}

/// The bounds of a password, whatever it came from.
fn check(password: Password) -> Result<Password, Failure> {
    match password.as_bytes().len() {
        0 => Err(Failure::usage("the password is empty")),
        1..=PASSWORD_BYTES_MAX => Ok(password),
        _ => Err(Failure::usage(format!("the password is longer than {PASSWORD_BYTES_MAX} bytes"))),
    }
}

/// Asks on the terminal without showing what is typed.
fn ask(prompt: &str) -> Result<Password, Failure> {
    match rpassword::prompt_password(escape(prompt)) {
        Ok(text) => Ok(Password::new(text)),
        Err(error) => Err(Failure::usage(format!("the terminal gives no password: {}", cause(&error)))
            .hint("give it with --password-file FILE (`-` reads standard input)")),
    }
}

/// The text of `source` without one line end. Reads no more than it takes to see that it is too long.
fn read(source: &mut impl Read, what: &str) -> Result<Password, Failure> {
    // The whole capacity at once: a vector that grew would leave copies behind that nobody wipes.
    let bytes_max = PASSWORD_BYTES_MAX + "\r\n".len() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    source.take(bytes_max as u64).read_to_end(&mut bytes).map_err(|error| Failure::file(what, &error))?;
    let line = bytes.strip_suffix(b"\n").map_or(&bytes[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Password::new(text.to_owned())),
        Err(_) => Err(Failure::usage(format!("{what}: the password is not UTF-8 text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8]) -> Result<Password, Failure> {
        read(&mut io::Cursor::new(text), "test").and_then(check)
    }

    #[test]
    fn one_line_end_is_taken_off() {
        for (text, password) in
            [("secret", "secret"), ("secret\n", "secret"), ("secret\r\n", "secret"), (" s \n\n", " s \n")]
        {
            assert_eq!(read_text(text.as_bytes()).expect("allowed"), Password::new(password.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn an_empty_or_endless_password_is_refused() {
        let longest = vec![b'x'; PASSWORD_BYTES_MAX];
        assert!(read_text(&longest).is_ok());
        assert!(read_text(&[&longest[..], b"\r\n"].concat()).is_ok());
        for text in [b"".to_vec(), b"\n".to_vec(), vec![b'x'; PASSWORD_BYTES_MAX + 1], vec![b'x'; 100_000], vec![0xff]]
        {
            assert!(matches!(read_text(&text), Err(Failure::Refused(_))), "{} bytes", text.len());
        }
    }

    #[test]
    fn a_missing_password_file_is_a_local_fault() {
        let arguments = PasswordArguments { password: None, password_file: Some("/nonexistent/password".into()) };
        let user = "alice".parse().expect("a good name");
        let Err(Failure::Refused(reject)) = arguments.password(&user) else { panic!("refused") };
        assert_eq!(reject.code.exit_code(), 9);
    }
}
