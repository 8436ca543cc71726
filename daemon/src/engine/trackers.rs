//! Trackers: which of them answer, and the calls that wait for one.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_proto::control::{Frame, Happening, Password, TrackerState};
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Event, HelloAck, Knowledge, Reply, Request, Standing, epoch_of};

use super::announce::Told;
use super::input::{AskId, TrackerId};
use super::output::PasswordChange;
use super::problems::Cause;
use super::record::Account;
use super::steps::Step;
use super::{Engine, Output, Timer};

/// How long a command waits for a tracker that does not answer: longer than a tracker's restart, shorter than a
/// person's patience.
const HELD_MS: u64 = 4_000;

/// And for one that has not answered for a while already: what one more attempt takes.
const HELD_LONG_LOST_MS: u64 = 1_500;

/// A tracker that has been away for this long has been tried several times.
const LONG_LOST_MS: u64 = 5_000;

/// How long a tracker may take to answer a read before another one is asked as well: many round trips.
const ASK_ANOTHER_MS: u64 = 400;

/// Pause between two questions to a tracker that knows no majority, whether it does now.
const STALE_MS: u64 = 3_000;

/// How long a call is asked anew after an answer was lost, from when it was asked first; its id makes that safe. Once it is in any
/// case, however late the first was lost. The last to be asked may take seconds to find a majority, and a person should have waited
/// ten at the most.
const RETRY_MS: u64 = 7_000;

/// How long a better answer to a read is waited for than an old one that is here: another leader is elected meanwhile, where
/// there can be one.
const OLD_ANSWER_MS: u64 = 1_800;

/// Groups for which it is known what trackers told last: as many as a user belongs to. Beyond, what all of them tell may be
/// heard more than once.
const TOLD_STANDINGS_MAX: usize = 1_000;

/// One tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    pub address: String,
    pub state: TrackerState,
    pub since: UnixMillis,
    pub node: Option<NodeId>,
    pub leader: bool,
    /// Whether what it told last was all that had been acknowledged by then.
    pub current: bool,
    /// How far in the log it was when it was heard last.
    pub place: u64,
    pub round_trip: Option<Duration>,
    pub key_exchange: Option<String>,
    pub reason: Option<Reject>,
    /// Key that its grants are signed with.
    pub cluster: Option<ClusterKey>,
    /// What it has been told is here.
    pub announced: Told,
    /// What it has been told would be shared again.
    pub standby: Told,
    /// Whether an announcement is on its way, so that the next waits.
    pub announcing: bool,
}

impl Tracker {
    /// A tracker that has not been heard of yet.
    pub fn new(address: String, now: UnixMillis) -> Tracker {
        Tracker {
            address,
            state: TrackerState::Connecting,
            since: now,
            node: None,
            leader: false,
            current: true,
            place: 0,
            round_trip: None,
            key_exchange: None,
            reason: None,
            cluster: None,
            announced: Told::new(true),
            standby: Told::new(false),
            announcing: false,
        }
    }

    /// Whether it answers without a majority of its cluster.
    pub fn is_stale(&self) -> bool {
        self.state == TrackerState::Ok && !self.current
    }

    /// What it was told of this node it may not know any more.
    pub fn forget_announced(&mut self) {
        self.announced.forget();
        self.standby.forget();
    }
}

/// What a tracker is asked.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Request(Request),
    Register(UserName, Password),
    Login(UserName, Password),
    ChangePassword(Box<PasswordChange>),
}

/// A call whose answer has not come.
#[derive(Debug)]
pub(super) struct PendingCall {
    call: Call,
    id: RequestId,
    /// Since when it is asked.
    since: Duration,
    /// Whether it may be asked again when an answer was lost.
    retried: bool,
    /// Waits for a tracker, rather than for its answer.
    held: bool,
    /// Whose answers are still to come.
    open: Vec<TrackerId>,
    /// Who was asked and did not answer, or knows no majority: others are asked, and these when they have connected again.
    /// No more than there are trackers.
    failed: BTreeSet<TrackerId>,
    /// The last answer to a read that may be old: told where nobody knows better.
    old: Option<Reply>,
}

impl PendingCall {
    fn new(call: Call, id: RequestId, since: Duration, retried: bool) -> PendingCall {
        PendingCall { call, id, since, retried, held: false, open: Vec::new(), failed: BTreeSet::new(), old: None }
    }

    fn is_read(&self) -> bool {
        matches!(&self.call, Call::Request(request) if request.is_read())
    }

    /// Those who are of no use to it now: they were asked, whether they have failed or may answer still.
    fn asked(&self) -> Vec<TrackerId> {
        self.failed.iter().chain(&self.open).copied().collect()
    }
}

