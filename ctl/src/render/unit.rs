//! Numbers as people read them: sizes, rates, percentages, counts and spans of time.

use std::time::Duration;

use p2p_proto::time::UnixMillis;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Bytes, as `0 B`, `41.2 GiB` or `842 MiB`: three digits at the most where there is a fraction to cut.
pub fn size(bytes: u64) -> String {
    let unit = unit_of(bytes);
    format!("{} {}", in_unit(bytes, unit), UNITS[unit])
}

/// A part of a whole in the whole's unit, as `25.5/41.2 GiB`.
pub fn size_of(part: u64, whole: u64) -> String {
    let unit = unit_of(whole);
    format!("{}/{} {}", in_unit(part, unit), in_unit(whole, unit), UNITS[unit])
}

/// Bytes per second.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// The largest unit that `bytes` fill, after rounding: 1,048,575 bytes are `1.0 MiB`, not `1024 KiB`.
fn unit_of(bytes: u64) -> usize {
    (0..UNITS.len() - 1).find(|&unit| tenths(bytes, unit) < 10_235).unwrap_or(UNITS.len() - 1)
}

/// `bytes` in tenths of a unit, rounded.
fn tenths(bytes: u64, unit: usize) -> u128 {
    let unit_bytes = 1u128 << (10 * unit);
    (u128::from(bytes) * 10 + unit_bytes / 2) / unit_bytes
}

fn in_unit(bytes: u64, unit: usize) -> String {
    match (unit, tenths(bytes, unit)) {
        (0, _) => bytes.to_string(),
        (_, tenths @ 0..1000) => format!("{}.{}", tenths / 10, tenths % 10),
        (_, tenths) => ((tenths + 5) / 10).to_string(),
    }
}

/// How much of a whole is there, in tenths of a percent, rounded down so that only all of it is 100 %.
fn per_mille(part: u64, whole: u64) -> u128 {
    if whole == 0 { 1000 } else { u128::from(part.min(whole)) * 1000 / u128::from(whole) }
}

/// A part of a whole, as `62.0%`.
pub fn percent_fine(part: u64, whole: u64) -> String {
    let tenths = per_mille(part, whole);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A part of a whole, as `62%`.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{}%", per_mille(part, whole) / 10)
}

/// A count with its thousands apart, as `84,379`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun, as `1 piece` or `84,379 pieces`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A span as a clock shows it, as `0:19` or `1:02:03`.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{seconds:02}") } else { format!("{hours}:{minutes:02}:{seconds:02}") }
}

/// How long something took: like [`clock`], with a fraction where whole seconds would say nothing.
pub fn elapsed(milliseconds: u64) -> String {
    if milliseconds < 10_000 {
        format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
    } else {
        clock(milliseconds / 1000)
    }
}

/// The days, hours, minutes and seconds of a span that are not zero.
fn parts(span: Duration) -> impl Iterator<Item = String> {
    let seconds = span.as_secs();
    [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, letter)| format!("{number}{letter}"))
}

/// A span in its largest unit, as `2m`.
pub fn span(span: Duration) -> String {
    parts(span).next().unwrap_or_else(|| "0s".to_owned())
}

/// A span in its two largest units, as `3d 4h`.
pub fn span_fine(span: Duration) -> String {
    let text = parts(span).take(2).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// When something was, seen from `now`, as `2h ago`.
pub fn ago(then: UnixMillis, now: UnixMillis) -> String {
    format!("{} ago", span(now.since(then)))
}

/// A round trip, as `3 ms` or `0.4 ms`.
pub fn round_trip(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("0.{} ms", microseconds / 100),
        _ => format!("{} ms", (microseconds + 500) / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_binary_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (512 << 10, "512 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (842 << 20, "842 MiB"),
            (44_238_012_416, "41.2 GiB"),
            (1_319_413_953_331, "1.2 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(100 * (1 << 30) - 1), "100 GiB");
    }

    #[test]
    fn a_part_is_shown_in_the_unit_of_the_whole() {
        assert_eq!(size_of(27_380_416_512, 44_238_012_416), "25.5/41.2 GiB");
        assert_eq!(size_of(0, 4 << 30), "0.0/4.0 GiB");
        assert_eq!(size_of(0, 5), "0/5 B");
        assert_eq!(size_of(200 << 20, 842 << 20), "200/842 MiB");
    }

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        assert_eq!((percent_fine(999_999, 1_000_000), percent(999_999, 1_000_000)), ("99.9%".into(), "99%".into()));
        assert_eq!(
            (percent_fine(5, 5), percent_fine(0, 5), percent(0, 0)),
            ("100.0%".into(), "0.0%".into(), "100%".into())
        );
        assert_eq!(percent_fine(u64::MAX, u64::MAX), "100.0%");
    }

    #[test]
    fn counts_and_spans() {
        assert_eq!([0, 999, 1000, 84_379, 1_234_567].map(count), ["0", "999", "1,000", "84,379", "1,234,567"]);
        assert_eq!([counted(1, "piece"), counted(0, "piece")], ["1 piece", "0 pieces"]);
        assert_eq!([0, 19, 52, 3723].map(clock), ["0:00", "0:19", "0:52", "1:02:03"]);
        assert_eq!([0, 340, 9999, 52_000].map(elapsed), ["0.0 s", "0.3 s", "9.9 s", "0:52"]);
        let day = 86_400;
        assert_eq!(
            [0, 59, 125, 7200, 3 * day + 14_400].map(|s| span(Duration::from_secs(s))),
            ["0s", "59s", "2m", "2h", "3d"]
        );
        assert_eq!([0, 125, 3 * day + 14_400].map(|s| span_fine(Duration::from_secs(s))), ["0s", "2m 5s", "3d 4h"]);
        assert_eq!([400, 3_000, 3_600].map(round_trip), ["0.4 ms", "3 ms", "4 ms"]);
        assert_eq!(ago(UnixMillis(9000), UnixMillis(5000)), "0s ago", "a clock that is behind");
    }
}
