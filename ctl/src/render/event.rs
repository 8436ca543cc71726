//! What happens, a line each, for people.

use p2p_proto::control::{Event, Happening, TrackerState};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::Standing;

use super::human;

/// The line of an event, with the time of day in UTC.
pub fn line(event: &Event) -> String {
    format!("{} {}", time_of_day(event.at), what(&event.what))
}

fn what(happening: &Happening) -> String {
    match happening {
        Happening::Account { user: Some(user) } => format!("{user} is logged in"),
        Happening::Account { user: None } => "nobody is logged in any more".to_owned(),
        Happening::Tracker { address, state: TrackerState::Ok, .. } => format!("tracker {address} answers"),
        Happening::Tracker { reason: Some(reason), .. } => reason.clone(),
        Happening::Tracker { address, reason: None, .. } => format!("tracker {address} does not answer"),
        Happening::JoinRequested { group, user } => {
            let accept = format!("p2pctl accept_request {} {}", human::word(group), human::word(user));
            format!("{user} asks to join {group}  ({accept})")
        }
        Happening::Membership { group, standing } => match standing {
            Standing::Owner => format!("you own {group}"),
            Standing::Member => format!("you are a member of {group}"),
            Standing::Requested => format!("you have asked to join {group}"),
            Standing::None => format!("you are not in {group} any more"),
        },
        Happening::Download(download) => {
            format!("{} {} is {}", download.id.short(), download.name, human::state(download))
        }
        Happening::DownloadGone(download) => format!("{} {} is cancelled", download.id.short(), download.name),
        Happening::ShareStarted { group, name, path, .. } => format!("{name} is shared with {group} from {path}"),
        Happening::ShareStopped { group, name, reason, .. } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}"));
            format!("{name} is no longer shared with {group}{}", reason.unwrap_or_default())
        }
    }
}

/// As 15:04:05Z.
fn time_of_day(at: UnixMillis) -> String {
    let seconds = at.0 / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::examples::{self, name};

    fn shown(what: Happening) -> String {
        line(&Event { at: examples::NOW, what })
    }

    #[test]
    fn each_thing_is_a_line_with_its_time_and_what_to_do() {
        let group = name("my fleet");
        assert_eq!(
            shown(Happening::JoinRequested { group, user: name("bob") }),
            "23:23:20Z bob asks to join my fleet  (p2pctl accept_request 'my fleet' bob)"
        );
        let gone = Happening::Membership { group: name("fleet"), standing: Standing::None };
        assert_eq!(shown(gone), "23:23:20Z you are not in fleet any more");
        let download = examples::downloads().downloads[0].clone();
        assert_eq!(shown(Happening::Download(download)), "23:23:20Z a91f0102 genome.tar is downloading");
        let stopped = Happening::ShareStopped {
            group: name("fleet"),
            name: name("map.iso"),
            content: p2p_proto::id::ContentId([1; 32]),
            reason: Some("the file has changed".to_owned()),
        };
        assert_eq!(shown(stopped), "23:23:20Z map.iso is no longer shared with fleet: the file has changed");
        let lost = |reason: Option<&str>, state| Happening::Tracker {
            address: "192.0.2.1:9000".to_owned(),
            state,
            reason: reason.map(str::to_owned),
        };
        assert_eq!(shown(lost(None, TrackerState::Ok)), "23:23:20Z tracker 192.0.2.1:9000 answers");
        assert_eq!(shown(lost(Some("it is gone"), TrackerState::Unreachable)), "23:23:20Z it is gone");
        assert_eq!(time_of_day(UnixMillis(0)), "00:00:00Z");
    }
}
