//! A tracker and daemons in one temporary folder, on a loopback address of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::daemon::Daemon;
use crate::namespace::Node;
use crate::tracker::Tracker;

/// The password of every user that a world makes.
pub const PASSWORD: &str = "correct horse battery staple";

/// One tracker and what belongs to it. Dropped: everything is killed and deleted.
#[derive(Debug)]
pub struct World {
    /// The tracker.
    pub tracker: Tracker,
    binaries: Binaries,
    address: IpAddr,
    /// Last, so that the programs end before their folder does.
    folder: TempDir,
}

impl World {
    /// A world whose tracker is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn new() -> World {
        World::at(own_address(), Binaries::get().clone()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same with a tracker that is given more on its command line.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn with_tracker(arguments: &[&str]) -> World {
        World::start(own_address(), Binaries::get().clone(), arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same with every program listening at `address`.
    ///
    /// # Errors
    /// Why the tracker is not ready.
    pub fn at(address: IpAddr, binaries: Binaries) -> Result<World, String> {
        World::start(address, binaries, &[])
    }

    fn start(address: IpAddr, binaries: Binaries, arguments: &[&str]) -> Result<World, String> {
        let folder = new_folder()?;
        let tracker = Tracker::start(&binaries, folder.path(), SocketAddr::new(address, 0), arguments, None)?;
        Ok(World { tracker, binaries, address, folder })
    }

    /// A world whose tracker runs on a node of a network.
    ///
    /// # Errors
    /// Why the tracker is not ready.
    pub fn on(node: &Node, binaries: Binaries) -> Result<World, String> {
        let (folder, address) = (new_folder()?, node.address());
        let namespace = Some(Arc::clone(&node.namespace));
        let tracker = Tracker::start(&binaries, folder.path(), SocketAddr::new(address, 0), &[], namespace)?;
        Ok(World { tracker, binaries, address, folder })
    }

    /// The folder that everything is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A daemon of that name that does not run yet.
    pub fn resting_daemon(&self, name: &str) -> Daemon {
        Daemon::new(&self.binaries, self.folder.path(), name, self.tracker.address, self.address)
    }

    /// A daemon that is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn daemon(&self, name: &str) -> Daemon {
        let mut daemon = self.resting_daemon(name);
        daemon.restart();
        daemon
    }

    /// A daemon with a new user of the same name, logged in.
    pub fn user(&self, name: &str) -> Daemon {
        let daemon = self.daemon(name);
        daemon.become_known_as(name);
        daemon
    }

    /// The same on a node of a network.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn user_on(&self, node: &Node, name: &str) -> Daemon {
        let mut daemon = self.resting_daemon(name).on(node);
        daemon.restart();
        daemon.become_known_as(name);
        daemon
    }

    /// Keeps the folder and gives its path: for whoever goes on by hand.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// A folder with a short path: the control socket's has to fit 107 bytes.
pub(crate) fn new_folder() -> Result<TempDir, String> {
    tempfile::Builder::new().prefix("p2p-").tempdir().map_err(|error| format!("no temporary folder: {error}"))
}

/// A loopback address that no other world has, where the whole of 127.0.0.0/8 is this machine (Linux): a port that is
/// free while a program restarts is then taken by nobody else. Elsewhere 127.0.0.1.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST.into();
    }
    let process = std::process::id();
    let world = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, _] = (0x100 * (process % 0xfffe + 1)).to_be_bytes();
    Ipv4Addr::new(127, high, middle, (world % 254 + 1) as u8).into()
}
