//! Taking the time, and what it cost both ends.

use std::time::{Duration, Instant};

use p2p_tests::{usage, wait};
use serde::Serialize;

/// What is still done behind the last byte belongs to the cost.
const SETTLING: Duration = Duration::from_millis(100);

/// One side of a transfer, all of its processes together.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Side {
    /// Processor time, user and system.
    pub processor_s: f64,
    /// The most memory that one of its processes occupied.
    pub peak_mib: f64,
}

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Run {
    /// From the command to its end.
    pub wall_s: f64,
    /// Who sends.
    pub seeders: Side,
    /// Who receives, commands that were waited for included.
    pub downloaders: Side,
    /// What the machine's processors did meanwhile that is neither side's; nothing where it is not known.
    pub others_processor_s: Option<f64>,
}

impl Run {
    /// Processor time of both sides.
    pub fn processor_s(&self) -> f64 {
        self.seeders.processor_s + self.downloaders.processor_s
    }
}

/// A run under way.
pub struct Meter {
    seeders: Vec<(u32, Duration)>,
    downloaders: Vec<(u32, Duration)>,
    children: Duration,
    machine: Option<Duration>,
    start: Instant,
}

impl Meter {
    /// Starts the clock for these processes.
    pub fn start(seeders: &[u32], downloaders: &[u32]) -> Meter {
        let costs = |processes: &[u32]| {
            processes
                .iter()
                .map(|&process| {
                    usage::forget_peak(process);
                    (process, usage::processor_time(process).unwrap_or_default())
                })
                .collect()
        };
        Meter {
            seeders: costs(seeders),
            downloaders: costs(downloaders),
            children: usage::waited_children_time().unwrap_or_default(),
            machine: usage::machine_time(),
            start: Instant::now(),
        }
    }

    /// Stops the clock, and looks at the processes a moment later.
    pub fn stop(self) -> Run {
        let wall = self.start.elapsed();
        wait::remain(SETTLING);
        let machine = usage::machine_time();
        let seeders = side(&self.seeders);
        let mut downloaders = side(&self.downloaders);
        let children = usage::waited_children_time().unwrap_or_default().saturating_sub(self.children);
        downloaders.processor_s += children.as_secs_f64();
        let busy = machine.zip(self.machine).map(|(now, before)| now.saturating_sub(before).as_secs_f64());
        let others = busy.map(|busy| (busy - seeders.processor_s - downloaders.processor_s).max(0.0));
        Run { wall_s: wall.as_secs_f64(), seeders, downloaders, others_processor_s: others }
    }
}

fn side(processes: &[(u32, Duration)]) -> Side {
    let mut side = Side::default();
    for (process, before) in processes {
        let spent = usage::processor_time(*process).unwrap_or_default().saturating_sub(*before);
        side.processor_s += spent.as_secs_f64();
        let peak = usage::peak_resident_bytes(*process).unwrap_or_default();
        side.peak_mib = side.peak_mib.max(peak as f64 / f64::from(1 << 20));
    }
    side
}
