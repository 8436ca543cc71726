//! What the tracker is told, by words and by a file; the sample is what the program does.

use super::*;
use p2p_host::settings::sample;

/// The sample that people copy.
const SAMPLE: &str = include_str!("../../../systemd/tracker.toml");

fn read_in(home: &str, arguments: &[&str]) -> Result<Config, String> {
    let home = ["tracker", "--home", home].into_iter();
    match Task::read(home.chain(arguments.iter().copied()).map(OsString::from)) {
        Ok(Task::Serve(source)) => source.config().map_err(|reject| reject.message),
        Ok(Task::Check(_)) => Err("the check".to_owned()),
        Ok(other) => Err(format!("{other:?}")),
        Err(ConfigError::Refused(reject)) => Err(reject.message),
        Err(ConfigError::Usage(error)) => Err(error.to_string()),
        Err(ConfigError::ManualPage(_)) => Err("the manual page".to_owned()),
    }
}

fn read(arguments: &[&str]) -> Result<Config, String> {
    read_in("/srv/t", arguments)
}

/// A home whose settings file says this.
fn home_with(settings: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(folder.path().join("config")).expect("a folder");
    std::fs::write(folder.path().join("config/tracker.toml"), settings).expect("writes");
    folder
}

fn read_with(settings: &str, arguments: &[&str]) -> Result<Config, String> {
    let home = home_with(settings);
    std::fs::write(home.path().join("config/tracker_info.txt"), "127.0.0.1 9100\n127.0.0.1 9101\n").expect("writes");
    let config = read_in(home.path().to_str().expect("a text"), arguments);
    config.map(|config| Config { home: None, folder: PathBuf::new(), ..config })
}

fn listens(arguments: &[&str]) -> String {
    read(arguments).expect("usable").listen.to_string()
}

#[test]
fn a_place_is_an_address_a_port_or_nothing() {
    assert_eq!(listens(&[]), "127.0.0.1:9000");
    assert_eq!(listens(&["0"]), "127.0.0.1:0");
    assert_eq!(listens(&["9001"]), "127.0.0.1:9001");
    assert_eq!(listens(&["0.0.0.0:9002"]), "0.0.0.0:9002");
    assert_eq!(listens(&["[::1]:9003"]), "[::1]:9003");
    assert_eq!(read(&[]).expect("usable").folder, Path::new("/srv/t/tracker"));
}

#[test]
fn the_status_is_of_the_same_folder() {
    for arguments in [["status", "--json", "--home", "/srv/t"], ["--home", "/srv/t", "status", "--json"]] {
        let words = ["tracker"].into_iter().chain(arguments).map(OsString::from);
        let Ok(Task::Status { folder, json }) = Task::read(words) else { panic!("{arguments:?}: not the status") };
        assert_eq!((folder.as_path(), json), (Path::new("/srv/t/tracker"), true));
    }
}

