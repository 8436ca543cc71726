//! The recipes of README.md, run as they stand there.
//!
//! Each block of shell under `## Recipes` begins with a comment that names whose it is: `# ops:` or `# web1:`. They run in their
//! order, each person's in a folder and with a daemon of their own. One that is to run `until interrupted` does so beside
//! the rest.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use p2p_tests::binaries::{Binaries, workspace};

use super::*;

/// A recipe that goes on; its programs are killed with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // All of its pipe: it leads a group of processes.
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The blocks of shell of the page.
fn recipes() -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("README.md")).expect("reads");
    let page = text.split("\n## Recipes\n").nth(1).expect("there are recipes");
    let page = page.split("\n## ").next().unwrap_or_default();
    page.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A block as a shell runs it that stops at the first failure.
fn shell(daemon: &Daemon, folder: &Path, block: &str) -> Command {
    let mut command = daemon.command_in_its_home();
    let bare =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect::<Vec<_>>();
    command = Command::new("bash");
    command.env_clear().envs(bare.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", Binaries::get().folder().display());
    command.env("PATH", path).env("HOME", folder).current_dir(folder);
    command.args(["-euo", "pipefail", "-c", block]).stdin(Stdio::null());
    command
}

#[test]
fn every_recipe_of_the_readme_does_what_it_says() {
    for program in ["bash", "jq", "tar"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: the recipes need {program}");
            return;
        }
    }
    let world = World::new();
    let (ops, web1) = (world.user("ops"), world.user("web1"));
    let folder = |name: &str| world.path(&format!("{name}'s folder"));
    for name in ["ops", "web1"] {
        std::fs::create_dir_all(folder(name).join("release")).expect("made");
        std::fs::create_dir_all(folder(name).join("logs")).expect("made");
    }
    std::fs::write(folder("ops").join("logs/today"), "all is well\n").expect("written");
    random_file(&folder("ops"), "release/program", 3 * MIB);
    let packed =
        Command::new("tar").args(["cf", "app.tar", "program"]).current_dir(folder("ops").join("release")).status();
    assert!(packed.expect("tar runs").success());

    let recipes = recipes();
    assert!(recipes.len() >= 10, "{} recipes", recipes.len());
    let mut running = Vec::new();
    for block in &recipes {
        let first = block.lines().next().unwrap_or_default();
        let daemon = match first {
            _ if first.starts_with("# ops:") => &ops,
            _ if first.starts_with("# web1:") => &web1,
            _ => panic!("whose is this? {block}"),
        };
        let name = if std::ptr::eq(daemon, &ops) { "ops" } else { "web1" };
        let mut command = shell(daemon, &folder(name), block);
        if first.contains("until interrupted") {
            running.push(Running(command.process_group(0).spawn().expect("bash starts")));
            continue;
        }
        let output = command.output().expect("bash starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{block}\n{}: {said}", output.status);
    }

    // What they were for.
    let web1 = folder("web1");
    for copy in ["program", "mirror/app.tar"] {
        assert!(web1.join(copy).is_file(), "{copy} in {:?}", p2p_tests::file::files_under(&web1));
    }
    p2p_tests::file::assert_equal(&folder("ops").join("release/program"), &web1.join("program"));
    assert_eq!(std::fs::read_to_string(web1.join("logs/today")).expect("unpacked"), "all is well\n");
    for unit in ["fetch.service", "fetch.timer"] {
        let path = web1.join(".config/systemd/user").join(unit);
        let verified =
            Command::new("systemd-analyze").args(["--user", "verify"]).arg(&path).env("HOME", &web1).output();
        if let Ok(output) = verified {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains(unit), "{unit}: {said}");
        }
    }
}
