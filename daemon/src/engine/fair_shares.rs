//! Fair shares: a user who reads with many nodes gets no more of the link than one who reads with fewer.
//!
//! Every connection takes its part of a link, and no order of sending changes that: ten connections get ten parts. So
//! pieces for a user with more nodes than others are begun more slowly, a step at a time, down to what each of the others
//! gets. Nobody knows how fast the link is, nor whether the others could take more. While all together is sent as fast as
//! before, they do; where it is not, it is their own links that are slow, and for a while nobody is held back.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::name::UserName;

use super::token_bucket::TokenBucket;

/// Who got how much is judged after so many pieces and so long: some are half sent at either end, which must not look
/// like a difference.
const JUDGED_PIECES: u32 = 64;
const JUDGED_MS: u64 = 2_000;

/// How much slower all together may become, as a share of what it was, before nobody is held back.
const LOST_SHARE_MAX: u64 = 10;

/// Of what a user gets, this share at the most is taken away at once: enough to be seen if nobody takes it up.
const STEP_SHARE: u64 = 4;

/// A user is held back from this share above the others on: less is chance.
const EXCESS_SHARE_MIN: u64 = 16;

/// How long nobody is held back when it was of no use, doubled each time up to about eight minutes: every trial costs
/// what is taken away in it.
const REST_MS: u64 = 8_000;
const REST_DOUBLINGS_MAX: u32 = 6;

/// After so many judgements in which it was of use, earlier ones in which it was not are forgotten.
const USEFUL_TIMES: u32 = 8;

/// What users get, and who of them is held back.
#[derive(Debug, Default)]
pub(super) struct FairShares {
    /// Nodes of each user who reads.
    nodes: BTreeMap<UserName, usize>,
    /// Since the last judgement.
    span: Span,
    /// Users that are held back, each to a rate.
    held: BTreeMap<UserName, TokenBucket>,
    /// Bytes per second to all together when nobody was held back.
    full_rate: u64,
    /// Judgements in a row in which holding back was of use, and before them those in which it was not.
    useful_times: u32,
    useless_times: u32,
    /// Nobody is held back before this moment.
    not_before: Duration,
}

/// What was sent in a span of time.
#[derive(Debug, Default)]
struct Span {
    since: Duration,
    pieces: u32,
    bytes: BTreeMap<UserName, u64>,
}

impl FairShares {
    /// Says how many nodes each user reads with.
    pub fn set_readers(&mut self, nodes: BTreeMap<UserName, usize>) {
        self.nodes = nodes;
        let fewest = self.nodes.values().min().copied().unwrap_or(0);
        self.held.retain(|user, _| self.nodes.get(user).is_some_and(|nodes| *nodes > fewest));
    }

    /// Nothing was being sent until `now`: what was measured before says nothing.
    pub fn go_on(&mut self, now: Duration) {
        self.span = Span { since: now, ..Span::default() };
    }

    /// How long no piece may be begun for a user; 0 where one may.
    pub fn wait(&self, user: &UserName, now: Duration) -> Duration {
        self.held.get(user).map_or(Duration::ZERO, |bucket| bucket.wait(now))
    }

    /// A piece is begun for a user.
    pub fn begun(&mut self, user: &UserName, bytes: u64, now: Duration) {
        if let Some(bucket) = self.held.get_mut(user) {
            bucket.take(bytes, now);
        }
    }

    /// A piece of so many bytes is over, of which so many were sent.
    pub fn ended(&mut self, user: &UserName, bytes: u64, sent_bytes: u64, now: Duration) {
        if let Some(bucket) = self.held.get_mut(user) {
            bucket.give_back(bytes.saturating_sub(sent_bytes));
        }
        self.span.pieces += 1;
        let sum = self.span.bytes.entry(user.clone()).or_default();
        *sum = sum.saturating_add(sent_bytes);
        let span = now.saturating_sub(self.span.since);
        if self.span.pieces >= JUDGED_PIECES && span >= Duration::from_millis(JUDGED_MS) {
            self.judge(span, now);
        }
    }

    /// Whether holding back was of use, and who is to be held back from now on.
    fn judge(&mut self, span: Duration, now: Duration) {
        let bytes = std::mem::take(&mut self.span).bytes;
        self.go_on(now);
        let rates: BTreeMap<UserName, u64> =
            bytes.into_iter().map(|(user, bytes)| (user, per_second(bytes, span))).collect();
        let full_rate: u64 = rates.values().sum();
        if self.held.is_empty() {
            self.full_rate = full_rate;
        } else if full_rate < self.full_rate - self.full_rate / LOST_SHARE_MAX {
            self.held.clear();
            self.not_before = now + Duration::from_millis(REST_MS << self.useless_times.min(REST_DOUBLINGS_MAX));
            (self.useful_times, self.useless_times) = (0, self.useless_times.saturating_add(1));
        } else {
            // Half the way, as what is only chance must not become what is expected.
            self.full_rate = self.full_rate.max((self.full_rate + full_rate) / 2);
            self.useful_times += 1;
            if self.useful_times >= USEFUL_TIMES {
                self.useless_times = 0;
            }
        }
        if now >= self.not_before {
            self.hold_back(&rates, now);
        }
    }

