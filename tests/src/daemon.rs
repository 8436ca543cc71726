//! A daemon that runs in the background, and the commands given to it.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::binaries::Binaries;
use crate::ctl::{Ctl, Follower, Refusal};
use crate::namespace::{Namespace, Node};
use crate::process::{Process, clean_command};
use crate::world::PASSWORD;

/// A daemon with its home.
#[derive(Debug)]
pub struct Daemon {
    binaries: Binaries,
    folder: PathBuf,
    name: String,
    /// Where it keeps everything.
    pub home: PathBuf,
    trackers: Vec<String>,
    listen: IpAddr,
    user_id: Option<u32>,
    descriptors_max: Option<u32>,
    namespace: Option<Arc<Namespace>>,
    process: Option<Process>,
}

impl Daemon {
    /// A daemon that does not run yet, with its home in `folder`. It will listen on a free port of `listen`.
    pub fn new(binaries: &Binaries, folder: &Path, name: &str, tracker: SocketAddr, listen: IpAddr) -> Daemon {
        let (binaries, folder, home) = (binaries.clone(), folder.to_owned(), folder.join(name));
        let trackers = vec![tracker.to_string()];
        Daemon {
            binaries,
            folder,
            name: name.to_owned(),
            home,
            trackers,
            listen,
            user_id: None,
            descriptors_max: None,
            namespace: None,
            process: None,
        }
    }

    /// The same with these trackers, in this order.
    pub fn with_trackers(mut self, trackers: Vec<String>) -> Daemon {
        self.trackers = trackers;
        self
    }

    /// The same, which finds the tracker elsewhere.
    pub fn tracker_at(self, tracker: SocketAddr) -> Daemon {
        self.with_trackers(vec![tracker.to_string()])
    }

    /// The same, run on a node of a network, at every address that this has or will have.
    pub fn on(mut self, node: &Node) -> Daemon {
        self.listen = Ipv6Addr::UNSPECIFIED.into();
        self.namespace = Some(Arc::clone(&node.namespace));
        self
    }

    /// The same, run by another user of this machine; only root can.
    pub fn run_by(mut self, user_id: u32) -> Daemon {
        std::fs::create_dir_all(&self.home).expect("a folder");
        std::os::unix::fs::chown(&self.home, Some(user_id), Some(user_id)).expect("root may");
        self.user_id = Some(user_id);
        self
    }

    /// The same, whose commands are run by another user of this machine; only root can.
    pub fn commands_by(mut self, user_id: u32) -> Daemon {
        self.user_id = Some(user_id);
        self
    }

    /// The same, which may have only so many files and sockets open.
    pub fn with_descriptors(mut self, descriptors_max: u32) -> Daemon {
        self.descriptors_max = Some(descriptors_max);
        self
    }

    /// Runs it until it is ready.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn start(&mut self) -> Result<(), String> {
        let program = self.binaries.path("p2pd");
        let mut command = match self.descriptors_max {
            None => clean_command(&program, &self.folder),
            Some(descriptors_max) => {
                let mut shell = clean_command(Path::new("/bin/sh"), &self.folder);
                shell.arg("-c").arg(format!("ulimit -n {descriptors_max} && exec \"$0\" \"$@\"")).arg(&program);
                shell
            }
        };
        command.arg("--home").arg(&self.home).args(["--tracker", &self.trackers.join(",")]);
        command.args(["--listen", &SocketAddr::new(self.listen, 0).to_string()]);
        self.become_user(&mut command);
        let command = Namespace::wrap(self.namespace.as_deref(), command);
        let log = self.folder.join(format!("{}.log", self.name));
        self.process = Some(Process::start(&format!("p2pd of {}", self.name), command, log, "p2pd ready ")?);
        Ok(())
    }

    fn become_user(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        if let Some(user_id) = self.user_id {
            command.uid(user_id).gid(user_id);
        }
    }

    /// Writes its settings file; it is read at the next start or reload.
    pub fn write_settings(&self, text: &str) {
        let folder = self.home.join("config");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("p2pd.toml"), text).expect("writes");
    }

    /// Registers a new user and logs in.
    pub fn become_known_as(&self, user: &str) {
        self.run(&["create_user", user, PASSWORD]);
        self.run(&["login", user, PASSWORD]);
    }

    /// The process, which runs.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the daemon runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM, and the end of the process.
    pub fn stop(&mut self) {
        let status = self.process().terminate();
        assert!(status.success(), "p2pd of {} ends cleanly: {status}", self.name);
        self.process = None;
    }

    /// Waits for the process, which ends by itself.
    pub fn wait_for_end(&mut self) {
        let status = self.process().wait();
        assert!(status.success(), "p2pd of {} ends cleanly: {status}", self.name);
        self.process = None;
    }

    /// Runs it again.
    pub fn restart(&mut self) {
        self.start().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.home.join("run").join("control.sock")
    }

    /// The address that it listens on, from its ready line.
    pub fn address(&self) -> SocketAddr {
        let line = self.process.as_ref().map_or("", |process| process.ready_line.as_str());
        let address = line.rsplit(' ').find_map(|word| word.parse::<SocketAddr>().ok());
        address.unwrap_or_else(|| panic!("no address in the ready line: {line}"))
    }

    /// A command to this daemon, which is not started for it.
    pub fn ctl(&self) -> Ctl {
        let mut command = clean_command(&self.binaries.path("p2pctl"), &self.folder);
        command.arg("--home").arg(&self.home).arg("--no-start").current_dir(&self.folder);
        self.become_user(&mut command);
        Ctl::new(command)
    }

    /// The bare `p2pctl`, which finds this daemon by its environment: for commands as a person types them.
    pub fn command_in_its_home(&self) -> Command {
        let mut command = clean_command(&self.binaries.path("p2pctl"), &self.folder);
        command.env("P2P_HOME", &self.home).env("P2PCTL_NO_START", "1").current_dir(&self.folder);
        command
    }

    /// A command that starts the daemon where it does not run.
    pub fn starting_ctl(&self) -> Ctl {
        let mut command = clean_command(&self.binaries.path("p2pctl"), &self.folder);
        command.arg("--home").arg(&self.home).current_dir(&self.folder);
        Ctl::new(command)
    }

    /// All that a command says to people, which must succeed.
    pub fn said<S: AsRef<OsStr>>(&self, words: &[S]) -> String {
        self.ctl().said(words)
    }

    /// The data that a command prints for people, which must succeed.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> String {
        self.ctl().run(words)
    }

    /// The last document that a command prints, which must succeed.
    pub fn json<S: AsRef<OsStr>>(&self, words: &[S]) -> Value {
        self.ctl().json(words)
    }

    /// How a command is refused: with `--json` and without it alike.
    pub fn refusal<S: AsRef<OsStr>>(&self, words: &[S]) -> Refusal {
        let plain = self.ctl().refusal(words);
        let document = self.ctl().json_refusal(words);
        assert_eq!(plain.exit_code, document.exit_code, "with and without --json: {}", plain.message);
        document
    }

    /// A command that is followed while it runs.
    pub fn follow<S: AsRef<OsStr>>(&self, words: &[S]) -> Follower {
        self.ctl().follow(words)
    }
}
