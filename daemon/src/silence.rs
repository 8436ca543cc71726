//! Silence: noticing that the other end of a connection is gone, well before QUIC's idle time-out would.

use std::time::Duration;

use quinn::Connection;

/// How often a connection is listened to.
pub const LISTEN_INTERVAL: Duration = Duration::from_millis(500);

/// Datagrams sent without one coming back that say that something was to be acknowledged: a bare acknowledgement of ours
/// calls for none, and is not repeated (RFC 9000, section 13.2.1).
const UNANSWERED_DATAGRAMS: u64 = 2;

/// What a connection was heard of last. Counts turns rather than time: while this process is stopped nothing can be heard.
#[derive(Debug, Default)]
pub struct Silence {
    received: u64,
    sent: u64,
    lasts: Duration,
}

impl Silence {
    /// How long the other end has been sent more than an acknowledgement without a single packet coming from it. To be asked
    /// once every [`LISTEN_INTERVAL`].
    pub fn lasts(&mut self, connection: &Connection) -> Duration {
        let stats = connection.stats();
        self.note(stats.udp_rx.datagrams, stats.udp_tx.datagrams)
    }

    fn note(&mut self, received: u64, sent: u64) -> Duration {
        if received != self.received {
            *self = Silence { received, sent, lasts: Duration::ZERO };
        } else if sent >= self.sent + UNANSWERED_DATAGRAMS {
            self.lasts += LISTEN_INTERVAL;
        }
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_answered_is_silence() {
        let mut silence = Silence::default();
        assert_eq!(silence.note(5, 5), Duration::ZERO);
        assert_eq!(silence.note(5, 5), Duration::ZERO, "nothing was said");
        assert_eq!(silence.note(5, 6), Duration::ZERO, "an acknowledgement calls for no answer");
        assert_eq!(silence.note(5, 7), LISTEN_INTERVAL);
        assert_eq!(silence.note(5, 7), 2 * LISTEN_INTERVAL);
        assert_eq!(silence.note(6, 9), Duration::ZERO, "it is there after all");
    }
}
