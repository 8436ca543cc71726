//! The settings: the sample is what the program does, and a flag is over the file.

use super::*;
use clap::CommandFactory as _;
use p2p_host::settings::sample;

/// The sample that people copy.
const SAMPLE: &str = include_str!("../../../systemd/p2pd.toml");

fn config(folder: &Path, words: &[&str], file: &str) -> Result<Config, Reject> {
    let home = folder.to_str().expect("a text");
    let folders = Folders::under_home(folder);
    std::fs::create_dir_all(&folders.config).expect("a folder");
    std::fs::write(folders.config.join(SETTINGS_FILE), file).expect("writes");
    let words = ["p2pd", "--home", home].into_iter().chain(words.iter().copied());
    Config::read(&Arguments::try_parse_from(words).expect("flags"), &folders)
}

#[test]
fn the_sample_has_every_key_and_says_what_is_so_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let without = config(folder.path(), &[], SAMPLE).expect("comments alone");
    assert_eq!(config(folder.path(), &[], ""), Ok(without.clone()));
    let entries = sample::entries(SAMPLE);
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, settings::keys::<Settings>());
    std::fs::write(folder.path().join("config/tracker_info.txt"), "127.0.0.1 9000\n").expect("writes");
    for entry in entries {
        let key = entry.key;
        let default = sample::stated_default(&entry).unwrap_or_else(|| panic!("{key}: no default"));
        let with = config(folder.path(), &[], &format!("{key} = {}", entry.value));
        let with = with.unwrap_or_else(|error| panic!("{key}: {error}"));
        if default.starts_with("none") {
            // The example of tracker_info is what is taken without it.
            assert!(with != without || key == "tracker_info", "{key} has an example");
        } else {
            assert_eq!((default, &with), (entry.value, &without), "{key} has its default");
        }
        let command = Arguments::command();
        let flag = command.get_arguments().find(|flag| flag.get_id() == key).expect("a flag");
        let long = format!("--{}", flag.get_long().expect("a word"));
        let variable = flag.get_env().map_or(String::new(), |name| format!(", {}", name.display()));
        assert!(entry.comment.contains(&format!("{long}{variable}\n")), "{key}: {long}{variable}");
        // A reload leaves those that say so.
        let changes = without.clone().take_over(with);
        assert!(changes.made.is_empty() || !entry.comment.contains("After a restart"), "{key}");
        assert!(changes.at_restart.is_empty() || entry.comment.contains("After a restart"), "{key}");
    }
}

#[test]
fn a_flag_is_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "listen = \"127.0.0.1:1\"\ntrackers = [\"a:1\", \"b:2\"]\nup_limit = 0\nlog = \"warn\"";
    let both = config(folder.path(), &["--listen", "127.0.0.1:2", "--tracker", "c:3"], file).expect("right");
    let (trackers, limit) = (both.trackers.iter().map(ToString::to_string).collect::<Vec<_>>(), both.up_limit);
    assert_eq!((both.listen.port(), trackers, limit), (2, vec!["c:3".to_owned()], Some(Rate(0))));
    assert_eq!(both.log.to_string(), "warn");
    std::fs::write(folder.path().join("config/list.txt"), "127.0.0.1 7\n").expect("writes");
    let listed = config(folder.path(), &[], "tracker_info = \"list.txt\"").expect("a path from where the file is");
    assert_eq!(listed.trackers[0].host_port, "127.0.0.1:7");
    let named = config(folder.path(), &["--tracker", "c:3"], "tracker_info = \"none.txt\"").expect("not looked at");
    assert_eq!(named.trackers[0].host_port, "c:3");
}

#[test]
fn a_value_that_is_none_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for (line, word) in [
        ("listen = \"here\"", "address"),
        ("trackers = [\"nowhere\"]", "HOST:PORT"),
        ("up_limit = \"1KB\"", "too low"),
        ("down_limit = \"fast\"", "no rate"),
        ("active_downloads = 0", "from 1 to 24"),
        ("active_downloads = 25", "from 1 to 24"),
        ("log = \"audit=noisy\"", "filter"),
        ("log_format = \"xml\"", "text and json"),
        ("metrics = \"0.0.0.0:9101\"", "reached from elsewhere"),
        ("on_complete = \"rm -rf /\"", "whole path"),
        ("watch = [\"photos:outbox\"]", "whole path"),
        ("watch = [\"/home/alice/outbox\"]", "GROUP:FOLDER"),
        ("trackers = [\"a:1\"]\ntracker_info = \"x\"", "exclude each other"),
        ("upload_limit = 1", "no setting `upload_limit`"),
    ] {
        let reject = config(folder.path(), &[], &format!("# first\n{line}\n")).expect_err(line);
        assert_eq!(reject.code, ErrorCode::USAGE, "{line}");
        let place = if line.contains('\n') { "line 3: " } else { "line 2: " };
        assert!(reject.message.contains(place) && reject.message.contains(word), "{line}: {}", reject.message);
    }
}