impl Engine {
    /// Asks a tracker for a command: waits for one a while if none answers now.
    pub(super) fn ask(&mut self, step: Step, call: Call) {
        let id = self.request_id();
        self.ask_as(step, id, call);
    }

    /// The same under an id that may have been asked for before.
    pub(super) fn ask_as(&mut self, step: Step, id: RequestId, call: Call) {
        let ask = AskId(self.number());
        // An account that was made is in the way of making it again; all else has an id, or may be done twice.
        let retried = !matches!(call, Call::Register(..));
        self.steps.insert(ask, step);
        self.calls.insert(ask, PendingCall::new(call, id, self.now.monotonic, retried));
        if self.calls.values().filter(|call| call.held).count() >= self.config.limits.held_calls_max {
            self.answer_call(ask, Err(Reject::new(ErrorCode::BUSY, "too many commands wait for a tracker")));
        } else {
            self.send_or_hold(ask);
        }
    }

    /// Asks a tracker for the daemon's own sake; false if none answers now.
    pub(super) fn ask_now(&mut self, step: Step, request: Request) -> bool {
        let id = self.request_id();
        self.ask_now_as(step, id, request)
    }

    /// The same under an id that may have been asked for before.
    pub(super) fn ask_now_as(&mut self, step: Step, id: RequestId, request: Request) -> bool {
        if self.chosen_tracker().is_none() {
            return false;
        }
        let ask = AskId(self.number());
        self.steps.insert(ask, step);
        self.calls.insert(ask, PendingCall::new(Call::Request(request), id, self.now.monotonic, false));
        self.send_or_hold(ask);
        true
    }

    /// An id that no other request has.
    pub(super) fn request_id(&mut self) -> RequestId {
        RequestId(self.random.u128(..).to_le_bytes())
    }

    /// Asks one particular tracker, for the daemon's own sake.
    pub(super) fn ask_tracker(&mut self, tracker: TrackerId, step: Step, request: Request) {
        let ask = AskId(self.number());
        let id = self.request_id();
        self.steps.insert(ask, step);
        self.outputs.push_back(Output::ask_tracker(ask, tracker, id, self.seen_place, request));
    }

    /// The tracker to ask: one that knows what is current before one that does not, then the leader, then the first.
    pub(super) fn chosen_tracker(&self) -> Option<TrackerId> {
        self.chosen_tracker_but(&[])
    }

    /// The same among all but some.
    fn chosen_tracker_but(&self, others: &[TrackerId]) -> Option<TrackerId> {
        let answering = self.answering().filter(|(tracker, _)| !others.contains(tracker));
        let chosen = answering.min_by_key(|(_, tracker)| (!tracker.current, !tracker.leader));
        chosen.map(|(tracker, _)| tracker)
    }

    /// The trackers that answer.
    fn answering(&self) -> impl Iterator<Item = (TrackerId, &Tracker)> {
        let trackers = self.trackers.iter().enumerate().map(|(place, tracker)| (TrackerId(place as u64), tracker));
        trackers.filter(|(_, tracker)| tracker.state == TrackerState::Ok)
    }

    /// The table entry of a tracker; `None` for a number that the shell made up.
    pub(super) fn tracker_mut(&mut self, tracker: TrackerId) -> Option<&mut Tracker> {
        usize::try_from(tracker.0).ok().and_then(|place| self.trackers.get_mut(place))
    }

    pub(super) fn tracker_connected(
        &mut self,
        tracker: TrackerId,
        node: NodeId,
        ack: HelloAck,
        round_trip: Duration,
        key_exchange: String,
    ) {
        let now = self.now.wall;
        let Some(slot) = self.tracker_mut(tracker) else { return };
        *slot = Tracker {
            state: TrackerState::Ok,
            node: Some(node),
            leader: ack.leader,
            current: ack.current,
            cluster: Some(ack.cluster),
            round_trip: Some(round_trip),
            key_exchange: Some(key_exchange),
            ..Tracker::new(std::mem::take(&mut slot.address), now)
        };
        let (address, state) = (slot.address.clone(), TrackerState::Ok);
        self.happened(Happening::Tracker { address, state, reason: None });
        self.tracker_clock = Some((ack.time, self.now.monotonic));
        self.watch_grants();
        let current = self.is_current(tracker, ack.current, ack.place);
        self.watch_stale();
        // The tracker's word counts: it knows of a logout made elsewhere.
        if current {
            self.change_account(ack.user.map(|user| Account { user, cluster: ack.cluster }));
        }
        for call in self.calls.values_mut() {
            call.failed.remove(&tracker);
        }
        let held: Vec<AskId> = self.calls.iter().filter(|(_, call)| call.held).map(|(ask, _)| *ask).collect();
        for ask in held {
            self.send_or_hold(ask);
        }
        // What happened to memberships while no tracker was heard is not told again: taken as it was, and refused by
        // grants where it is not.
        self.left_groups.clear();
        self.told_standings.clear();
        self.forget_share_groups();
        self.ask_missing_grants();
        self.ask_join_requests();
        self.publish_now();
        self.announce_soon();
        self.announce_now();
        self.review_all();
    }

