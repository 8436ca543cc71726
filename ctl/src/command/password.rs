//! Where passwords come from: the command line, a file, or the person at the terminal. Wiped wherever they were held.

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
        self.or_ask(|| ask_twice(&format!("new password for {user}: ")))
    }

    fn or_ask(self, ask: impl FnOnce() -> Result<Password, Failure>) -> Result<Password, Failure> {
        match self.password {
            Some(password) => check(password),
            None => from_file_or(self.password_file.as_deref(), "--password-file", ask),
        }
    }
}

/// The ways to give the password until now and the one from now on.
#[derive(Debug, clap::Args)]
pub struct ChangeArguments {
    /// Read the old password from a file (`-` = standard input), without its last line end
    #[arg(long, value_name = "FILE")]
    old_password_file: Option<PathBuf>,
    /// Read the new password likewise; with `-` for both, the old one is the first line and the new one the second
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl ChangeArguments {
    /// The old password and the new one; those that are not given are asked for on the terminal, the new one twice.
    pub fn passwords(self) -> Result<(Password, Password), Failure> {
        let (old, new) = (self.old_password_file.as_deref(), self.password_file.as_deref());
        if [old, new] == [Some(Path::new("-")); 2] {
            return read_two(&mut io::stdin().lock(), "standard input");
        }
        let old = from_file_or(old, "--old-password-file", || ask("old password: "))?;
        let new = from_file_or(new, "--password-file", || ask_twice("new password: "))?;
        Ok((old, new))
    }
}

/// The password in a file, or, where none is named, what `ask` gives; `option` is how the file would be named.
fn from_file_or(
    file: Option<&Path>,
    option: &str,
    ask: impl FnOnce() -> Result<Password, Failure>,
) -> Result<Password, Failure> {
    let password = match file {
        Some(file) if file == Path::new("-") => read(&mut io::stdin().lock(), "standard input")?,
        Some(file) => {
            let what = format!("password file {}", file.display());
            read(&mut File::open(file).map_err(|error| Failure::file(&what, &error))?, &what)?
        }
        None if io::stdin().is_terminal() => ask()?,
        None => {
            return Err(Failure::usage("no password given, and no terminal to ask for it")
                .hint(format!("give it with {option} FILE (`-` reads standard input)")));
        }
    };
    check(password)
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

/// Asks for a password that is to be, twice.
fn ask_twice(prompt: &str) -> Result<Password, Failure> {
    let first = ask(prompt)?;
    if first != ask("the same again: ")? {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

/// The text of `source` without one line end. Reads no more than it takes to see that it is too long.
fn read(source: &mut impl Read, what: &str) -> Result<Password, Failure> {
    text(&read_lines(source, 1, what)?, what)
}

/// The two lines of `source`.
fn read_two(source: &mut impl Read, what: &str) -> Result<(Password, Password), Failure> {
    let bytes = read_lines(source, 2, what)?;
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    match (lines.next(), lines.next(), lines.next()) {
        (Some(old), Some(new), None) => Ok((check(text(old, what)?)?, check(text(new, what)?)?)),
        _ => Err(Failure::usage(format!("{what} has not the two lines that hold two passwords"))
            .hint("give the old password on the first line and the new one on the second")),
    }
}

/// What `source` holds, up to a little more than so many passwords with their line ends.
fn read_lines(source: &mut impl Read, lines: usize, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // The whole capacity at once: a vector that grew would leave copies behind that nobody wipes.
    let bytes_max = lines * (PASSWORD_BYTES_MAX + "\r\n".len()) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    source.take(bytes_max as u64).read_to_end(&mut bytes).map_err(|error| Failure::file(what, &error))?;
    Ok(bytes)
}

/// A password from its bytes, without one line end.
fn text(bytes: &[u8], what: &str) -> Result<Password, Failure> {
    let line = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
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
    fn two_passwords_are_two_lines() {
        let two = |text: &[u8]| read_two(&mut io::Cursor::new(text), "test");
        let longest = vec![b'x'; PASSWORD_BYTES_MAX];
        for (text, old, new) in [("a\nb\n", "a", "b"), ("a\r\nb", "a", "b"), (" a \n b \n", " a ", " b ")] {
            let expected = (Password::new(old.to_owned()), Password::new(new.to_owned()));
            assert_eq!(two(text.as_bytes()).expect("allowed"), expected, "{text:?}");
        }
        assert!(two(&[&longest[..], b"\r\n", &longest, b"\r\n"].concat()).is_ok());
        for text in ["", "a", "\n", "a\n", "\nb\n", "a\n\n", "a\nb\nc\n"] {
            assert!(matches!(two(text.as_bytes()), Err(Failure::Refused(_))), "{text:?}");
        }
        assert!(two(&[&longest[..], b"\n", &longest, b"x\n"].concat()).is_err(), "longer than a password");
    }

    #[test]
    fn a_missing_password_file_is_a_local_fault() {
        let arguments = PasswordArguments { password: None, password_file: Some("/nonexistent/password".into()) };
        let user = "alice".parse().expect("a good name");
        let Err(Failure::Refused(reject)) = arguments.password(&user) else { panic!("refused") };
        assert_eq!(reject.code.exit_code(), 9);
    }
}
