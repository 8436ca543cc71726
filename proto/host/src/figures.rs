//! Figures by the conventions of Prometheus: registered once, counted where things happen, written out for whoever reads.

use p2p_proto::time::UnixMillis;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// All figures of a program.
///
/// A label's values are words of the program's own, never a name that somebody else has chosen: those would be private, and
/// without end.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    registry: Registry,
}

impl Figures {
    /// Those that every program has: which version it is, and since when it runs (`now`).
    pub fn new(program: &str, version: &str, now: UnixMillis) -> Figures {
        let figures = Figures::default();
        let opts = Opts::new(format!("{program}_build_info"), "Always 1; the label says which version runs.");
        let build = figures.with(IntGaugeVec::new(opts, &["version"]).expect(NAMES));
        build.with_label_values(&[version]).set(1);
        let started =
            figures.gauge("process_start_time_seconds", "When the program was started, since the Unix epoch.");
        started.set(gauge_value(now.0 / 1000));
        figures
    }

    /// What only grows, from 0 at each start; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.with(IntCounter::new(name, help).expect(NAMES))
    }

    /// The same, once for each word of a label, all of which are there from the start.
    pub fn counters(&self, name: &str, help: &str, label: &str, words: &[&str]) -> IntCounterVec {
        let counters = self.with(IntCounterVec::new(Opts::new(name, help), &[label]).expect(NAMES));
        words.iter().for_each(|word| drop(counters.with_label_values(&[word])));
        counters
    }

    /// What is so at a moment.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.with(IntGauge::new(name, help).expect(NAMES))
    }

    /// The same, once for each word of a label.
    pub fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.with(IntGaugeVec::new(Opts::new(name, help), &[label]).expect(NAMES))
    }

    /// All of them, as Prometheus reads them.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn with<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry.register(Box::new(collector.clone())).expect(NAMES);
        collector
    }
}

/// Why nothing is refused: names are constants of the program, and every test of it registers them all.
const NAMES: &str = "the program's own names are right, and given once";

/// `number` as a gauge has it.
pub fn gauge_value(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
