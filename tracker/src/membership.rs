//! What an operator has the tracker of a folder do to its cluster: `tracker promote` and `tracker remove`.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use p2p_proto::reject::{ErrorCode, Reject};

use crate::admin::{self, Question};
use crate::log::Epoch;
use crate::status::{Role, Status};

/// How long the tracker may take to begin again: it reads its whole state.
const DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two looks at whether it has.
const PAUSE: Duration = Duration::from_millis(100);

/// Has the tracker that runs on a folder take over, and returns when it decides.
///
/// # Errors
/// That none runs there, why it may not, or that it has not come back.
pub fn promote(folder: &Path, force: bool) -> Result<(), Reject> {
    let epoch = Epoch::of(admin::command(folder, Question::Promote { force })?);
    let began = Instant::now();
    loop {
        // While it begins again nobody answers.
        let status = Status::ask(folder);
        if let Ok(Status { role: Role::Leader, ready: true, epoch: takeovers, tracker, .. }) = status
            && takeovers == epoch.takeovers()
        {
            // Whoever asked may have stopped reading.
            let _ = writeln!(io::stdout(), "tracker {tracker} decides from now on, in epoch {epoch}");
            return Ok(());
        }
        if began.elapsed() > DEADLINE {
            let message = format!("the tracker takes over, but has not come back within {} s", DEADLINE.as_secs());
            return Err(Reject::new(ErrorCode::NO_TRACKER, message).hint("its log says why; start it again"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Has the tracker that runs on a folder, which leads, take another one out of the cluster.
///
/// # Errors
/// That none runs there, or why it does not.
pub fn remove(folder: &Path, tracker: u8, force: bool) -> Result<(), Reject> {
    let votes = admin::command(folder, Question::Remove { tracker, force })?;
    // Whoever asked may have stopped reading.
    let _ = writeln!(io::stdout(), "tracker {tracker} is taken out of the cluster, which has {votes} votes now");
    Ok(())
}
