//! Who has what online, as the operator is told: the document, and a line each for a person.

use std::io::{self, Write as _};
use std::path::Path;

use p2p_proto::escape::escape;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use serde::{Deserialize, Serialize};

use crate::admin::Question;
use crate::presence::Have;
use crate::status;

/// Version of [`Seeders`]; fields are only ever added.
pub const SCHEMA: u32 = 1;

/// Its `type`.
pub const KIND: &str = "tracker_seeders";

/// Rows told at the most; a tracker that has more says so.
pub const ROWS_MAX: usize = 1_000_000;

/// Who has what online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeders {
    /// [`SCHEMA`].
    pub schema: u32,
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether there are more than [`ROWS_MAX`].
    pub cut_short: bool,
    /// One for each content on each node, by group, content and node.
    pub seeders: Vec<Row>,
}

/// One content on one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// Through which group.
    pub group: GroupName,
    /// Under which names it is listed there; none where no listing tells of it.
    pub names: Vec<FileName>,
    /// Which content.
    pub content: ContentId,
    /// Whose node.
    pub user: Option<UserName>,
    /// Which node.
    pub node: NodeId,
    /// How it has it.
    pub have: Have,
}

/// Asks the tracker that runs on a folder, and shows what it says.
///
/// # Errors
/// That none runs there, or does not answer.
pub fn show(folder: &Path, json: bool) -> Result<(), Reject> {
    let text = status::text(folder, Question::Seeders)?;
    let shown = if json { text } else { human(&text)? };
    // Whoever asked may have stopped reading.
    let _ = writeln!(io::stdout(), "{}", shown.trim_end());
    Ok(())
}

fn human(text: &str) -> Result<String, Reject> {
    let told: Seeders = serde_json::from_str(text).map_err(|error| {
        Reject::new(ErrorCode::MALFORMED, format!("the tracker's answer cannot be read: {error}"))
            .hint("`tracker seeders` has to be of the same version")
    })?;
    let mut lines: Vec<String> = told.seeders.iter().map(line).collect();
    if told.cut_short {
        lines.push(format!("… and more than these {ROWS_MAX}"));
    }
    if lines.is_empty() {
        lines.push("nobody online has announced anything".to_owned());
    }
    Ok(lines.join("\n"))
}

fn line(row: &Row) -> String {
    let have = match row.have {
        Have::Complete => "seeds",
        Have::Partial => "downloads",
        Have::Standby => "rests",
    };
    let name = row.names.first().map_or("(not listed)".to_owned(), |name| escape(name.as_str()));
    let user = row.user.as_ref().map_or("-".to_owned(), |user| escape(user.as_str()));
    let group = escape(row.group.as_str());
    format!("{group}   {name}   {}   {user}   {}   {have}", row.content.short(), row.node.short())
}
