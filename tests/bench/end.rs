//! One end of the bare transfer as a process of its own: this program again, told by lines on pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use p2p_tests::namespace::Node;
use p2p_tests::process::clean_command;

use crate::Outcome;

/// A process that runs until its standard input ends.
pub struct End {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl End {
    /// Starts this program with these words, on a node of a network where one is given.
    pub fn start(words: &[String], node: Option<&Node>) -> Outcome<End> {
        let mut command: Command = clean_command(&std::env::current_exe()?, &std::env::temp_dir());
        command.args(words);
        if let Some(node) = node {
            command = node.command(&command);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(End { child, lines: BufReader::new(stdout) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The words of its next line, which begins with `first`.
    pub fn expect(&mut self, first: &str) -> Outcome<Vec<String>> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match words.first() {
            Some(word) if word == first => Ok(words),
            _ => Err(format!("said `{}` in place of `{first}`", line.trim_end()).into()),
        }
    }

    /// Lets it go on.
    pub fn go(&mut self) -> Outcome<()> {
        Ok(self.child.stdin.as_mut().ok_or("no standard input")?.write_all(b"go\n")?)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
