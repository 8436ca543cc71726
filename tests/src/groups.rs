//! Groups as tests make and list them.

use p2p_proto::name::PUBLIC;

use crate::daemon::Daemon;
use crate::wait::eventually;

/// Makes a public group, as often as it is refused for want of trackers: never for long.
///
/// # Panics
/// If it never goes through.
pub fn make_group(daemon: &Daemon, name: &str) {
    eventually("a change goes through", || {
        daemon.ctl().output(&["create_group", name, "--policy", "public"]).status.success().then_some(())
    });
}

/// The groups that somebody has made: all but the built-in one, which is always there.
///
/// # Panics
/// If they cannot be listed.
pub fn made_groups(daemon: &Daemon) -> Vec<String> {
    let groups = daemon.json(&["list_groups"]);
    let rows = groups["groups"].as_array().unwrap_or_else(|| panic!("no list in {groups}"));
    let names = rows.iter().filter_map(|row| row["group"].as_str()).filter(|name| *name != PUBLIC);
    names.map(str::to_owned).collect()
}
