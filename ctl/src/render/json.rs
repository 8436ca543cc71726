//! JSON documents: the daemon's answers as they are, behind `schema` and `type`. Fields are only ever added. Each type has its JSON
//! Schema in `ctl/schemas`.
//!
//! | document | is |
//! |---|---|
//! | `user_created` `logged_in` `logged_out` `status` | accounts and this node |
//! | `group_created` `group_joined` `group_left` `group_deleted` `group_transferred` `policy_set` | what became of a group |
//! | `request_accepted` `request_rejected` `member_removed` | what became of a user's standing in it |
//! | `groups` `members` `requests` `files` `downloads` `shares` | lists, each in a field of its own name |
//! | `uploaded` `shared` `file_info` `share_stopped` `file_removed` | a file |
//! | `download_started` `download_changed` `why` `verified` | a download that goes on, or not |
//! | `started` `progress` `result` | a download that is followed, or copies that are waited for: one, one a second, one at the end |
//! | `started` `event` | what happens: one when following begins, then one each, which `event` names |
//! | `shutting_down` `limits` | the daemon |
//! | `error` | on standard error, instead of the answer; what was followed then has no `result` |

use p2p_proto::control::{Answer, Event, Frame, Happening};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use serde::Serialize;

/// Version of all documents. 1: the first.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    r#type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: String,
    message: &'a str,
    hint: Option<&'a str>,
    exit_code: u8,
}

#[derive(Serialize)]
struct EventBody<'a> {
    at: UnixMillis,
    event: &'a str,
    #[serde(flatten)]
    fields: Option<&'a serde_json::Value>,
}

/// The document of an answer.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::UserCreated(body) => document("user_created", body),
        Answer::LoggedIn(body) => document("logged_in", body),
        Answer::LoggedOut(body) => document("logged_out", body),
        Answer::Status(body) => document("status", body.as_ref()),
        Answer::GroupCreated(body) => document("group_created", body),
        Answer::GroupJoined(body) => document("group_joined", body),
        Answer::GroupLeft(body) => document("group_left", body),
        Answer::GroupDeleted(body) => document("group_deleted", body),
        Answer::Groups(body) => document("groups", body),
        Answer::Members(body) => document("members", body),
        Answer::Requests(body) => document("requests", body),
        Answer::RequestAccepted(body) => document("request_accepted", body),
        Answer::RequestRejected(body) => document("request_rejected", body),
        Answer::MemberRemoved(body) => document("member_removed", body),
        Answer::GroupTransferred(body) => document("group_transferred", body),
        Answer::Uploaded(body) => document("uploaded", body),
        Answer::Files(body) => document("files", body),
        Answer::FileInfo(body) => document("file_info", body.as_ref()),
        Answer::DownloadStarted(body) => document("download_started", body),
        Answer::Downloaded(body) => document("result", body),
        Answer::DownloadChanged(body) => document("download_changed", body),
        Answer::Downloads(body) => document("downloads", body),
        Answer::ShareStopped(body) => document("share_stopped", body),
        Answer::Shares(body) => document("shares", body),
        Answer::ShuttingDown(body) => document("shutting_down", body),
        Answer::PasswordChanged(body) => document("password_changed", body),
        Answer::NodeLoggedOut(body) => document("node_logged_out", body),
        Answer::PolicySet(body) => document("policy_set", body),
        Answer::FileRemoved(body) => document("file_removed", body),
        Answer::Shared(body) => document("shared", body),
        Answer::Limits(body) => document("limits", body),
        Answer::Why(body) => document("why", body.as_ref()),
        Answer::Verified(body) => document("verified", body),
        Answer::Copied(body) => document("result", body),
    }
}

/// The document of an answer that may be old, which `stale` says beside its fields.
pub fn stale_answer(answered: &Answer) -> String {
    let document = answer(answered);
    // Every document is an object, and has a type in it at least.
    document.strip_suffix('}').map_or(document.clone(), |fields| format!("{fields},\"stale\":true}}"))
}

/// The document of a frame before the last one, for what is followed. Hashing has none: `upload_file` answers with
/// one document.
pub fn frame(frame: &Frame) -> Option<String> {
    match frame {
        Frame::Started(body) => Some(document("started", body)),
        Frame::Progress(body) => Some(document("progress", body)),
        Frame::Following => Some(document("started", &serde_json::Map::new())),
        Frame::Shared(body) => Some(document("started", body)),
        Frame::Copies(body) => Some(document("progress", body)),
        Frame::Event(happened) => Some(event(happened)),
        Frame::Hashing(_) | Frame::Stale | Frame::Bytes(_) | Frame::Result(_) => None,
    }
}

