//! The tracker's figures: counted where things happen; how things stand is looked up when somebody reads.

use p2p_host::figures::{Figures, gauge_value};
use p2p_host::monitor::Watched;
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{EPOCH_PLACES, Reply};
use prometheus::{IntCounterVec, IntGauge};

use crate::clock;
use crate::log;
use crate::server::{Reporter, Verdict};
use crate::status::Role;

/// What becomes of somebody who knocks, as the label has it.
const KNOCKED: &[&str] = &["admitted", "retried", "refused", "ignored"];

/// The result of a request that was not refused; those that were have the code that `p2pctl --json` tells.
const DONE: &str = "done";

/// A refusal whose code this version does not know, by another tracker of the cluster.
const UNKNOWN: &str = "unknown";

/// Figures as every tracker has them.
pub fn begin() -> Figures {
    Figures::new("p2p_tracker", env!("CARGO_PKG_VERSION"), clock::now())
}

/// What is counted.
#[derive(Debug)]
pub struct Counters {
    knocks: IntCounterVec,
    requests: IntCounterVec,
}

impl Counters {
    /// All at 0.
    pub fn new(figures: &Figures) -> Counters {
        let knocks = "Attempts to connect, by what became of them.";
        let requests = "Requests answered, by `done` or the code of the refusal.";
        Counters {
            knocks: figures.counters("p2p_tracker_connection_attempts_total", knocks, "verdict", KNOCKED),
            requests: figures.counters("p2p_tracker_requests_total", requests, "result", &[DONE]),
        }
    }

    /// Somebody has knocked.
    pub fn knocked(&self, verdict: &Verdict) {
        let word = match verdict {
            Verdict::Admit(_) => "admitted",
            Verdict::Retry => "retried",
            Verdict::Refuse => "refused",
            Verdict::Ignore => "ignored",
        };
        self.knocks.with_label_values(&[word]).inc();
    }

    /// A request is answered.
    pub fn answered(&self, reply: &Reply) {
        match reply {
            Ok(_) => self.requests.with_label_values(&[DONE]).inc(),
            Err(reject) if ErrorCode::ALL.contains(&reject.code) => {
                self.requests.with_label_values(&[&reject.code.word()]).inc();
            }
            Err(_) => self.requests.with_label_values(&[UNKNOWN]).inc(),
        }
    }
}

/// How things stand.
#[derive(Debug)]
pub struct Standing {
    /// Whether nodes are served.
    pub ready: bool,
    /// In the cluster.
    pub cluster: log::Standing,
    /// Places of the log that are applied.
    pub applied: u64,
    pub users: usize,
    pub groups: usize,
    pub listings: usize,
    /// Nodes connected here.
    pub nodes: usize,
    /// Contents of groups that one of them has announced.
    pub announced: usize,
}

/// Whom whoever watches the tracker asks.
#[derive(Debug)]
pub struct Watch {
    reporter: Reporter,
    ready: IntGauge,
    leader: IntGauge,
    leader_known: IntGauge,
    term: IntGauge,
    applied: IntGauge,
    members: IntGauge,
    users: IntGauge,
    groups: IntGauge,
    listings: IntGauge,
    nodes: IntGauge,
    announced: IntGauge,
}

impl Watch {
    /// One that asks `reporter`. Once a tracker.
    pub fn new(figures: &Figures, reporter: Reporter) -> Watch {
        let gauge = |name, help| figures.gauge(name, help);
        Watch {
            reporter,
            ready: gauge("p2p_tracker_ready", "Whether nodes are served."),
            leader: gauge("p2p_tracker_leader", "Whether this tracker leads its cluster."),
            leader_known: gauge("p2p_tracker_leader_known", "Whether it knows who leads, so that changes can be made."),
            term: gauge("p2p_tracker_term", "How often a leader was elected, or tried to be."),
            applied: gauge("p2p_tracker_log_applied", "Places of the log that are applied here, within the epoch."),
            members: gauge("p2p_tracker_cluster_trackers", "Trackers that belong to the cluster, this one included."),
            users: gauge("p2p_tracker_users", "Users."),
            groups: gauge("p2p_tracker_groups", "Groups, the built-in one included."),
            listings: gauge("p2p_tracker_listings", "Listings of files in all groups."),
            nodes: gauge("p2p_tracker_nodes_connected", "Nodes connected to this tracker."),
            announced: gauge("p2p_tracker_contents_announced", "Contents of groups that a node connected here has."),
        }
    }
}

impl Watched for Watch {
    async fn figures(&self) -> Option<String> {
        let standing = self.reporter.standing();
        self.ready.set(standing.ready.into());
        self.leader.set((standing.cluster.role == Role::Leader).into());
        self.leader_known.set(standing.cluster.leader.is_some().into());
        self.term.set(gauge_value(standing.cluster.term));
        self.applied.set(gauge_value(standing.applied % EPOCH_PLACES));
        self.members.set(gauge_value(standing.cluster.members.len()));
        self.users.set(gauge_value(standing.users));
        self.groups.set(gauge_value(standing.groups));
        self.listings.set(gauge_value(standing.listings));
        self.nodes.set(gauge_value(standing.nodes));
        self.announced.set(gauge_value(standing.announced));
        Some(self.reporter.figures())
    }

    async fn fault(&self) -> Option<&'static str> {
        let standing = self.reporter.standing();
        match standing.cluster.leader {
            _ if !standing.ready => Some("not in its cluster yet, so nobody is served"),
            None => Some("no tracker leads, so nothing can be changed"),
            Some(_) => None,
        }
    }
}
