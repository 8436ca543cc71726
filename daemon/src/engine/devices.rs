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

#[cfg(test)]
mod tests {
    use p2p_proto::control::{self, Frame};
    use p2p_proto::grant::ClusterKey;
    use p2p_proto::id::NodeId;
    use p2p_proto::time::UnixMillis;
    use p2p_proto::tracker::{Envelope, HelloAck};

    use super::super::input::{AskId, TrackerId};
    use super::super::record::Restored;
    use super::super::{Config, Input, Limits, Now, Output};
    use super::*;

    const HERE: NodeId = NodeId([0x11; 32]);

    fn at(milliseconds: u64) -> Now {
        Now { monotonic: Duration::from_millis(milliseconds), wall: UnixMillis(1_000_000 + milliseconds) }
    }

    /// An engine with alice logged in, as its only tracker says.
    fn logged_in() -> Engine {
        let config = Config {
            node: HERE,
            software: "p2pd 0".to_owned(),
            trackers: vec!["192.0.2.10:9000".to_owned()],
            seed: 1,
            process_id: 1,
            streams_folder: "/streams".into(),
            uploads_folder: "/uploads".into(),
            limits: Limits::default(),
        };
        let mut engine = Engine::new(config, Restored::default(), at(0));
        let ack = HelloAck {
            version: 1,
            software: "tracker 0".to_owned(),
            cluster: ClusterKey([1; 32]),
            time: UnixMillis(1_000_000),
            observed: "192.0.2.7:4000".parse().expect("an address"),
            user: Some("alice".parse().expect("a good name")),
            leader: true,
            current: true,
            place: 0,
        };
        let round_trip = Duration::from_millis(1);
        let (tracker, node, key_exchange) = (TrackerId(0), NodeId([0xee; 32]), "none".to_owned());
        engine.handle(at(0), Input::TrackerConnected { tracker, node, ack, round_trip, key_exchange });
        outputs(&mut engine);
        engine
    }

    fn outputs(engine: &mut Engine) -> Vec<Output> {
        std::iter::from_fn(|| engine.poll_output()).collect()
    }

    fn command(engine: &mut Engine, now: u64, request: control::Request) -> Vec<Output> {
        engine.handle(at(now), Input::Command(CommandId(now), request));
        outputs(engine)
    }

    /// The question to the tracker among the outputs.
    fn asked(outputs: &[Output]) -> Option<(AskId, &Request)> {
        outputs.iter().find_map(|output| match output {
            Output::AskTracker(ask, _, Envelope { request, .. }) => Some((*ask, request)),
            _ => None,
        })
    }

    /// The answer to a command among the outputs.
    fn told(outputs: Vec<Output>) -> Option<Result<Answer, Reject>> {
        outputs.into_iter().find_map(|output| match output {
            Output::Tell(_, Frame::Result(result)) => Some(result),
            _ => None,
        })
    }

    fn enrolled(first: u8, last: u8) -> EnrolledNode {
        let mut node = NodeId([first; 32]);
        node.0[31] = last;
        EnrolledNode { node, since: None, online: false }
    }

    fn here() -> EnrolledNode {
        EnrolledNode { node: HERE, since: None, online: true }
    }

    /// Asks for the status and measures the disk; the question for the devices.
    fn status(engine: &mut Engine, now: u64) -> (Option<AskId>, Option<Vec<EnrolledNode>>) {
        let begun = command(engine, now, control::Request::Status);
        let measure = begun.iter().find_map(|output| match output {
            Output::MeasureDisk(ask) => Some(*ask),
            _ => None,
        });
        engine.handle(at(now), Input::DiskMeasured(measure.expect("the disk is measured"), Some(5)));
        (asked(&begun).map(|(ask, _)| ask), shown(outputs(engine)))
    }

    fn shown(outputs: Vec<Output>) -> Option<Vec<EnrolledNode>> {
        match told(outputs)? {
            Ok(Answer::Status(status)) => Some(status.devices),
            other => panic!("not a status: {other:?}"),
        }
    }

