//! Other programs, measured by commands that print a line of figures for each run of theirs.

use std::process::{Command, Stdio};

use crate::Outcome;
use crate::meter::{Run, Side};

/// A program on the command line: `NAME=COMMAND`.
pub fn split(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, command)| !name.is_empty() && !command.is_empty());
    split.map(|(name, command)| (name.to_owned(), command.to_owned())).ok_or_else(|| "not NAME=COMMAND".to_owned())
}

/// Runs a command and reads the last line of figures that it prints: `wall=SECONDS scpu=SECONDS ccpu=SECONDS hwm=MIB/MIB`,
/// sender before receiver, other words between and around them ignored.
pub fn run(command: &str) -> Outcome<Run> {
    let output =
        Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().rev().find_map(parse);
    figures.filter(|_| output.status.success()).ok_or_else(|| format!("`{command}` gives no figures:\n{text}").into())
}

fn parse(line: &str) -> Option<Run> {
    let field = |name: &str| {
        let text = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        // Behind the number there may stand what it is made of.
        Some(text.split_once('(').map_or(text, |(number, _)| number).to_owned())
    };
    let number = |name: &str| field(name)?.parse::<f64>().ok();
    let memory = field("hwm")?;
    let (sender, receiver) = memory.split_once('/')?;
    let side = |processor_s, peak: &str| Some(Side { processor_s, peak_mib: peak.parse().ok()? });
    Some(Run {
        wall_s: number("wall")?,
        seeders: side(number("scpu")?, sender)?,
        downloaders: side(number("ccpu")?, receiver)?,
        others_processor_s: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_words() {
        let line = "  some client plain wall=1.5 683MiB/s scpu=0.7(0.6 sys) ccpu=2.25(1.1 sys) hwm=20.5/31 anon=1/2 {}";
        let run = parse(line).expect("figures");
        assert_eq!((run.wall_s, run.processor_s()), (1.5, 2.95));
        assert_eq!((run.seeders.peak_mib, run.downloaders.peak_mib), (20.5, 31.0));
        assert!(parse("| some client | 5 | 1.50 |").is_none());
    }
}
