//! What happens, told to the commands that follow it (`events`); nothing is noted while nobody does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_proto::control::{DownloadState, Event, Frame, Happening};
use p2p_proto::id::DownloadId;
use p2p_proto::reject::{ErrorCode, Reject};

use super::input::CommandId;
use super::{Engine, Output, Timer};

/// How often downloads are looked over for states that follow from time or from others, as `waiting` does.
const LOOK_OVER_MS: u64 = 500;

/// The commands that follow what happens.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    commands: BTreeSet<CommandId>,
    /// The state that each download of this user was last told in.
    told: BTreeMap<DownloadId, DownloadState>,
}

impl Engine {
    /// A command follows what happens, from now until it hangs up.
    pub(super) fn listen(&mut self, command: CommandId) -> Result<(), Reject> {
        if self.listeners.commands.len() >= self.config.limits.listeners_max {
            return Err(Reject::new(ErrorCode::BUSY, "too many commands follow events"));
        }
        if self.listeners.commands.is_empty() {
            self.take_states_as_told();
            let at = self.after(Duration::from_millis(LOOK_OVER_MS));
            self.timers.set(Timer::Events, at);
        }
        self.listeners.commands.insert(command);
        self.outputs.push_back(Output::Tell(command, Frame::Following));
        Ok(())
    }

    /// A command hung up.
    pub(super) fn stop_listening(&mut self, command: CommandId) {
        if self.listeners.commands.remove(&command) && self.listeners.commands.is_empty() {
            self.listeners.told.clear();
            self.timers.clear(&Timer::Events);
        }
    }

    /// The commands that follow, which do no longer.
    pub(super) fn take_listeners(&mut self) -> BTreeSet<CommandId> {
        self.timers.clear(&Timer::Events);
        std::mem::take(&mut self.listeners).commands
    }

    /// Tells those who follow what has happened.
    pub(super) fn happened(&mut self, what: Happening) {
        for command in &self.listeners.commands {
            let event = Event { at: self.now.wall, what: what.clone() };
            self.outputs.push_back(Output::Tell(*command, Frame::Event(event)));
        }
    }

    /// Tells a download's state if it is another than was last told.
    pub(super) fn tell_state(&mut self, id: DownloadId) {
        if self.listeners.commands.is_empty() {
            return;
        }
        let Some(download) = self.downloads.get(id) else { return };
        if self.user().ok() != Some(&download.record.user) {
            return;
        }
        let row = self.download_row(download);
        if self.listeners.told.insert(id, row.state) != Some(row.state) {
            self.happened(Happening::Download(row));
        }
    }

    /// A download is forgotten.
    pub(super) fn tell_gone(&mut self, row: p2p_proto::control::Download) {
        self.listeners.told.remove(&row.id);
        self.happened(Happening::DownloadGone(row));
    }

    /// Looks all downloads over for states that were not told.
    pub(super) fn look_over_states(&mut self) {
        let all: Vec<DownloadId> = self.downloads.values().map(|download| download.record.id).collect();
        all.into_iter().for_each(|id| self.tell_state(id));
        let at = self.after(Duration::from_millis(LOOK_OVER_MS));
        self.timers.set(Timer::Events, at);
    }

    /// Another user is logged in, or nobody; that alone is told, and from here on what their downloads do.
    pub(super) fn tell_account(&mut self) {
        if !self.listeners.commands.is_empty() {
            self.take_states_as_told();
            self.happened(Happening::Account { user: self.user().ok().cloned() });
        }
    }

    fn take_states_as_told(&mut self) {
        let user = self.user().ok();
        let of_user = self.downloads.values().filter(|download| Some(&download.record.user) == user);
        self.listeners.told = of_user.map(|download| (download.record.id, self.download_row(download).state)).collect();
    }
}
