//! What a process has cost, as the system counts it: processor time and memory. `None` where the system does not tell.

use std::time::Duration;

/// Clock ticks in a second, as Linux counts processor time.
const TICKS_PER_SECOND: u32 = 100;

/// Time that a process has had on processors so far.
pub fn processor_time(process: u32) -> Option<Duration> {
    let [user, system, _, _] = stat_ticks(&process.to_string())?;
    Some(ticks(user + system))
}

/// Time that those children of this process have had that ended and were waited for.
pub fn waited_children_time() -> Option<Duration> {
    let [_, _, user, system] = stat_ticks("self")?;
    Some(ticks(user + system))
}

/// Time that the machine's processors were busy since it started, whoever kept them so.
pub fn machine_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    let [user, nice, system, _, _, irq, softirq, ..] = fields[..] else { return None };
    Some(ticks(user + nice + system + irq + softirq))
}

/// Bytes of memory that a process occupies now.
pub fn resident_bytes(process: u32) -> Option<u64> {
    memory_bytes(process, "VmRSS:")
}

/// The most bytes of memory that a process has occupied since it started, or since [`forget_peak`].
pub fn peak_resident_bytes(process: u32) -> Option<u64> {
    memory_bytes(process, "VmHWM:")
}

/// From now on a process's peak is what it occupies from now on.
pub fn forget_peak(process: u32) {
    // Where the system cannot, the peak is that of the whole life: too high, never too low.
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// A process's time as user and in the system, and that of its children.
fn stat_ticks(process: &str) -> Option<[u64; 4]> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: the fields from the third on.
    let fields: Vec<_> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some([field(14)?, field(15)?, field(16)?, field(17)?])
}

fn memory_bytes(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / TICKS_PER_SECOND
}