#[test]
fn a_place_that_is_none_is_refused() {
    for bad in
        [&["70000"][..], &["localhost:9000"], &["9000", "1"], &["/nonexistent/tracker_info.txt"], &["a", "b", "c"]]
    {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_grant_lives_for_ten_minutes_or_as_much_less_as_is_asked_for() {
    let life = |arguments: &[&str]| read(arguments).map(|config| config.grant_terms.life.as_secs());
    assert_eq!((life(&[]), life(&["--grant-life", "10"])), (Ok(600), Ok(10)));
    assert!(life(&["--grant-life", "9"]).is_err() && life(&["--grant-life", "601"]).is_err());
}

#[test]
fn a_file_of_one_tracker_says_where_to_listen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tracker_info.txt");
    let path = path.to_str().expect("ASCII");
    let id = "5d".repeat(32);
    std::fs::write(path, format!("# ours\n127.0.0.1 9100 {id}\n")).expect("writes");
    let config = read(&[path, "1"]).expect("usable");
    assert_eq!((config.listen.port(), config.pin.map(|pin| pin.to_string())), (9100, Some(id)));
    assert_eq!(read(&[path]), Ok(config));
    assert!(read(&[path, "2"]).expect_err("one line").contains("no tracker 2"));
    assert!(read(&[path, "0"]).is_err());
    std::fs::write(path, "127.0.0.1 9100\n127.0.0.1 9101\n").expect("writes");
    let config = read(&[path, "2"]).expect("usable");
    assert_eq!((config.listen.port(), config.cluster.asked, config.cluster.listed.len()), (9101, Some(2), 2));
    std::fs::write(path, "t.example 9100\n").expect("writes");
    assert!(read(&[path]).expect_err("a host name").contains("host name"));
}

#[test]
fn the_sample_has_every_key_and_says_what_is_so_without_it() {
    let without = read_with(SAMPLE, &[]).expect("comments alone");
    assert_eq!(read_with("", &[]), Ok(without.clone()));
    let entries = sample::entries(SAMPLE);
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, settings::keys::<Settings>());
    for entry in entries {
        let key = entry.key;
        let default = sample::stated_default(&entry).unwrap_or_else(|| panic!("{key}: no default"));
        let beside = if key == "id" { "tracker_info = \"tracker_info.txt\"\n" } else { "" };
        let with = read_with(&format!("{beside}{key} = {}", entry.value), &[]);
        let with = with.unwrap_or_else(|error| panic!("{key}: {error}"));
        if default.starts_with("none") || key == "id" {
            assert_ne!(with, without, "{key} has an example");
        } else {
            assert_eq!((default, &with), (entry.value, &without), "{key} has its default");
        }
        let command = Arguments::command();
        if let Some(flag) = command.get_arguments().find(|flag| flag.get_id() == key && flag.get_long().is_some()) {
            let long = format!("--{}", flag.get_long().expect("a word"));
            let variable = flag.get_env().map_or(String::new(), |name| format!(", {}", name.display()));
            assert!(entry.comment.contains(&format!("{long}{variable}\n")), "{key}: {long}{variable}");
        }
        // A reload leaves those that say so.
        let changes = without.clone().take_over(with);
        assert!(changes.made.is_empty() || !entry.comment.contains("After a restart"), "{key}");
        assert!(changes.at_restart.is_empty() || entry.comment.contains("After a restart"), "{key}");
    }
}

#[test]
fn words_are_over_the_file_and_the_file_is_over_the_defaults() {
    let file = "listen = \"127.0.0.1:9005\"\ngrant_life = 30\nlog = \"warn\"";
    let config = read_with(file, &[]).expect("right");
    assert_eq!(
        (config.listen.port(), config.grant_terms.life.as_secs(), config.log.to_string()),
        (9005, 30, "warn".to_owned())
    );
    let config = read_with(file, &["9006", "--grant-life", "40"]).expect("right");
    assert_eq!((config.listen.port(), config.grant_terms.life.as_secs()), (9006, 40));
    let listed = read_with("tracker_info = \"tracker_info.txt\"\nid = 2", &[]).expect("a path from where the file is");
    assert_eq!((listed.listen.port(), listed.cluster.asked), (9101, Some(2)));
    let alone = read_with("tracker_info = \"none.txt\"", &["9006"]).expect("not looked at");
    assert_eq!(alone.cluster, Cluster::default());
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line() {
    for (line, word) in [
        ("listen = \"localhost:9000\"", "line 2: "),
        ("grant_life = 5", "line 2: "),
        ("grant_live = 60", "line 2: there is no setting `grant_live`"),
        ("metrics = \"192.0.2.1:1\"", "line 2: "),
        ("id = 1", "goes with `tracker_info`"),
        ("listen = \"127.0.0.1:1\"\ntracker_info = \"x\"", "line 3: "),
        ("tracker_info = \"none.txt\"", "none.txt"),
    ] {
        let refused = read_with(&format!("# first\n{line}"), &[]).expect_err(line);
        assert!(refused.contains(word), "{line}: {refused}");
    }
    assert!(read(&["--config", "/nonexistent/t.toml"]).expect_err("named").contains("there is no file"));
}
