//! Tests of the log: over a disk that forgets and fails, as openraft wants it, and its bytes.

mod alone;
mod bytes;
mod disk;
mod suite;
mod three;
mod turns;

use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::time::UnixMillis;

use super::*;
use crate::state::Command;
use disk::TestDisk;

/// The key of the tracker under test.
const KEY: NodeId = NodeId([3; 32]);

/// An entry that makes the user `u<number>`.
fn entry(number: u64) -> Entry {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_le_bytes());
    Entry {
        request: RequestId(request),
        actor: NodeId([7; 32]),
        at: UnixMillis(number),
        command: Command::CreateUser {
            user: format!("u{number}").parse().expect("an allowed name"),
            record: vec![9; 192],
        },
    }
}

/// An observer of entries.
struct Heard<F>(F);

impl<F: FnMut(&Entry) + Send> Observer for Heard<F> {
    fn applied(&mut self, _: &State, entry: &Entry, _: &Applied) {
        (self.0)(entry);
    }

    fn replaced(&mut self) {}
}

fn heard(hear: impl FnMut(&Entry) + Send + 'static) -> Box<dyn Observer> {
    Box::new(Heard(hear))
}

/// A tracker that is alone, on a disk.
async fn start(disk: &TestDisk) -> Result<Consensus, LogError> {
    Consensus::start(Store::with_backend(disk.clone())?, Peers::none(KEY), heard(|_| {})).await
}

fn has(log: &Consensus, number: u64) -> bool {
    log.query(|state| state.record(&format!("u{number}").parse().expect("an allowed name")).is_some())
}