    pub(super) fn tracker_lost(&mut self, tracker: TrackerId, state: TrackerState, reason: Reject) {
        let now = self.now.wall;
        let Some(slot) = self.tracker_mut(tracker) else { return };
        if slot.state != state {
            slot.since = now;
        }
        let news = slot.state != state;
        slot.state = state;
        slot.reason = Some(reason.clone());
        let address = slot.address.clone();
        slot.forget_announced();
        slot.announcing = false;
        self.problem_over(Cause::Announcement(tracker));
        self.problem_over(Cause::PartOfAnnouncement(tracker));
        if news {
            self.happened(Happening::Tracker { address, state, reason: Some(reason.message.clone()) });
        }
        // Nobody can be told now; what waits for that waits no longer.
        self.timers.set(Timer::Announce, self.now.monotonic);
        if matches!(state, TrackerState::KeyChanged | TrackerState::Refused) && self.chosen_tracker().is_none() {
            // Waiting does not help here: those who wait are told at once.
            let held: Vec<AskId> = self.calls.iter().filter(|(_, call)| call.held).map(|(ask, _)| *ask).collect();
            for ask in held {
                self.answer_call(ask, Err(reason.clone()));
            }
        }
    }

    pub(super) fn tracker_answered(
        &mut self,
        ask: AskId,
        tracker: TrackerId,
        reply: Reply,
        knowledge: Option<Knowledge>,
    ) {
        let current = knowledge.is_none_or(|Knowledge { current, place }| self.is_current(tracker, current, place));
        self.watch_stale();
        // What an announcement is refused for is up to that tracker alone.
        let is_certain = current || matches!(self.steps.get(&ask), Some(Step::Announced(_)));
        let reply = if is_certain { reply } else { reply.map_err(uncertain) };
        let failed_before = self.calls.get(&ask).map(|call| call.failed.clone()).unwrap_or_default();
        let another = |wanted: fn(&Tracker) -> bool| {
            self.answering().any(|(other, state)| other != tracker && !failed_before.contains(&other) && wanted(state))
        };
        let failed = match reply.as_ref().map_err(|reject| reject.code) {
            // A tracker that is cut off from the others may not be the only one that this node reaches.
            Ok(_) => !current && another(|other| other.current),
            Err(ErrorCode::NO_MAJORITY) => another(|_| true),
            Err(code) => code == ErrorCode::NO_TRACKER,
        };
        let now = self.now.monotonic;
        let Some(call) = self.calls.get_mut(&ask) else { return self.answer_call(ask, reply) };
        call.open.retain(|other| *other != tracker);
        if failed {
            call.failed.insert(tracker);
            let is_waited_for = !call.open.is_empty();
            let is_soon = now.saturating_sub(call.since) < Duration::from_millis(RETRY_MS);
            let is_retried = call.retried && (is_soon || call.failed.len() == 1);
            if call.is_read() && reply.is_ok() {
                call.old = Some(reply);
            } else if !is_waited_for && !is_retried && call.old.is_none() {
                return self.answer_call(ask, reply);
            }
            return match (is_waited_for, is_retried) {
                // Another one was asked as well; whoever was not can be now.
                (true, _) => self.timers.set(Timer::AskAnother(ask), now),
                (false, true) => self.send_or_hold(ask),
                (false, false) => self.answer_old(ask),
            };
        }
        match reply {
            Ok(_) if !current => self.answer_with_old(ask, reply),
            reply => self.answer_call(ask, reply),
        }
    }

    /// Asks another tracker as well, where those that were asked have not answered a read: they may be dead, or look for their
    /// majority. Where there is none, what is known already is told once that was waited for long enough.
    pub(super) fn ask_another(&mut self, ask: AskId) {
        let Some(pending) = self.calls.get(&ask).filter(|call| !call.held) else { return };
        let Call::Request(request) = &pending.call else { return };
        let Some(tracker) = self.chosen_tracker_but(&pending.asked()) else {
            let enough = pending.since + Duration::from_millis(OLD_ANSWER_MS);
            return match &pending.old {
                None => {}
                Some(_) if self.now.monotonic >= enough => self.answer_old(ask),
                Some(_) => self.timers.set(Timer::AskAnother(ask), enough),
            };
        };
        self.outputs.push_back(Output::ask_tracker(ask, tracker, pending.id, self.seen_place, request.clone()));
        if let Some(pending) = self.calls.get_mut(&ask) {
            pending.open.push(tracker);
        }
        self.timers.set(Timer::AskAnother(ask), self.after(Duration::from_millis(ASK_ANOTHER_MS)));
    }

