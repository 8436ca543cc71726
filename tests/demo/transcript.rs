//! The demo's voice: prompts, commands as a person types them, what they print, and the figures at the end.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use p2p_tests::Daemon;

/// What is printed to the person who looks on.
pub struct Transcript {
    coloured: bool,
}

impl Transcript {
    /// Coloured on a terminal, unless `NO_COLOR` is set.
    pub fn new() -> Transcript {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Transcript { coloured: std::io::stdout().is_terminal() && !no_color }
    }

    /// What this is about.
    pub fn title(&mut self, title: &str) {
        self.line(&format!("\n{}", self.paint("1", title)));
    }

    /// A sentence between commands.
    pub fn note(&mut self, sentence: &str) {
        self.line(&format!("\n{}", self.paint("2", &format!("# {sentence}"))));
    }

    /// A program that runs on in the background, and what it said when it was ready.
    pub fn background(&mut self, command: &str, ready_line: &str) {
        self.line(&format!("{} {command} &\n{}", self.paint("1", "$"), shortened(ready_line)));
    }

    /// The same, started by one of the two.
    pub fn background_of(&mut self, who: &str, command: &str, ready_line: &str) {
        self.line(&format!("{} {command} &\n{}", self.prompt(who), shortened(ready_line)));
    }

    /// A command to the daemon of one of the two, with what it prints as it prints it; how long it took.
    pub fn command(&mut self, who: &str, daemon: &Daemon, words: &[&str]) -> Result<Duration, String> {
        let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.line(&format!("{} p2pctl {}", self.prompt(who), typed.join(" ")));
        let mut command = daemon.command_in_its_home();
        for name in ["TERM", "COLUMNS", "NO_COLOR", "LANG", "LC_ALL"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let start = Instant::now();
        // One stream, so that a transcript in a file keeps its order.
        let messages = std::io::stdout().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::inherit(), Stdio::from);
        let status = command.args(words).stdout(Stdio::inherit()).stderr(messages).status();
        let elapsed = start.elapsed();
        match status {
            Ok(status) if status.success() => Ok(elapsed),
            Ok(status) => Err(format!("p2pctl {} ended with {status}", words.join(" "))),
            Err(error) => Err(format!("p2pctl does not start: {error}")),
        }
    }

    /// The figures, after the two files were found equal.
    pub fn result(&mut self, length: u64, hashing: Duration, transfer: Duration) {
        let rate = |elapsed: Duration| format!("{}/s", size((length as f64 / elapsed.as_secs_f64().max(1e-6)) as u64));
        let equal = self.paint("1;32", "The two files are equal.");
        self.line(&format!(
            "\n{equal} {} shared in {:.2} s ({}) and downloaded in {:.2} s ({}).",
            size(length),
            hashing.as_secs_f64(),
            rate(hashing),
            transfer.as_secs_f64(),
            rate(transfer),
        ));
    }

    fn prompt(&self, who: &str) -> String {
        let colour = if who == "alice" { "1;35" } else { "1;36" };
        self.paint(colour, &format!("{who}$"))
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A closed output is no fault of the demo's: it goes on and tidies up.
    fn line(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }
}

/// A size for people, in binary units.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
    while value >= 1024.0 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    let unit = units.next().unwrap_or_default();
    if bytes < 1024 || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Ids of 64 digits cut to eight: nobody reads on.
fn shortened(line: &str) -> String {
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = line.split(' ').map(|word| if is_id(word) { format!("{}…", &word[..8]) } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (842 << 20, "842 MiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("/a/b-c.jpg"), "/a/b-c.jpg");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
