//! `tracker promote`: has the tracker of a folder take over from the other of two.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use p2p_proto::codec;
use p2p_proto::reject::{ErrorCode, Reject};

use crate::admin::{self, Question};
use crate::log::Epoch;
use crate::status::{Role, Status};

/// Longest answer read, in bytes: a number, or a refusal.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How long the tracker may take to begin again: it reads its whole state.
const DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two looks at whether it has.
const PAUSE: Duration = Duration::from_millis(100);

/// What the tracker answers: the first place of the epoch that it begins, or why it does not.
pub type Answer = Result<u64, Reject>;

/// Has the tracker that runs on a folder take over, and returns when it decides.
///
/// # Errors
/// That none runs there, why it may not, or that it has not come back.
pub fn promote(folder: &Path, force: bool) -> Result<(), Reject> {
    let mut bytes = Vec::new();
    let read = admin::ask(folder, Question::Promote { force })?.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| admin::silent(folder, &error))?;
    let answer: Answer = codec::decode(&bytes).map_err(|error| {
        Reject::new(ErrorCode::MALFORMED, format!("the tracker's answer cannot be read: {error}"))
            .hint("`tracker promote` has to be of the same version")
    })?;
    let epoch = Epoch::of(answer?);
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