    /// Takes note of how far in the log a tracker is, and whether what it tells is current: nothing that one tells is that
    /// another has taken over from.
    fn is_current(&mut self, tracker: TrackerId, current: bool, place: u64) -> bool {
        self.seen_place = self.seen_place.max(place);
        let Some(slot) = self.tracker_mut(tracker) else { return current };
        (slot.current, slot.place) = (current, place);
        for tracker in (0..self.trackers.len() as u64).map(TrackerId) {
            if self.is_overruled(tracker)
                && let Some(slot) = self.tracker_mut(tracker)
            {
                slot.current = false;
            }
        }
        current && !self.is_overruled(tracker)
    }

    /// Whether a tracker is of an earlier epoch than another of its cluster, which has taken over from it then, whether it knows
    /// that or not.
    fn is_overruled(&self, tracker: TrackerId) -> bool {
        let Some(slot) = usize::try_from(tracker.0).ok().and_then(|place| self.trackers.get(place)) else {
            return false;
        };
        let later = |other: &&Tracker| epoch_of(other.place) > epoch_of(slot.place);
        self.trackers.iter().filter(later).any(|other| other.cluster == slot.cluster)
    }

    /// Answers a read with what is here, which may be old.
    fn answer_old(&mut self, ask: AskId) {
        if let Some(old) = self.calls.get_mut(&ask).and_then(|call| call.old.take()) {
            self.answer_with_old(ask, old);
        }
    }

    /// Answers a call with what may be old, and says so.
    fn answer_with_old(&mut self, ask: AskId, reply: Reply) {
        if let Some(command) = self.steps.get(&ask).and_then(Step::command) {
            self.outputs.push_back(Output::Tell(command, Frame::Stale));
        }
        self.answer_call(ask, reply);
    }

    /// Has trackers that know no majority asked after a while: commands prefer the others, so that nobody else asks them.
    fn watch_stale(&mut self) {
        if self.trackers.iter().any(Tracker::is_stale) {
            self.timers.set_if_unset(Timer::Stale, self.after(Duration::from_millis(STALE_MS)));
        }
    }

    /// Asks the trackers that know no majority something small; each answer says whether they do now.
    pub(super) fn ask_stale(&mut self) {
        let stale: Vec<TrackerId> =
            self.answering().filter(|(_, tracker)| tracker.is_stale()).map(|(tracker, _)| tracker).collect();
        for tracker in stale {
            self.ask_tracker(tracker, Step::Asked, Request::ListNodes);
        }
    }

    pub(super) fn held_too_long(&mut self, ask: AskId) {
        if self.calls.get(&ask).is_some_and(|call| call.held) {
            let reject = self.no_tracker();
            self.answer_call(ask, Err(reject));
        }
    }

    pub(super) fn tracker_event(&mut self, tracker: TrackerId, event: Event) {
        // Who has what, and whose access has ended, is worth hearing from anybody; rights given and taken are not.
        let of_anybody = matches!(
            event,
            Event::Provider { .. } | Event::Revoked { .. } | Event::LoggedOut { .. } | Event::Wanted { .. }
        );
        if self.is_overruled(tracker) && !of_anybody {
            return;
        }
        match event {
            // What another cluster voids are its own grants.
            Event::Revoked { .. } | Event::LoggedOut { .. } if !self.is_of_the_cluster(tracker) => {}
            Event::Enrolment { user } => {
                let cluster = self.account.as_ref().map(|account| account.cluster);
                match (user, cluster) {
                    (None, _) => self.change_account(None),
                    (Some(user), Some(cluster)) => self.change_account(Some(Account { user, cluster })),
                    // The login that this follows from tells the cluster's key.
                    (Some(_), None) => (),
                }
            }
            Event::Membership { group, standing } => {
                if !self.was_told_elsewhere(&group, standing) {
                    self.membership_changed(&group, standing);
                }
            }
            Event::JoinRequested { group, user } if self.is_echo(&group, &user) => {}
            Event::JoinRequested { group, user } => {
                self.outputs.push_back(Output::Note(format!("{user} asks to join {group}")));
                self.join_requested(group, user);
            }
            Event::Provider { group, content, provider } => self.provider_found(&group, content, provider),
            Event::Revoked { group, node, epoch } => self.revoke(&group, node, epoch),
            Event::LoggedOut { nodes } => self.nodes_logged_out(nodes),
            Event::Wanted { group, content } => self.wake_shares(&group, content),
            Event::Born { group, born } => self.group_born(&group, born),
        }
    }

