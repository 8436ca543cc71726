//! Waiting until others hold all of what was uploaded: then it is safe to leave.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::control::{Answer, Copied, Copies, Frame, Uploaded};
use p2p_proto::limit::LOOKUP_PROVIDERS_MAX;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Providers, Request};

use super::input::CommandId;
use super::report::{PROGRESS_MS, count};
use super::steps::Step;
use super::{Engine, Output, Timer};

/// The commands that wait; no more than may follow downloads.
#[derive(Debug, Default)]
pub(super) struct CopyWaits(BTreeMap<CommandId, CopyWait>);

#[derive(Debug)]
struct CopyWait {
    uploaded: Uploaded,
    wanted: u32,
    copies: u32,
}

impl CopyWaits {
    /// The command hung up.
    pub fn remove(&mut self, command: CommandId) {
        self.0.remove(&command);
    }

    /// The commands that wait, which do no longer.
    pub fn take(&mut self) -> impl Iterator<Item = CommandId> + use<> {
        std::mem::take(&mut self.0).into_keys()
    }
}

/// Refuses a number of copies that a tracker could never tell of.
pub(super) fn check_wanted(wanted: u32) -> Result<(), Reject> {
    if wanted as usize <= LOOKUP_PROVIDERS_MAX {
        return Ok(());
    }
    let message = format!("cannot wait for {wanted} copies: a tracker tells of {LOOKUP_PROVIDERS_MAX} at the most");
    Err(Reject::new(ErrorCode::USAGE, message))
}

impl Engine {
    /// A file is shared: its command is answered when `wanted` other nodes hold all of it.
    pub(super) fn wait_for_copies(&mut self, command: CommandId, uploaded: Uploaded, wanted: u32) {
        if !self.connected_commands.contains(&command) {
            return;
        }
        if self.copy_waits.0.len() >= self.config.limits.followers_max {
            let reject = Reject::new(ErrorCode::BUSY, "too many commands wait for copies").hint(format!(
                "the file is shared; `p2pctl file_info {} {}` shows who has it",
                uploaded.group, uploaded.name
            ));
            return self.fail(command, reject);
        }
        self.outputs.push_back(Output::Tell(command, Frame::Shared(uploaded.clone())));
        self.copy_waits.0.insert(command, CopyWait { uploaded, wanted, copies: 0 });
        self.timers.set(Timer::Copies, self.now.monotonic);
    }

    /// Tells those who wait how many copies there are, and asks the tracker again.
    pub(super) fn tell_copies(&mut self) {
        let (mut asked, mut unshared) = (Vec::new(), Vec::new());
        for (command, CopyWait { uploaded, wanted, copies }) in &self.copy_waits.0 {
            let Uploaded { group, name, content, .. } = uploaded.clone();
            if self.shares.find(&group, &name).is_none_or(|share| share.content != content) {
                unshared.push((*command, name));
                continue;
            }
            asked.push((*command, Request::Lookup { group: group.clone(), content }));
            let copies = Copies { group, name, content, copies: *copies, wanted: *wanted };
            self.outputs.push_back(Output::Tell(*command, Frame::Copies(copies)));
        }
        for (command, name) in unshared {
            self.copy_waits.0.remove(&command);
            let message = format!("{name} is no longer shared from here");
            self.fail(command, Reject::new(ErrorCode::WRONG_STATE, message));
        }
        for (command, lookup) in asked {
            // Without a tracker there is no answer, and it is asked again.
            self.ask_now(Step::Copies(command), lookup);
        }
        if !self.copy_waits.0.is_empty() {
            let at = self.after(Duration::from_millis(PROGRESS_MS));
            self.timers.set(Timer::Copies, at);
        }
    }

    /// A tracker tells who has the file.
    pub(super) fn copies_told(&mut self, command: CommandId, found: &Providers) {
        let Some(wait) = self.copy_waits.0.get_mut(&command) else { return };
        wait.copies = count(found.providers.iter().filter(|provider| provider.complete).count());
        if wait.copies >= wait.wanted
            && let Some(CopyWait { uploaded, copies, .. }) = self.copy_waits.0.remove(&command)
        {
            self.tell(command, Answer::Copied(Copied { uploaded, copies }));
        }
    }
}
