//! A tracker that runs in the background.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::binaries::Binaries;
use crate::namespace::Namespace;
use crate::process::{Process, clean_command};

/// A tracker with its home; it keeps its address over restarts.
#[derive(Debug)]
pub struct Tracker {
    binaries: Binaries,
    folder: PathBuf,
    /// Where it keeps everything.
    pub home: PathBuf,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its key's name, 64 hexadecimal digits.
    pub id: String,
    /// What it is called in a cluster.
    name: String,
    /// Its line in a `tracker_info.txt`, where it has one.
    listed: Option<(PathBuf, u64)>,
    /// What it is given beside home and address.
    arguments: Vec<String>,
    namespace: Option<Arc<Namespace>>,
    process: Option<Process>,
}

impl Tracker {
    /// Starts a tracker with its home in `folder`, on a free port of `address`, with more arguments, in a namespace if one
    /// is given.
    ///
    /// # Errors
    /// Why it is not ready.
    pub(crate) fn start(
        binaries: &Binaries,
        folder: &Path,
        address: SocketAddr,
        arguments: &[&str],
        namespace: Option<Arc<Namespace>>,
    ) -> Result<Tracker, String> {
        let (binaries, folder, home) = (binaries.clone(), folder.to_owned(), folder.join("tracker"));
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (name, listed) = ("tracker".to_owned(), None);
        let (id, process) = (String::new(), None);
        let mut tracker = Tracker { binaries, folder, home, address, id, name, listed, arguments, namespace, process };
        tracker.run()?;
        Ok(tracker)
    }

    /// A tracker that does not run yet: number `id` of a `tracker_info.txt`, with its home in `folder`.
    pub fn listed(binaries: &Binaries, folder: &Path, file: PathBuf, id: u64) -> Tracker {
        let name = format!("tracker-{id}");
        Tracker {
            binaries: binaries.clone(),
            folder: folder.to_owned(),
            home: folder.join(&name),
            address: SocketAddr::from(([0; 4], 0)),
            id: String::new(),
            name,
            listed: Some((file, id)),
            arguments: Vec::new(),
            namespace: None,
            process: None,
        }
    }

    /// Runs it until it is ready.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn try_restart(&mut self) -> Result<(), String> {
        self.run()
    }

    /// What it says of itself, which runs.
    pub fn status(&self) -> serde_json::Value {
        let text = self.asked(&["status", "--json"]).unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&text).expect("one document")
    }

    /// What one of its verbs prints that is done with its home.
    ///
    /// # Errors
    /// What it says where it fails.
    pub fn asked(&self, words: &[&str]) -> Result<String, String> {
        self.answered(words).map(|(printed, _)| printed)
    }

    /// The same, with what it says on standard error behind it.
    ///
    /// # Errors
    /// What it says where it fails.
    pub fn said(&self, words: &[&str]) -> Result<String, String> {
        self.answered(words).map(|(printed, said)| printed + &said)
    }

    fn answered(&self, words: &[&str]) -> Result<(String, String), String> {
        let mut command = clean_command(&self.binaries.path("tracker"), &self.folder);
        let output = command.args(words).arg("--home").arg(&self.home).output().expect("runs");
        let [printed, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if output.status.success() { Ok((printed, said)) } else { Err(said) }
    }

    /// Runs it at the address that it has.
    fn run(&mut self) -> Result<(), String> {
        let mut command = clean_command(&self.binaries.path("tracker"), &self.folder);
        command.arg("--home").arg(&self.home).args(&self.arguments);
        match &self.listed {
            Some((file, id)) => command.arg(file).arg(id.to_string()),
            None => command.arg(self.address.to_string()),
        };
        let command = Namespace::wrap(self.namespace.as_deref(), command);
        let process =
            Process::start(&self.name, command, self.folder.join(format!("{}.log", self.name)), "tracker ready ")?;
        let words: Vec<&str> = process.ready_line.split(' ').collect();
        match words[..] {
            ["tracker", "ready", address, "id", id] => {
                self.address = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
                id.clone_into(&mut self.id);
            }
            _ => return Err(format!("not a ready line: {}", process.ready_line)),
        }
        self.process = Some(process);
        Ok(())
    }

    /// Writes its settings file; it is read at the next start or reload.
    pub fn write_settings(&self, text: &str) {
        let folder = self.home.join("config");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("tracker.toml"), text).expect("writes");
    }

    /// The process, which runs.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the tracker runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM, and the end of the process.
    pub fn stop(&mut self) {
        let status = self.process().terminate();
        assert!(status.success(), "the tracker ends cleanly: {status}");
        self.process = None;
    }

    /// Runs it again, on the same port.
    pub fn restart(&mut self) {
        self.run().unwrap_or_else(|error| panic!("{error}"));
    }
}
