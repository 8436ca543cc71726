//! `status` for people: who and how on four lines, the user's other devices, and a line for each thing that is wrong.

use p2p_proto::control::{Status, TrackerState, TrackerStatus};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::OwnedRequest;

use super::human::word;
use super::{rate, unit};

/// Requests to join that are shown, a line each; the rest are counted.
const REQUESTS_SHOWN_MAX: usize = 10;

/// The lines of COMMANDS.md's example.
pub fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![
        identity(status),
        trackers(status),
        format!(
            "Peers     {}     Down {}{}   Up {}{}",
            unit::count(status.peers.into()),
            unit::rate(status.down_rate),
            rate::of_limit(status.limits.down_limit),
            unit::rate(status.up_rate),
            rate::of_limit(status.limits.up_limit)
        ),
        contents(status),
    ];
    lines.extend(devices(status));
    lines.extend(status.problems.iter().map(|problem| format!("! {problem}")));
    lines.extend(status.join_requests.iter().take(REQUESTS_SHOWN_MAX).map(|OwnedRequest { group, user, .. }| {
        let accept = format!("p2pctl accept_request {} {}", word(group), word(user));
        format!("! {user} asks to join {group}: {accept}")
    }));
    if let [next, ..] = status.join_requests.get(REQUESTS_SHOWN_MAX..).unwrap_or_default() {
        let more = status.join_requests.len() - REQUESTS_SHOWN_MAX;
        let list = format!("p2pctl list_requests {}", word(&next.group));
        lines.push(format!("! {more} more ask to join groups of yours: {list}"));
    }
    lines
}

fn identity(status: &Status) -> String {
    let user = status.user.as_ref().map_or("not logged in".to_owned(), |user| format!("{user}   logged in"));
    let version = status.software.rsplit(' ').next().unwrap_or_default();
    let up = unit::span_fine(status.now.since(status.started));
    let key_exchange = status.key_exchange.as_ref().map(|name| format!("   key exchange {name}"));
    format!("{user}   p2pd {version}, up {up}{}", key_exchange.unwrap_or_default())
}

fn trackers(status: &Status) -> String {
    let trackers: Vec<String> = status.trackers.iter().map(|one| tracker(one, status.now)).collect();
    format!("Trackers  {}", if trackers.is_empty() { "none".to_owned() } else { trackers.join("   ") })
}

fn tracker(tracker: &TrackerStatus, now: UnixMillis) -> String {
    let state = match (tracker.state, tracker.round_trip_us) {
        (TrackerState::Connecting, _) => "connecting".to_owned(),
        (TrackerState::Ok, Some(round_trip_us)) => format!("ok {}", unit::round_trip(round_trip_us)),
        (TrackerState::Ok, None) => "ok".to_owned(),
        (TrackerState::Unreachable, _) => format!("unreachable {}", unit::span(now.since(tracker.since))),
        (TrackerState::KeyChanged, _) => "key changed".to_owned(),
        (TrackerState::Refused, _) => "refused".to_owned(),
    };
    let remark = match (tracker.stale, tracker.leader) {
        (true, _) => " (stale)",
        (false, true) => " (leader)",
        (false, false) => "",
    };
    format!("{} {state}{remark}", tracker.address)
}

fn contents(status: &Status) -> String {
    let shares = numbers([(status.shares_seeding, "seeding"), (status.shares_stopped, "stopped")]);
    let downloads = numbers([
        (status.downloads_active, "active"),
        (status.downloads_waiting, "waiting"),
        (status.downloads_paused, "paused"),
        (status.downloads_failed, "failed"),
    ]);
    let disk = status.disk_free_bytes.map(|bytes| format!("      Disk {} free", unit::size(bytes)));
    format!("Shares    {shares}      Downloads {downloads}{}", disk.unwrap_or_default())
}

/// Devices shown; `--json` has all of them.
const DEVICES_SHOWN: usize = 8;