    #[test]
    fn a_status_waits_for_the_devices_but_not_for_a_silent_tracker() {
        let mut engine = logged_in();
        let (ask, early) = status(&mut engine, 10);
        assert_eq!(early, None, "it waits for the tracker");
        let devices = vec![here(), enrolled(0x22, 0)];
        engine.handle(at(11), Input::answered(ask.expect("asked"), Ok(tracker::Answer::Nodes(devices.clone()))));
        assert_eq!(shown(outputs(&mut engine)).as_ref(), Some(&devices));

        let (ask, early) = status(&mut engine, 20);
        assert_eq!((ask.is_some(), early), (true, None));
        let (again, early) = status(&mut engine, 30);
        assert_eq!((again, early), (None, None), "it is asked once at a time");
        let due = engine.next_deadline().expect("a bound on waiting");
        assert_eq!(due, at(20 + TELL_MS).monotonic);
        engine.tick(at(20 + TELL_MS));
        let told = outputs(&mut engine).into_iter().filter(|output| matches!(output, Output::Tell(..))).count();
        assert_eq!(told, 2, "with what was told last");
    }

    #[test]
    fn a_status_without_a_tracker_or_a_login_asks_nobody() {
        let mut engine = logged_in();
        let state = control::TrackerState::Unreachable;
        let reason = Reject::new(ErrorCode::NO_TRACKER, "gone");
        engine.handle(at(1), Input::TrackerLost { tracker: TrackerId(0), state, reason });
        outputs(&mut engine);
        assert_eq!(status(&mut engine, 2), (None, Some(Vec::new())));
        let mut engine = logged_in();
        engine.handle(at(1), Input::TrackerEvent(TrackerId(0), tracker::Event::Enrolment { user: None }));
        outputs(&mut engine);
        assert_eq!(status(&mut engine, 2), (None, Some(Vec::new())));
    }

    #[test]
    fn devices_of_who_was_logged_in_before_are_not_shown() {
        let mut engine = logged_in();
        let (ask, _) = status(&mut engine, 10);
        let bob = Some("bob".parse().expect("a good name"));
        engine.handle(at(11), Input::TrackerEvent(TrackerId(0), tracker::Event::Enrolment { user: bob }));
        outputs(&mut engine);
        let devices = tracker::Answer::Nodes(vec![here(), enrolled(0x22, 0)]);
        engine.handle(at(12), Input::answered(ask.expect("asked"), Ok(devices)));
        assert_eq!(shown(outputs(&mut engine)), Some(Vec::new()));
    }

    /// What comes of `logout --node` with these nodes: the next question, or the refusal.
    fn log_out(prefix: &str, nodes: Vec<EnrolledNode>) -> Result<Request, (ErrorCode, String)> {
        let mut engine = logged_in();
        let prefix = prefix.parse().expect("digits");
        let begun = command(&mut engine, 10, control::Request::LogoutNode { node: prefix });
        let (ask, list) = asked(&begun).expect("asked");
        assert_eq!(*list, Request::ListNodes);
        engine.handle(at(11), Input::answered(ask, Ok(tracker::Answer::Nodes(nodes))));
        let next = outputs(&mut engine);
        match asked(&next) {
            Some((_, request)) => Ok(request.clone()),
            None => Err(told(next)
                .expect("an answer")
                .map_err(|reject| (reject.code, reject.message))
                .expect_err("a refusal")),
        }
    }

    #[test]
    fn a_node_is_named_by_the_first_digits_of_its_id() {
        let nodes = || vec![here(), enrolled(0x22, 1), enrolled(0x22, 2)];
        assert_eq!(log_out("11", nodes()), Ok(Request::Logout), "this one");
        let second = nodes()[1].node;
        assert_eq!(log_out(&second.to_string(), nodes()), Ok(Request::WithdrawNode { node: second }));
        assert_eq!(
            log_out("22", vec![here(), nodes()[2].clone()]),
            Ok(Request::WithdrawNode { node: nodes()[2].node })
        );
        let several = log_out("2222", nodes()).expect_err("two begin so");
        assert_eq!(
            several,
            (ErrorCode::AMBIGUOUS_NAME, "several nodes of alice have an id that begins with 2222".to_owned())
        );
        assert_eq!(log_out("33", nodes()).expect_err("none").0, ErrorCode::NODE_NOT_FOUND);
    }
}