    /// Whether a tracker's grants are those that hold here.
    fn is_of_the_cluster(&mut self, tracker: TrackerId) -> bool {
        let own = self.account.as_ref().map(|account| account.cluster);
        self.tracker_mut(tracker).is_none_or(|tracker| tracker.cluster.is_none() || tracker.cluster == own)
    }

    /// Whether this is where the user stood already, by the word of another tracker of the cluster: each of them tells it.
    fn was_told_elsewhere(&mut self, group: &GroupName, standing: Standing) -> bool {
        if self.told_standings.len() >= TOLD_STANDINGS_MAX {
            self.told_standings.clear();
        }
        self.told_standings.insert(group.clone(), standing) == Some(standing) && self.trackers.len() > 1
    }

    /// Why no tracker can be asked.
    pub(super) fn no_tracker(&self) -> Reject {
        let known = self.trackers.iter().find_map(|tracker| tracker.reason.clone());
        let addresses: Vec<&str> = self.trackers.iter().map(|tracker| tracker.address.as_str()).collect();
        known.filter(|reason| reason.code != ErrorCode::NO_TRACKER).unwrap_or_else(|| {
            Reject::new(ErrorCode::NO_TRACKER, format!("no tracker answers at {}", addresses.join(", ")))
                .hint("check that `tracker` runs there; p2pd takes its address from --tracker or tracker_info.txt")
        })
    }

    /// Sends a call to a tracker that answers and has not failed it, or keeps it until there is one; what may be old is
    /// told rather than that.
    fn send_or_hold(&mut self, ask: AskId) {
        let Some(pending) = self.calls.get(&ask) else { return };
        let Some(tracker) = self.chosen_tracker_but(&pending.asked()) else {
            return if pending.old.is_some() { self.answer_old(ask) } else { self.hold(ask) };
        };
        self.timers.clear(&Timer::Held(ask));
        let Some(pending) = self.calls.get_mut(&ask) else { return };
        pending.held = false;
        pending.open.push(tracker);
        let is_read = pending.is_read();
        self.outputs.push_back(match pending.call.clone() {
            Call::Request(request) => Output::ask_tracker(ask, tracker, pending.id, self.seen_place, request),
            Call::Register(user, password) => Output::Register(ask, tracker, user, password),
            Call::Login(user, password) => Output::Login(ask, tracker, user, password),
            Call::ChangePassword(change) => Output::ChangePassword(ask, tracker, pending.id, change),
        });
        if is_read {
            self.timers.set(Timer::AskAnother(ask), self.after(Duration::from_millis(ASK_ANOTHER_MS)));
        }
    }

    /// Keeps a call until a tracker answers, or until it has waited long enough.
    fn hold(&mut self, ask: AskId) {
        let long_lost = self.trackers.iter().all(|tracker| {
            let away = self.now.wall.since(tracker.since);
            tracker.state == TrackerState::Unreachable && away >= Duration::from_millis(LONG_LOST_MS)
        });
        let until = self.after(Duration::from_millis(if long_lost { HELD_LONG_LOST_MS } else { HELD_MS }));
        if let Some(pending) = self.calls.get_mut(&ask) {
            pending.held = true;
            self.timers.set_if_unset(Timer::Held(ask), until);
            self.outputs.push_back(Output::WakeTrackers);
        }
    }

    /// Takes a call's answer, whatever it is, to the step that waits for it.
    fn answer_call(&mut self, ask: AskId, reply: Reply) {
        self.calls.remove(&ask);
        self.timers.clear(&Timer::Held(ask));
        self.timers.clear(&Timer::AskAnother(ask));
        if let Some(step) = self.steps.remove(&ask) {
            self.go_on(step, reply);
        }
    }
}

/// A refusal by who has lost sight of the majority: what it is about may have changed, so that it is none for certain.
fn uncertain(reject: Reject) -> Reject {
    match reject.code.exit_code() {
        3..=6 => Reject::new(
            ErrorCode::NO_MAJORITY,
            format!("no majority of the trackers answers, and one alone knew last: {}", reject.message),
        )
        .hint("try again when more of them run; see `p2pctl status`"),
        _ => reject,
    }
}

#[cfg(test)]
mod tests;
