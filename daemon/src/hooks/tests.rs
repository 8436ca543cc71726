//! Real programs that are run: what they are told, and how they end.

use super::*;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::time::UnixMillis;
use std::os::unix::fs::PermissionsExt as _;

use crate::engine::record::DownloadPhase;

/// How long anything may take here.
const GIVE_UP: Duration = Duration::from_secs(60);

struct Case {
    folder: tempfile::TempDir,
    figures: Figures,
    hooks: Hooks,
}

impl Case {
    /// With a script of these lines, which may run for `deadline`.
    fn new(script: &str, deadline: Duration) -> Case {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", folder.path().display())).expect("writes");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("may");
        let figures = Figures::default();
        let hooks = Hooks::with_deadline(Some(Path::new("/h")), &figures, deadline);
        hooks.set_on_complete(Some(program));
        Case { folder, figures, hooks }
    }

    fn completed(&self, name: &str) {
        self.hooks.completed(DownloadRecord {
            id: DownloadId([7; DownloadId::BYTES]),
            user: "bob".parse().expect("a name"),
            group: "photos".parse().expect("a name"),
            name: name.parse().expect("a name"),
            owner: "alice".parse().expect("a name"),
            content: ContentId([9; ContentId::BYTES]),
            length: 12,
            destination: PathBuf::from("/d").join(name),
            force: false,
            added: UnixMillis(0),
            fetched_bytes: 12,
            shape: None,
            phase: DownloadPhase::Complete(UnixMillis(1)),
            born: None,
            only: None,
            wanted_bytes: None,
            wanted_pieces: None,
        });
    }

    /// Waits until so many have ended so.
    async fn ended(&self, word: &str, number: u64) {
        let line = format!("p2pd_hooks_total{{result=\"{word}\"}} {number}\n");
        let ended = async {
            while !self.figures.text().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(GIVE_UP, ended).await.unwrap_or_else(|_| panic!("not {line}: {}", self.figures.text()));
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Waits until a program has written this file.
    async fn written(&self, name: &str) {
        let written = async {
            while self.file(name).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(GIVE_UP, written).await.unwrap_or_else(|_| panic!("{name} is not written"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_told_in_the_environment_and_no_shell_reads_it() {
    let case = Case::new("env | grep ^P2P_ | sort > told; echo $# >> told", GIVE_UP);
    case.completed("$(touch done) `id`; rm -rf *");
    case.ended("succeeded", 1).await;
    let (id, content) = ("07".repeat(DownloadId::BYTES), "09".repeat(ContentId::BYTES));
    let told = format!(
        "P2P_CONTENT={content}\nP2P_GROUP=photos\nP2P_HOME=/h\nP2P_ID={id}\nP2P_NAME=$(touch done) `id`; rm -rf *\n\
         P2P_OWNER=alice\nP2P_PATH=/d/$(touch done) `id`; rm -rf *\nP2P_SIZE=12\n0\n"
    );
    assert_eq!(case.file("told"), told);
    assert!(!case.folder.path().join("done").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn however_one_ends_the_others_are_run() {
    let case = Case::new("case $P2P_NAME in bad) echo why >&2; exit 3;; esac; echo $P2P_NAME >> ran", GIVE_UP);
    case.completed("bad");
    (0..10).for_each(|number| case.completed(&format!("file-{number}")));
    case.ended("failed", 1).await;
    case.ended("succeeded", 10).await;
    assert_eq!(case.file("ran").lines().count(), 10);
    case.hooks.set_on_complete(Some("/nonexistent".into()));
    case.completed("one more");
    case.ended("not_run", 1).await;
    case.hooks.set_on_complete(None);
    case.completed("nobody hears of it");
    case.hooks.shut_down().await;
    assert!(case.figures.text().contains("p2pd_hooks_total{result=\"not_run\"} 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_end_is_ended_with_all_that_it_has_started() {
    let case = Case::new("sleep 1000 & echo $! > child; wait", Duration::from_millis(500));
    case.completed("file");
    case.ended("timed_out", 1).await;
    let child = case.file("child").trim().parse().ok().and_then(Pid::from_raw);
    if let Some(child) = child {
        let gone = async {
            // Killed, and taken over by whoever waits for orphans; a process that waits to be waited for runs no more.
            while std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_pid()))
                .is_ok_and(|stat| !stat.contains(") Z "))
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(GIVE_UP, gone).await.expect("it is gone as well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_run_at_once_and_all_end_with_the_daemon() {
    let case = Case::new("echo x >> running; sleep 1000", GIVE_UP);
    (0..RUNNING_MAX + 3).for_each(|number| case.completed(&format!("file-{number}")));
    while case.file("running").lines().count() < RUNNING_MAX {
        case.written("running").await;
    }
    case.hooks.shut_down().await;
    case.ended("stopped", RUNNING_MAX as u64).await;
    case.ended("not_run", 3).await;
    assert_eq!(case.file("running").lines().count(), RUNNING_MAX, "no more than that were begun");
}