/// The nodes of the user, this one first; nothing where there is only this one.
fn devices(status: &Status) -> Option<String> {
    let (here, others): (Vec<_>, Vec<_>) = status.devices.iter().partition(|device| device.node == status.node);
    if others.is_empty() {
        return None;
    }
    let here = here.into_iter().map(|device| format!("{} (this one)", device.node.short()));
    let others = others.into_iter().map(|device| {
        let since =
            device.since.map_or(String::new(), |since| format!(" since {}", unit::span(status.now.since(since))));
        format!("{}{since}, {}", device.node.short(), if device.online { "online" } else { "offline" })
    });
    let mut shown: Vec<String> = here.chain(others).take(DEVICES_SHOWN).collect();
    if let Some(hidden @ 1..) = status.devices.len().checked_sub(DEVICES_SHOWN) {
        shown.push(format!("and {} more", unit::count(hidden as u64)));
    }
    Some(format!("Devices   {}: {}", unit::count(status.devices.len() as u64), shown.join("; ")))
}

/// The numbers that are not zero, each with its word.
fn numbers<const N: usize>(numbers: [(u32, &str); N]) -> String {
    let numbers = numbers.iter().filter(|(number, _)| *number > 0);
    let words: Vec<String> =
        numbers.map(|(number, word)| format!("{} {word}", unit::count((*number).into()))).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::examples;
    use p2p_proto::id::NodeId;
    use p2p_proto::tracker::EnrolledNode;

    #[test]
    fn status_reads_as_the_contract_shows_it() {
        let expected = "\
alice   logged in   p2pd 0.1.0, up 3d 4h   key exchange X25519MLKEM768
Trackers  192.0.2.10:9000 ok 3 ms (leader)   192.0.2.11:9000 ok 4 ms   192.0.2.12:9000 unreachable 2m
Peers     12     Down 842 MiB/s   Up 120 MiB/s
Shares    8 seeding      Downloads 1 active, 1 waiting      Disk 1.2 TiB free
! maps.iso has waited 4m: no seeder online (last: bob, 2h ago)";
        assert_eq!(lines(&examples::status()).join("\n"), expected);
    }

    #[test]
    fn who_asks_to_join_is_shown_with_what_to_do_about_it() {
        let mut status = examples::status();
        let request = |user: &str| OwnedRequest {
            group: examples::name("my fleet"),
            user: examples::name(user),
            since: examples::NOW,
        };
        status.join_requests = vec![request("bob")];
        let shown = lines(&status);
        assert_eq!(
            shown.last().map(String::as_str),
            Some("! bob asks to join my fleet: p2pctl accept_request 'my fleet' bob")
        );
        status.join_requests = (0..12).map(|number| request(&format!("u{number}"))).collect();
        let shown = lines(&status);
        assert_eq!(
            shown.last().map(String::as_str),
            Some("! 2 more ask to join groups of yours: p2pctl list_requests 'my fleet'")
        );
    }

    #[test]
    fn devices_are_shown_where_there_is_more_than_this_one() {
        let mut status = examples::status();
        let device = |first: u8, since, online| EnrolledNode { node: NodeId([first; 32]), since, online };
        let line = |status: &Status| lines(status).into_iter().find(|line| line.starts_with("Devices"));
        status.devices = vec![device(7, Some(examples::hours_ago(80)), true)];
        assert_eq!(line(&status), None);
        status.devices.insert(0, device(3, Some(examples::hours_ago(75)), false));
        status.devices.push(device(9, None, true));
        let expected = "Devices   3: 07070707 (this one); 03030303 since 3d, offline; 09090909, online";
        assert_eq!(line(&status).as_deref(), Some(expected));
        status.devices.extend((10..=19).map(|first| device(first, None, false)));
        assert!(line(&status).is_some_and(|line| line.starts_with("Devices   13: ") && line.ends_with("; and 5 more")));
    }

    #[test]
    fn a_fresh_daemon_has_little_to_say() {
        let mut status = examples::status();
        status.user = None;
        status.key_exchange = None;
        status.started = status.now;
        status.trackers.clear();
        status.problems.clear();
        status.disk_free_bytes = None;
        (status.peers, status.down_rate, status.up_rate) = (0, 0, 0);
        (status.shares_seeding, status.downloads_active, status.downloads_waiting) = (0, 0, 0);
        assert_eq!(
            lines(&status).join("\n"),
            "not logged in   p2pd 0.1.0, up 0s\nTrackers  none\nPeers     0     Down 0 B/s   Up 0 B/s\n\
             Shares    none      Downloads none"
        );
    }
}
