//! Running the system's own programs, with errors that say which failed and why.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether a program is where the system keeps its own.
pub(super) fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

/// Runs a program to its end; what it printed.
pub(super) fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(words);
    run_with_input(command, "")
}

/// The same with something on its standard input.
pub(super) fn run_with_input(mut command: Command, input: &str) -> Result<String, String> {
    let shown = format!("{command:?}");
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{shown}: {} {input}", text(&output.stderr))),
    }
}
