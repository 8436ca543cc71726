//! Limits of this node's rates: changed while it runs, kept, and what they mean for downloads and uploads.
//!
//! What comes in is held back by asking for less: a piece that is on its way is never dropped. What goes out is metered
//! by the network shell, byte by byte; here it only decides how many pieces are sent at once.

use std::collections::BTreeSet;

use p2p_proto::control::{Answer, RateLimits, check_rate_limit};
use p2p_proto::id::ContentId;
use p2p_proto::reject::Reject;

use super::input::CommandId;
use super::record::Change;
use super::steps::Step;
use super::token_bucket::TokenBucket;
use super::{Engine, Output, Timer};

/// Each piece that is sent under a limit gets at least so many bytes a second, as far as there are any: a usual one is
/// done in eight seconds, long before its reader wonders.
const UPLOAD_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Pieces sent at once under any limit: one reader that stops reading does not stop all.
const UPLOADS_MIN: u64 = 2;

/// The limits, and what they hold back.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub limits: RateLimits,
    /// What the limits will be when all commands under way are on disk.
    wanted: RateLimits,
    pub down: TokenBucket,
    /// Transfers that would ask for more if they might.
    held_back: BTreeSet<ContentId>,
    /// The transfer that asked last: the next one in order is next.
    asked_last: Option<ContentId>,
}

impl Engine {
    /// `limit`: tells the limits, after those given have changed.
    pub(super) fn begin_limit(&mut self, command: CommandId, up: Option<u64>, down: Option<u64>) -> Result<(), Reject> {
        for rate in up.iter().chain(&down) {
            check_rate_limit(*rate)?;
        }
        if up.is_none() && down.is_none() {
            self.tell(command, Answer::Limits(self.rates.limits));
            return Ok(());
        }
        let wanted = &mut self.rates.wanted;
        wanted.up_limit = up.unwrap_or(wanted.up_limit);
        wanted.down_limit = down.unwrap_or(wanted.down_limit);
        let limits = *wanted;
        self.remember(Step::Limited(command, limits), vec![Change::PutLimits(limits)]);
        Ok(())
    }

    /// Other limits are on disk: they hold from now on.
    pub(super) fn limited(&mut self, command: CommandId, limits: RateLimits) {
        self.set_limits(limits);
        self.tell(command, Answer::Limits(limits));
    }

    /// Other limits could not be kept: those before go on to hold.
    pub(super) fn not_limited(&mut self) {
        self.rates.wanted = self.rates.limits;
    }

    /// The settings say something else than before. Limits from there are not kept: they are told again at the next start.
    /// Where fewer downloads may receive, those that do go on.
    pub(super) fn tuned(&mut self, up: Option<u64>, down: Option<u64>, active_downloads_max: usize) {
        let RateLimits { up_limit, down_limit } = self.rates.limits;
        let limits = RateLimits { up_limit: up.unwrap_or(up_limit), down_limit: down.unwrap_or(down_limit) };
        if limits != self.rates.limits {
            self.set_limits(limits);
        }
        self.config.limits.active_downloads_max = active_downloads_max;
        self.start_downloads();
        self.give_places();
    }

    /// Makes limits hold.
    pub(super) fn set_limits(&mut self, limits: RateLimits) {
        let now = self.now.monotonic;
        let RateLimits { up_limit, down_limit } = limits;
        let told = self.rates.limits.up_limit != up_limit;
        self.rates.limits = limits;
        self.rates.wanted = limits;
        self.rates.down.set_rate(down_limit, now);
        self.outputs.push_back(Output::LimitUploads(up_limit));
        self.uploads.set_places(upload_places(up_limit));
        self.start_uploads();
        if told {
            self.tell_queue_all();
        }
        self.go_on_under_limit();
    }

    /// Whether a transfer may ask for another piece now; it is remembered where it may not.
    pub(super) fn may_fetch_now(&mut self, content: ContentId) -> bool {
        let wait = self.rates.down.wait(self.now.monotonic);
        if wait.is_zero() {
            return true;
        }
        self.rates.held_back.insert(content);
        let at = self.after(wait);
        self.timers.set(Timer::Limit, at);
        false
    }

    /// A piece of so many bytes is asked for.
    pub(super) fn count_fetch(&mut self, content: ContentId, bytes: u64) {
        self.rates.down.take(bytes, self.now.monotonic);
        self.rates.asked_last = Some(content);
    }

    /// Those that were held back may ask again, in turn.
    pub(super) fn go_on_under_limit(&mut self) {
        self.timers.clear(&Timer::Limit);
        let waiting = std::mem::take(&mut self.rates.held_back);
        let turn = self.rates.asked_last;
        let (before, behind): (Vec<ContentId>, Vec<ContentId>) =
            waiting.into_iter().partition(|content| Some(*content) <= turn);
        for content in behind.into_iter().chain(before) {
            self.schedule(content);
        }
    }

    /// Whether a transfer is held back by the limit of what comes in.
    pub(super) fn is_held_back(&self, content: ContentId) -> bool {
        self.rates.held_back.contains(&content)
    }
}

/// How many pieces are sent at once, as far as the limit goes.
fn upload_places(up_limit: u64) -> usize {
    match up_limit {
        0 => usize::MAX,
        _ => usize::try_from((up_limit / UPLOAD_BYTES_PER_SECOND).max(UPLOADS_MIN)).unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_proto::limit::RATE_LIMIT_BYTES_PER_SECOND_MIN;

    #[test]
    fn under_a_limit_few_pieces_are_sent_at_once_so_that_each_is_done_soon() {
        let places = [0, RATE_LIMIT_BYTES_PER_SECOND_MIN, 100_000, 1 << 20, u64::MAX].map(upload_places);
        assert_eq!((places[0], &places[1..4]), (usize::MAX, &[2, 2, 16][..]));
        assert!(places[4] > 1 << 20);
    }
}
