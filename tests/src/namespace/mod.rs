//! Networks of this machine's own: namespaces, each with a cable to a router, which tests cut, shape, lose packets on and
//! move between subnets.
//!
//! ```text
//! node a ── 10.77.1.0/24 ──┐
//! node b ── 10.77.2.0/24 ──┤ router ── 10.77.3.0/24 ── gateway (translates addresses) ── 192.168.3.0/24 ── node c
//! ```
//!
//! Nothing outside of these namespaces is touched. Their names carry the process id, and each network removes those that
//! it made when it is dropped. Needs root and the programs `ip`, `tc` and `nft`; [`missing`] says what is not there.

mod loopback;
mod node;
mod program;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use loopback::Loopback;
pub use node::{Fault, Node, Rate, Traffic};
use program::run;

/// What keeps this process from making networks; `None` where it can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can make network namespaces".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")] {
        if !program::is_installed(program) {
            return Some(format!("`{program}` is not installed (Debian: apt-get install {package})"));
        }
    }
    // Root of a container may lack the right all the same.
    Namespace::new("probe").err()
}

/// A network; where there can be none, says on standard error that the test is skipped, and why.
///
/// # Panics
/// If making one fails all the same.
pub fn network_or_skip() -> Option<Network> {
    match missing() {
        None => Some(Network::new().unwrap_or_else(|error| panic!("{error}"))),
        Some(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// One network namespace. Dropped: deleted, with every interface in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(role: &str) -> Result<Namespace, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("p2p-{}-{number}-{role}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        let namespace = Namespace { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// `command`, to be run in a namespace where one is given.
    pub(crate) fn wrap(namespace: Option<&Namespace>, command: Command) -> Command {
        match namespace {
            Some(namespace) => namespace.command(&command),
            None => command,
        }
    }

    /// `command`, to be run in here: in its folder, with its environment.
    fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net={}", self.path().display())).arg("--").arg(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// See [`Node::enter`].
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd as _;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a network parameter of the kernel's, by its path under `/proc/sys/net`.
    fn set(&self, parameter: &str, value: &str) -> Result<(), String> {
        self.enter(|| {
            let path = format!("/proc/sys/net/{parameter}");
            std::fs::write(&path, value).map_err(|error| format!("{path} in {}: {error}", self.name))
        })
    }

    /// `ip` with these words, in here.
    fn ip(&self, words: &str) -> Result<(), String> {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(words.split_whitespace()).collect();
        run("ip", &words).map(drop)
    }

    /// `tc` with these words, in here.
    fn tc(&self, words: &str) -> Result<(), String> {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(words.split_whitespace()).collect();
        run("tc", &words).map(drop)
    }

    /// Lets `nft` take a ruleset, all of it or nothing.
    fn nft(&self, rules: &str) -> Result<(), String> {
        program::run_with_input(self.command(Command::new("nft").args(["-f", "-"])), rules).map(drop)
    }

    /// What `nft` lists of an object.
    fn nft_list(&self, object: &str) -> Result<String, String> {
        let mut command = Command::new("nft");
        command.arg("list").args(object.split_whitespace());
        program::run_with_input(self.command(&command), "")
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("{error}");
        }
    }
}

/// A router and everything that has a cable to it.
#[derive(Debug)]
pub struct Network {
    router: Arc<Router>,
}

/// The namespace in the middle.
#[derive(Debug)]
struct Router {
    namespace: Namespace,
    /// The next subnet to give out.
    next_subnet: AtomicU8,
}

impl Router {
    /// A subnet that nobody has: 10.77.n.0/24, whose .1 is the router.
    fn subnet(&self) -> Result<u8, String> {
        let next = |number: u8| number.checked_add(1);
        let given = self.next_subnet.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        given.map_err(|_| "no subnet is left".to_owned())
    }
}

impl Network {
    /// A network with nobody in it.
    ///
    /// # Errors
    /// Which program failed, and what it said.
    pub fn new() -> Result<Network, String> {
        let namespace = Namespace::new("router")?;
        namespace.set("ipv4/ip_forward", "1")?;
        // A forged sender is for the receiver to stand, not for the router to find out.
        namespace.set("ipv4/conf/all/rp_filter", "0")?;
        namespace.set("ipv4/conf/default/rp_filter", "0")?;
        Ok(Network { router: Arc::new(Router { namespace, next_subnet: AtomicU8::new(1) }) })
    }

    /// A node with a cable to the router and a subnet of its own.
    ///
    /// # Panics
    /// If a program fails: with what it said.
    pub fn node(&self, name: &str) -> Node {
        Node::new(&self.router, name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A node behind a gateway of its own that translates addresses, as a router at home does: what was not asked for
    /// does not come in.
    ///
    /// # Panics
    /// If a program fails: with what it said.
    pub fn node_behind_gateway(&self, name: &str) -> Node {
        Node::behind_gateway(&self.router, name).unwrap_or_else(|error| panic!("{error}"))
    }
}
