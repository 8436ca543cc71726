//! A stream of changes, one after another, while something happens to the trackers; which of them were acknowledged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use p2p_tests::Daemon;
use p2p_tests::wait::eventually;

/// The stream while it goes on.
pub struct Changes<'a, 'scope> {
    acknowledged: &'a AtomicUsize,
    stream: &'a ScopedJoinHandle<'scope, Vec<String>>,
}

impl Changes<'_, '_> {
    /// Waits until so many more are acknowledged; not for a stream that has failed, which is told at its end.
    pub fn wait_for(&self, more: usize) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        eventually("groups are acknowledged", || {
            (self.acknowledged.load(Ordering::Relaxed) >= enough || self.stream.is_finished()).then_some(())
        });
    }
}

/// Has groups made at `daemon` for as long as `disturb` takes; the names of those that were acknowledged.
pub fn acknowledged_groups(daemon: &Daemon, disturb: impl FnOnce(&Changes<'_, '_>)) -> Vec<String> {
    let (acknowledged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut names = Vec::new();
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("group-{number:04}");
                // Refused while no tracker takes changes: such a group may be there or not.
                if daemon.ctl().output(&["create_group", &name]).status.success() {
                    names.push(name);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            }
            names
        });
        disturb(&Changes { acknowledged: &acknowledged, stream: &stream });
        over.store(true, Ordering::Relaxed);
        stream.join().expect("the stream of commands does not panic")
    })
}
