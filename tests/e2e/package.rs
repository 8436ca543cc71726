//! The Debian package: made of the programs under test, installed and removed in a folder of its own.

use std::path::Path;
use std::process::Command;

use p2p_tests::binaries::{Binaries, workspace};
use p2p_tests::file::files_under;
use p2p_tests::process::clean_command;

/// What a command prints, which must succeed.
fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

#[test]
fn the_debian_package_is_installed_runs_and_leaves_nothing_when_it_is_purged() {
    if Command::new("dpkg").arg("--version").output().is_err() || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can install a package, and only where there is dpkg");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (system, out) = (folder.path().join("system"), folder.path().join("out"));
    let state = system.join("var/lib/dpkg");
    for made in [&out, &state.join("updates"), &state.join("info"), &state.join("triggers")] {
        std::fs::create_dir_all(made).expect("made");
    }
    std::fs::write(state.join("status"), "").expect("written");
    ran(Command::new(workspace().join("systemd/deb")).arg(Binaries::get().folder()).arg(&out));
    let package = files_under(&out).pop().expect("a package");
    // An empty system has no C library that it could depend on.
    let dpkg = |words: &[&str], package: &Path| {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", system.display())).arg("--force-depends").args(words).arg(package);
        ran(&mut command)
    };
    dpkg(&["--install"], &package);
    for program in ["tracker", "p2pd", "p2pctl"] {
        let version = ran(clean_command(&system.join("usr/bin").join(program), folder.path()).arg("--version"));
        assert!(version.ends_with(&format!(" {}\n", env!("CARGO_PKG_VERSION"))), "{version}");
    }
    let expected = [
        "etc/p2p/tracker.toml",
        "usr/lib/systemd/system/tracker.service",
        "usr/lib/systemd/user/p2pd.service",
        "usr/lib/systemd/user/p2pd.socket",
        "usr/share/man/man1/p2pctl-download_file.1.gz",
        "usr/share/bash-completion/completions/p2pctl",
        "usr/share/doc/p2p/p2pd.toml",
    ];
    for path in expected {
        assert!(system.join(path).is_file(), "{path} is missing");
    }
    dpkg(&["--purge"], Path::new("p2p"));
    let left = files_under(&system);
    let left: Vec<_> = left.iter().filter(|path| !path.starts_with(system.join("var"))).collect();
    assert!(left.is_empty(), "{left:?}");
}
