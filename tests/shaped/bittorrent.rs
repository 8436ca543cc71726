//! The same case with libtorrent: a Python program a node, each told where all the others are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use p2p_tests::namespace::Node;
use p2p_tests::process::{Process, clean_command};
use p2p_tests::wait::TRANSFER_DEADLINE;

use crate::options::Options;
use crate::{NAME, Shaped, check, random_file, text};

/// The client, for Debian's `python3-libtorrent`.
const SCRIPT: &str = include_str!("bittorrent.py");

/// Where every client listens, each on an address of its own.
const PORT: u16 = 6881;

/// Pause between two looks at what the clients say.
const PAUSE: Duration = Duration::from_millis(10);

/// One run: when each downloader had the file.
pub fn clients(options: &Options) -> Result<Vec<Duration>, String> {
    let shaped = Shaped::new(options)?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let case = Case { folder: folder.path().to_owned(), script: folder.path().join("bittorrent.py") };
    std::fs::write(&case.script, SCRIPT).map_err(|error| format!("{}: {error}", case.script.display()))?;
    let original = random_file(&case.home("seeder")?, options)?;
    let _seeder = case.start("seeder", &shaped.seeder, &[])?;

    let mut downloaders = Vec::new();
    let mut copies = Vec::new();
    for (number, node) in shaped.downloaders.iter().enumerate() {
        let name = format!("downloader{number}");
        let others = shaped.downloaders.iter().filter(|other| other.address() != node.address());
        let peers: Vec<&Node> = [&shaped.seeder].into_iter().chain(others).collect();
        copies.push(case.home(&name)?.join(NAME));
        downloaders.push(case.start(&name, node, &peers)?);
    }
    let start = Instant::now();
    std::fs::write(case.go(), "").map_err(|error| format!("{}: {error}", case.go().display()))?;
    let mut times = vec![None; downloaders.len()];
    while times.contains(&None) {
        for (time, client) in times.iter_mut().zip(&mut downloaders) {
            if time.is_none() && client.log_tail().lines().any(|line| line == "DONE") {
                *time = Some(start.elapsed());
            }
            if !client.is_running() || start.elapsed() > TRANSFER_DEADLINE {
                return Err(format!("libtorrent does not get there\n{}", client.log_tail()));
            }
        }
        std::thread::park_timeout(PAUSE);
    }
    check(&original, &copies)?;
    Ok(times.into_iter().flatten().collect())
}

/// Where the clients of one run keep everything.
struct Case {
    folder: PathBuf,
    script: PathBuf,
}

impl Case {
    /// A client's folder.
    fn home(&self, name: &str) -> Result<PathBuf, String> {
        let home = self.folder.join(name);
        std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        Ok(home)
    }

    /// The file that lets downloads begin.
    fn go(&self) -> PathBuf {
        self.folder.join("go")
    }

    fn start(&self, name: &str, node: &Node, peers: &[&Node]) -> Result<Process, String> {
        let mut command: Command = clean_command(Path::new("/usr/bin/python3"), &self.folder);
        command.arg(&self.script).arg(self.home(name)?).arg(NAME).arg(self.folder.join("torrent"));
        command.arg(format!("{}:{PORT}", node.address())).arg(text(&self.go()));
        command.args(peers.iter().map(|peer| format!("{}:{PORT}", peer.address())));
        node.start(&format!("libtorrent of {name}"), &command, self.folder.join(format!("{name}.log")), "READY")
    }
}
