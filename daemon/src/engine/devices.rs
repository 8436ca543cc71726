//! Devices: the nodes that are logged in under this user, as a tracker tells them, and how one of them is logged out.

use std::time::Duration;

use p2p_proto::control::{Answer, NodeLoggedOut, NodePrefix};
use p2p_proto::name::UserName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{self, EnrolledNode, Reply, Request};

use super::input::CommandId;
use super::steps::Step;
use super::trackers::Call;
use super::{Engine, Timer};

/// How long `status` waits for a tracker to tell the devices, before it shows what was told last: longer than a round trip
/// to anywhere, short enough that a person does not notice a tracker that is silent.
const TELL_MS: u64 = 200;

/// What is known of this user's nodes.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// As a tracker told them last; empty before the first time since the login.
    pub known: Vec<EnrolledNode>,
    /// Whether a tracker is being asked.
    asking: bool,
    /// Those who asked for the status meanwhile, with the bytes free on the disk.
    waiting: Vec<(CommandId, Option<u64>)>,
}

impl Engine {
    /// Asks a tracker for the devices, if somebody is logged in and one answers now.
    pub(super) fn ask_devices(&mut self) {
        if let Ok(user) = self.user().cloned()
            && !self.devices.asking
        {
            self.devices.asking = self.ask_now(Step::Devices(user), Request::ListNodes);
        }
    }

    /// A tracker told the devices of `user`, or did not.
    pub(super) fn devices_told(&mut self, user: &UserName, reply: Reply) {
        self.devices.asking = false;
        if let Ok(tracker::Answer::Nodes(nodes)) = reply
            && self.user().is_ok_and(|current| current == user)
        {
            self.devices.known = nodes;
        }
        self.tell_waiting_statuses();
    }

    /// Tells how everything is, behind what a tracker is being asked for it.
    pub(super) fn tell_status(&mut self, command: CommandId, free_bytes: Option<u64>) {
        if self.devices.asking {
            self.devices.waiting.push((command, free_bytes));
            self.timers.set_if_unset(Timer::Devices, self.after(Duration::from_millis(TELL_MS)));
        } else {
            let status = self.status(free_bytes);
            self.tell(command, Answer::Status(Box::new(status)));
        }
    }

    /// Tells all that wait how everything is, with what is known now.
    pub(super) fn tell_waiting_statuses(&mut self) {
        self.timers.clear(&Timer::Devices);
        for (command, free_bytes) in std::mem::take(&mut self.devices.waiting) {
            let status = self.status(free_bytes);
            self.tell(command, Answer::Status(Box::new(status)));
        }
    }

    /// Logs out this node.
    pub(super) fn log_out(&mut self, command: CommandId) -> Result<(), Reject> {
        let user = self.user()?.clone();
        self.ask(Step::Logout(command, user), Call::Request(Request::Logout));
        Ok(())
    }

    /// Logs out the one of this user's nodes whose id begins so.
    pub(super) fn log_out_node(
        &mut self,
        command: CommandId,
        prefix: &NodePrefix,
        nodes: &[EnrolledNode],
    ) -> Result<(), Reject> {
        let user = self.user()?.clone();
        let mut matching = nodes.iter().map(|enrolled| enrolled.node).filter(|node| prefix.matches(*node));
        match (matching.next(), matching.next()) {
            (Some(node), None) if node == self.config.node => self.log_out(command),
            (Some(node), None) => {
                let answer = Answer::NodeLoggedOut(NodeLoggedOut { user, node });
                let withdraw = Call::Request(Request::WithdrawNode { node });
                self.ask(Step::Changed(command, Box::new(answer)), withdraw);
                Ok(())
            }
            (Some(_), Some(_)) => {
                let message = format!("several nodes of {user} have an id that begins with {prefix}");
                Err(Reject::new(ErrorCode::AMBIGUOUS_NAME, message).hint("give more of its digits"))
            }
            (None, _) => {
                let message = format!("no node of {user} has an id that begins with {prefix}");
                Err(Reject::new(ErrorCode::NODE_NOT_FOUND, message).hint("`p2pctl status` lists them"))
            }
        }
    }
}
