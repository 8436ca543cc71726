//! What a run came to, as a table.

use std::time::Duration;

use comfy_table::{Table, presets};

use super::Phase;
use super::faults::Inflicted;
use super::history::{Asked, Exchange, Outcome};
use super::load::{Answered, How, Told, Transfer};

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Changes that were acknowledged.
    pub acknowledged: usize,
    /// Changes that were refused for what was there already or not.
    pub refused: usize,
    /// Changes of which nobody knows.
    pub unknown: usize,
    /// Statements about one thing by a list that said to be current: each was held against the changes.
    pub looks: usize,
    /// What was done to the trackers.
    pub inflicted: Inflicted,
    /// How the transfer went on.
    pub transfer: Transfer,
    /// The digest that all trackers agree on.
    pub digest: String,
    answers: Vec<Answered>,
}

impl Report {
    pub(super) fn new(
        told: &[Told],
        history: &[Exchange],
        transfer: Transfer,
        inflicted: Inflicted,
        digest: String,
    ) -> Report {
        let changes = |wanted: Outcome| {
            let is = |asked: Asked| asked == Asked::Make(wanted) || asked == Asked::Take(wanted);
            history.iter().filter(|exchange| is(exchange.asked)).count()
        };
        Report {
            acknowledged: changes(Outcome::Done),
            refused: changes(Outcome::Refused),
            unknown: changes(Outcome::Unknown),
            looks: history.iter().filter(|exchange| matches!(exchange.asked, Asked::Look(_))).count(),
            inflicted,
            transfer,
            digest,
            answers: told.iter().flat_map(|told| told.answers.iter().copied()).collect(),
        }
    }

    /// The longest that anybody waited for an answer to a change (`true`) or a read, whatever happened, but for the restart of
    /// all trackers.
    pub fn longest_wait(&self, is_change: bool) -> Duration {
        let answers = self.answers.iter().filter(|it| it.is_change == is_change && it.phase != Phase::Restart);
        answers.map(|answered| answered.waited).max().unwrap_or_default()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { acknowledged, refused, unknown, looks, transfer, digest, .. } = self;
        let Inflicted { kills, leaders, partitions, restarts } = self.inflicted;
        writeln!(f, "{kills} kills ({leaders} of the leader), {partitions} partitions, {restarts} restarts of all")?;
        writeln!(f, "changes: {acknowledged} acknowledged, {refused} refused, {unknown} of which nobody knows")?;
        writeln!(f, "{looks} looks at one thing each, all explained by one order of the changes; digest {digest}")?;
        let pause = transfer.longest_pause.as_secs_f64();
        writeln!(f, "transfer: {} MiB, longest pause {pause:.1} s (it is told once a second)", transfer.bytes >> 20)?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["phase", "asked", "answers", "stale", "not", "p50 ms", "p90", "p99", "max"]);
        for phase in [Phase::Kills, Phase::Partitions, Phase::Restart] {
            for is_change in [false, true] {
                let of = self.answers.iter().filter(|it| it.phase == phase && it.is_change == is_change);
                let of: Vec<&Answered> = of.collect();
                let count = |how: How| of.iter().filter(|it| it.how == how).count().to_string();
                let mut waits: Vec<Duration> = of.iter().filter(|it| it.how != How::Not).map(|it| it.waited).collect();
                waits.sort_unstable();
                let part = |percent: usize| {
                    let place = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
                    waits.get(place).map_or("-".to_owned(), |wait| wait.as_millis().to_string())
                };
                let asked = if is_change { "changes" } else { "reads" };
                table.add_row([
                    format!("{phase:?}").to_lowercase(),
                    asked.to_owned(),
                    count(How::Known),
                    count(How::Stale),
                    count(How::Not),
                    part(50),
                    part(90),
                    part(99),
                    part(100),
                ]);
            }
        }
        write!(f, "{table}")
    }
}