/// The document of an event: `event` says which, with its fields beside it.
fn event(Event { at, what }: &Event) -> String {
    let word = match what {
        Happening::Account { .. } => "account",
        Happening::Tracker { .. } => "tracker",
        Happening::JoinRequested { .. } => "join_requested",
        Happening::Membership { .. } => "membership",
        Happening::Download(_) => "download",
        Happening::DownloadGone(_) => "download_gone",
        Happening::ShareStarted { .. } => "share_started",
        Happening::ShareStopped { .. } => "share_stopped",
    };
    // An enum is an object with one field, whose name is the variant's.
    let fields = serde_json::to_value(what).ok();
    let fields = fields.as_ref().and_then(serde_json::Value::as_object).and_then(|object| object.values().next());
    document("event", &EventBody { at: *at, event: word, fields })
}

/// The document of a refusal.
pub fn error(reject: &Reject) -> String {
    let hint = (!reject.hint.is_empty()).then_some(reject.hint.as_str());
    let (code, exit_code) = (reject.code.word(), reject.code.exit_code());
    document("error", &ErrorBody { code, message: &reject.message, hint, exit_code })
}

fn document<T: Serialize>(kind: &str, body: &T) -> String {
    serde_json::to_string(&Document { schema: SCHEMA, r#type: kind, body })
        .expect("answers are structures of texts, numbers and lists, which JSON always has room for")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::examples;
    use p2p_proto::reject::ErrorCode;

    #[test]
    fn an_error_is_the_document_of_the_contract() {
        let reject = Reject::new(ErrorCode::NOT_MEMBER, "only members of `photos` may").hint("ask with `join_group`");
        assert_eq!(
            error(&reject),
            r#"{"schema":1,"type":"error","code":"not_member","message":"only members of `photos` may","hint":"ask with `join_group`","exit_code":5}"#
        );
        assert!(error(&Reject::new(ErrorCode(999), "x")).contains(r#""code":"unknown_999","message":"x","hint":null"#));
    }

    #[test]
    fn a_list_is_a_field_and_names_are_whole() {
        let mut files = examples::files();
        files.files[0].name = "a\u{202e}\"b".parse().expect("allowed");
        let document: serde_json::Value = serde_json::from_str(&answer(&Answer::Files(files))).expect("JSON");
        assert_eq!((&document["schema"], &document["type"]), (&1.into(), &"files".into()));
        let file = &document["files"][0];
        assert_eq!(file["name"], "a\u{202e}\"b");
        assert_eq!(file["length"], 44_238_012_416u64);
        assert_eq!(file["added"], "2026-11-20T21:23:20.000Z");
        assert_eq!(file["content"].as_str().map(str::len), Some(64), "ids are whole");
    }

    #[test]
    fn unknown_is_null_and_none_is_an_empty_list() {
        let status = examples::status();
        let mut status = Answer::Status(Box::new(status));
        if let Answer::Status(status) = &mut status {
            status.user = None;
            status.problems.clear();
        }
        let document: serde_json::Value = serde_json::from_str(&answer(&status)).expect("JSON");
        assert_eq!(document["user"], serde_json::Value::Null);
        assert_eq!(document["problems"], serde_json::json!([]));
        assert_eq!(document["trackers"][2]["state"], "unreachable");
        assert_eq!(document["started"], "2026-11-17T19:23:20.000Z");
    }

    #[test]
    fn an_event_says_which_and_has_its_fields_beside_it() {
        let event = |what| frame(&Frame::Event(Event { at: examples::NOW, what })).expect("shown");
        assert_eq!(frame(&Frame::Following).as_deref(), Some(r#"{"schema":1,"type":"started"}"#));
        assert_eq!(
            event(Happening::JoinRequested { group: examples::name("fleet"), user: examples::name("bob") }),
            r#"{"schema":1,"type":"event","at":"2026-11-20T23:23:20.000Z","event":"join_requested","group":"fleet","user":"bob"}"#
        );
        let nobody = event(Happening::Account { user: None });
        assert!(nobody.ends_with(r#""event":"account","user":null}"#), "{nobody}");
        let download = event(Happening::Download(examples::downloads().downloads[0].clone()));
        let download: serde_json::Value = serde_json::from_str(&download).expect("JSON");
        assert_eq!((&download["event"], &download["state"]), (&"download".into(), &"downloading".into()));
        assert_eq!(download["id"], "a91f0102030405ff");
    }

    #[test]
    fn what_is_followed_is_started_progress_and_result() {
        let download = examples::downloads().downloads[0].clone();
        let started = frame(&Frame::Started(download.clone())).expect("shown");
        assert!(
            started.starts_with(r#"{"schema":1,"type":"started","id":"a91f0102030405ff","group":"genomics","#),
            "{started}"
        );
        let progress: serde_json::Value =
            serde_json::from_str(&frame(&Frame::Progress(download)).expect("shown")).expect("JSON");
        assert_eq!((&progress["type"], &progress["state"]), (&"progress".into(), &"downloading".into()));
        let result = answer(&Answer::Downloaded(examples::downloaded()));
        assert!(result.starts_with(r#"{"schema":1,"type":"result","id":"a91f0102030405ff""#), "{result}");
    }
}
