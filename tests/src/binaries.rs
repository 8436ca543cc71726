//! Where the programs under test are, and their building: once a run, before the first of them starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder that holds `tracker`, `p2pd` and `p2pctl`.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The programs of the workspace, built quietly in this process's own profile and target folder; those in
    /// `P2P_BIN_DIR`, where that is set.
    ///
    /// # Panics
    /// If they cannot be built: no test can say anything then.
    pub fn get() -> &'static Binaries {
        static BINARIES: OnceLock<Binaries> = OnceLock::new();
        BINARIES.get_or_init(|| Binaries::build(Stdio::piped()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The same, with what cargo says going to `messages`.
    ///
    /// # Errors
    /// What stands in the way, with cargo's words if they were piped.
    pub fn build(messages: Stdio) -> Result<Binaries, String> {
        if let Some(folder) = std::env::var_os("P2P_BIN_DIR") {
            return Ok(Binaries { folder: folder.into() });
        }
        let folder = profile_folder(&std::env::current_exe().map_err(|error| error.to_string())?);
        let target = folder.parent().ok_or("this program lies in no target folder")?;
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stderr(messages)
            .output()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("the programs do not build:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Binaries { folder })
    }

    /// The path of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The folder that holds them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of the profile that `program` was built in: `target/debug` for `target/debug/deps/e2e-0123`.
fn profile_folder(program: &Path) -> PathBuf {
    let folder = program.parent().unwrap_or(Path::new("."));
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    folder.parent().filter(|_| is_deps).unwrap_or(folder).to_owned()
}
