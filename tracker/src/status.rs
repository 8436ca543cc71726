//! What a tracker tells its operator: the document, and its rendering for a person.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::EPOCH_PLACES;
use serde::{Deserialize, Serialize};

use crate::admin::{self, Question};

/// Version of [`Status`]; fields are only ever added.
pub const SCHEMA: u32 = 1;

/// Its `type`.
pub const KIND: &str = "tracker_status";

/// Longest document read, in bytes: a million seeders.
const DOCUMENT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How a tracker does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Name and version of the program.
    pub software: String,
    /// Which tracker of its cluster.
    pub tracker: u64,
    /// Its key's name.
    pub id: String,
    /// Where it listens.
    pub address: Option<String>,
    /// Whether nodes are served.
    pub ready: bool,
    /// What it does in its cluster.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// How often a leader was elected, or tried to be.
    pub term: u64,
    /// How often one of two trackers has taken over from the other.
    #[serde(default)]
    pub epoch: u32,
    /// Which one has last.
    #[serde(default)]
    pub epoch_begun_by: Option<u64>,
    /// Place in the log behind the last that is applied; those of a later epoch are larger than all before.
    pub applied: u64,
    /// SHA-256 of the state, in hex: the same on every tracker that has applied as much.
    pub digest: String,
    /// Nodes connected here.
    pub nodes: usize,
    /// All who belong to the cluster.
    pub trackers: Vec<MemberStatus>,
}

/// A tracker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Which.
    pub tracker: u64,
    /// Its key's name.
    pub id: Option<String>,
    /// Whether it has a vote.
    pub votes: bool,
    /// How many places it lacks of what the leader has; told by the leader alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
}

/// What a tracker does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Decides the order of changes.
    Leader,
    /// Would decide alone, and waits for word of who followed, or for `tracker promote`.
    Waiting,
    /// Follows, and may lead.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Follows without a vote, or belongs to no cluster yet.
    Learner,
}

/// Asks the tracker that runs on a folder, and shows what it says.
///
/// # Errors
/// That none runs there, or does not answer.
pub fn show(folder: &Path, json: bool) -> Result<(), Reject> {
    let text = text(folder, Question::Status)?;
    let shown = if json { text } else { human(&text)? };
    // Whoever asked may have stopped reading.
    let _ = writeln!(io::stdout(), "{}", shown.trim_end());
    Ok(())
}

/// The document that answers a question.
///
/// # Errors
/// That no tracker runs there, or does not answer.
pub fn text(folder: &Path, question: Question) -> Result<String, Reject> {
    let mut text = String::new();
    let read = admin::ask(folder, question)?.take(DOCUMENT_BYTES_MAX).read_to_string(&mut text);
    match read {
        Ok(0) => Err(admin::silent(folder, &io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(text),
        Err(error) => Err(admin::silent(folder, &error)),
    }
}

impl Status {
    /// How the tracker that runs on a folder does.
    ///
    /// # Errors
    /// That none runs there, or does not answer so that it can be read.
    pub fn ask(folder: &Path) -> Result<Status, Reject> {
        Status::read(&text(folder, Question::Status)?)
    }

    fn read(text: &str) -> Result<Status, Reject> {
        serde_json::from_str(text).map_err(|error| {
            Reject::new(ErrorCode::MALFORMED, format!("the tracker's answer cannot be read: {error}"))
                .hint("the command has to be of the same version as the tracker")
        })
    }
}

fn human(text: &str) -> Result<String, Reject> {
    let status = Status::read(text)?;
    let role = match status.role {
        Role::Leader => "leads",
        Role::Waiting => "waits for word of the other one, or for `tracker promote`",
        Role::Follower => "follows",
        Role::Candidate => "stands for election",
        Role::Learner => "follows without a vote",
    };
    let leader = status.leader.map_or("nobody leads".to_owned(), |leader| format!("tracker {leader} leads"));
    let mut lines = vec![
        format!("tracker {} {role}   {leader}   term {}   {}", status.tracker, status.term, status.software),
        format!("Listens   {}", status.address.as_deref().unwrap_or("-")),
        format!("State     {} places applied, {}", status.applied % EPOCH_PLACES, status.digest),
        format!("Nodes     {} connected{}", status.nodes, if status.ready { "" } else { " (not served yet)" }),
    ];
    for member in &status.trackers {
        let votes = if member.votes { "votes" } else { "no vote" };
        let lag = member.lag.map_or(String::new(), |lag| format!("   {lag} places behind"));
        lines.push(format!("Tracker {} {votes}   {}{lag}", member.tracker, member.id.as_deref().unwrap_or("-")));
    }
    if let Some(tracker) = status.epoch_begun_by {
        lines.insert(1, format!("Epoch     {}, begun by tracker {tracker}", status.epoch));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_who_leads() {
        let text = r#"{"schema":1,"type":"tracker_status","software":"p2p 1","tracker":2,"id":"ab","address":null,
            "ready":true,"role":"follower","leader":1,"term":3,"applied":9,"digest":"cd","nodes":4,
            "trackers":[{"tracker":1,"id":"ef","votes":true}],"later":1}"#;
        assert_eq!(
            human(text).expect("reads"),
            "tracker 2 follows   tracker 1 leads   term 3   p2p 1\nListens   -\nState     9 places applied, cd\n\
             Nodes     4 connected\nTracker 1 votes   ef"
        );
        assert!(human("{}").is_err());
    }
}