    /// Holds back who gets more than each of those with fewer nodes does or could.
    fn hold_back(&mut self, rates: &BTreeMap<UserName, u64>, now: Duration) {
        self.held.retain(|user, _| rates.contains_key(user));
        for (user, rate) in rates {
            let nodes = self.nodes_of(user);
            let others = rates.iter().filter(|(other, _)| self.nodes_of(other) < nodes).map(|(_, rate)| *rate);
            let (count, sum, most) = others
                .fold((0, 0, 0), |(count, sum, most): (u64, u64, u64), rate| (count + 1, sum + rate, most.max(rate)));
            if count == 0 {
                self.held.remove(user);
                continue;
            }
            // If they share alike; and as much as the one who gets most, where others cannot take so much.
            let fair = ((sum + rate) / (count + 1)).max(most);
            if self.held.contains_key(user) || *rate > fair + fair / EXCESS_SHARE_MIN {
                let allowed = fair.max(rate - rate / STEP_SHARE).max(1);
                self.held.entry(user.clone()).or_default().set_rate(allowed, now);
            }
        }
    }

    fn nodes_of(&self, user: &UserName) -> usize {
        self.nodes.get(user).copied().unwrap_or(1)
    }
}

fn per_second(bytes: u64, span: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / span.as_millis().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 512 * 1024;

    /// A user of a simulated link: how many nodes they read with, and the most that these can take.
    struct Reader {
        nodes: u32,
        rate_max: f64,
    }

    /// Bytes per second that users got from a link, over the last minute of three. It is shared by nodes, as networks do.
    fn rates(link_rate: f64, readers: &[Reader]) -> Vec<f64> {
        let user = |number: usize| -> UserName { format!("user{number}").parse().expect("a good name") };
        let users: Vec<UserName> = (0..readers.len()).map(user).collect();
        let mut shares = FairShares::default();
        shares.set_readers(users.iter().cloned().zip(readers.iter().map(|reader| reader.nodes as usize)).collect());
        let (step, minute) = (Duration::from_millis(5), Duration::from_secs(60));
        let mut now = Duration::ZERO;
        let (mut sent, mut got) = (vec![0.0; readers.len()], vec![0; readers.len()]);
        while now < 3 * minute {
            now += step;
            let mut left = link_rate;
            let mut taking: Vec<usize> =
                (0..readers.len()).filter(|at| shares.wait(&users[*at], now).is_zero()).collect();
            // Those with the slowest nodes first: what they leave is for the others.
            let node_max = |at: &usize| readers[*at].rate_max / f64::from(readers[*at].nodes);
            taking.sort_by(|one, other| node_max(one).total_cmp(&node_max(other)));
            let mut nodes: u32 = taking.iter().map(|at| readers[*at].nodes).sum();
            for at in taking {
                let Reader { nodes: own, rate_max } = readers[at];
                let rate = (left * f64::from(own) / f64::from(nodes)).min(rate_max);
                (left, nodes) = (left - rate, nodes - own);
                sent[at] += rate * step.as_secs_f64();
                while sent[at] >= PIECE as f64 {
                    sent[at] -= PIECE as f64;
                    got[at] += if now > 2 * minute { PIECE } else { 0 };
                    shares.begun(&users[at], PIECE, now);
                    shares.ended(&users[at], PIECE, PIECE, now);
                }
            }
        }
        got.into_iter().map(|bytes| bytes as f64 / minute.as_secs_f64()).collect()
    }

    fn reader(nodes: u32) -> Reader {
        Reader { nodes, rate_max: f64::MAX }
    }

    const LINK: f64 = 12_500_000.0;

    #[test]
    fn ten_nodes_get_no_more_than_one() {
        for nodes in [&[10, 1][..], &[10, 1, 1, 1], &[10, 3, 1], &[40, 20, 1, 1, 1, 1]] {
            let rates = rates(LINK, &nodes.iter().map(|nodes| reader(*nodes)).collect::<Vec<_>>());
            let fair = LINK / nodes.len() as f64;
            assert!(rates.iter().all(|rate| (0.9 * fair..1.1 * fair).contains(rate)), "{nodes:?}: {rates:.0?}");
        }
    }

    #[test]
    fn who_cannot_take_more_holds_nobody_back() {
        for slow in [0.02, 0.1, 0.3] {
            let rates = rates(LINK, &[reader(10), Reader { nodes: 1, rate_max: slow * LINK }]);
            assert!(rates.iter().sum::<f64>() > 0.9 * LINK, "{slow}: {rates:.0?}");
        }
    }

    #[test]
    fn beside_one_who_cannot_take_more_the_others_share_alike() {
        let slow = Reader { nodes: 1, rate_max: 0.05 * LINK };
        let rates = rates(LINK, &[reader(10), reader(1), slow]);
        assert!(rates[0] / rates[1] < 1.1 && rates.iter().sum::<f64>() > 0.95 * LINK, "{rates:.0?}");
    }

    #[test]
    fn users_with_as_many_nodes_each_are_not_held_back() {
        let mut shares = FairShares::default();
        let users: Vec<UserName> = ["a", "b"].map(|name| name.parse().expect("a good name")).into();
        shares.set_readers(users.iter().cloned().map(|user| (user, 3)).collect());
        for ms in (0..60_000).step_by(10) {
            let (now, at) = (Duration::from_millis(ms), usize::from(ms % 100 == 0));
            assert_eq!(shares.wait(&users[at], now), Duration::ZERO);
            shares.begun(&users[at], PIECE, now);
            shares.ended(&users[at], PIECE, PIECE, now);
        }
    }
}
