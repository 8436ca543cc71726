//! `schema`: the JSON Schemas of the documents that `--json` prints.

use crate::error::Failure;
use crate::session::Session;

/// Names documents and takes in the schema of each.
macro_rules! schemas {
    ($($name:literal)*) => {
        const SCHEMAS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../schemas/", $name, ".json")))),*];
    };
}

schemas! {
    "download_changed" "download_started" "downloads" "error" "event"
    "file_info" "file_removed" "files" "group_created" "group_deleted"
    "group_joined" "group_left" "group_transferred" "groups" "limits"
    "logged_in" "logged_out" "member_removed" "members" "node_logged_out"
    "password_changed" "policy_set" "progress" "request_accepted" "request_rejected"
    "requests" "result" "share_stopped" "shared" "shares"
    "shutting_down" "started" "status" "uploaded" "user_created"
    "verified" "why"
}

/// Print the JSON Schema of a document that --json prints
///
/// Without TYPE, the types of documents, one a line. Later versions add fields and words: pass over those that you do not
/// know.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl schema status")]
pub struct Schema {
    /// The document's `type`
    #[arg(value_name = "TYPE", value_parser = clap::builder::PossibleValuesParser::new(SCHEMAS.iter().map(|(name, _)| *name)), hide_possible_values = true)]
    document: Option<String>,
}

impl Schema {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self.document {
            None => {
                let names = SCHEMAS.iter().map(|(name, _)| format!("{name}\n"));
                session.screen.raw(names.collect::<String>().as_bytes())
            }
            Some(document) => {
                let found = SCHEMAS.iter().find(|(name, _)| *name == document);
                session.screen.raw(found.map_or("", |(_, schema)| schema).as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_offered() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas")).expect("reads");
        let mut names: Vec<String> =
            folder.map(|file| file.expect("reads").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let offered: Vec<String> = SCHEMAS.iter().map(|(name, _)| format!("{name}.json")).collect();
        assert_eq!(names, offered);
    }
}
