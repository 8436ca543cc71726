//! Limits of rates for people.

use p2p_proto::control::RateLimits;

use super::unit;

/// The limits, a line each.
pub fn limits(limits: &RateLimits) -> Vec<String> {
    vec![format!("Up        {}", limit(limits.up_limit)), format!("Down      {}", limit(limits.down_limit))]
}

fn limit(bytes_per_second: u64) -> String {
    match bytes_per_second {
        0 => "no limit".to_owned(),
        _ => unit::rate(bytes_per_second),
    }
}

/// What stands behind a rate that is limited: ` of 10.0 MiB/s`.
pub fn of_limit(bytes_per_second: u64) -> String {
    match bytes_per_second {
        0 => String::new(),
        _ => format!(" of {}", unit::rate(bytes_per_second)),
    }
}
