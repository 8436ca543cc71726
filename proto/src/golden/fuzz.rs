//! Bytes from outside are a message or refused: random ones, recorded ones with a bit flipped or cut short.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Table, tables};

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(tables);

/// What is read from `bytes` as each message: `Ok` or `Err`, and what is read can be written and read again.
fn decode_as_every_message(bytes: &[u8]) {
    for table in TABLES.iter() {
        if let Some(again) = (table.decode)(bytes) {
            assert_eq!((table.decode)(&again).as_ref(), Some(&again), "{}: {}", table.file, hex::encode(bytes));
        }
    }
}

#[test]
fn every_sample_reads_back() {
    for table in TABLES.iter() {
        for (name, bytes) in &table.lines {
            assert_eq!((table.decode)(bytes).as_ref(), Some(bytes), "{}: {name}", table.file);
        }
    }
}

#[test]
fn a_message_that_is_cut_or_followed_by_a_byte_is_refused() {
    for table in TABLES.iter() {
        for (name, bytes) in &table.lines {
            for end in 0..bytes.len() {
                assert_eq!((table.decode)(&bytes[..end]), None, "{}: {name} cut at {end}", table.file);
            }
            if table.file != "frame.v1.hex" {
                assert_eq!((table.decode)(&[bytes, &[0][..]].concat()), None, "{}: {name} and a byte", table.file);
            }
        }
    }
}

#[test]
fn every_flipped_bit_gives_a_message_or_a_refusal() {
    for table in TABLES.iter() {
        for (_, bytes) in &table.lines {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Some(again) = (table.decode)(&flipped) {
                    assert!((table.decode)(&again).is_some(), "{}: {}", table.file, hex::encode(flipped));
                }
            }
        }
    }
}

/// Every place where a length may stand says the largest there is. An allocation of that size ends the process; what
/// is smaller and still too much shows in the peak of the address space.
#[test]
fn a_claimed_length_costs_no_memory() {
    let before = peak_address_space_kib();
    for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]] {
        for table in TABLES.iter() {
            for (_, bytes) in &table.lines {
                for start in 0..bytes.len() {
                    // Only whether it panics or grows: a byte that is no length gives anything.
                    let _ = (table.decode)(&[&bytes[..start], claim, &bytes[start..]].concat());
                    let _ = (table.decode)(&[&bytes[..start], claim].concat());
                }
            }
        }
    }
    if let (Some(before), Some(after)) = (before, peak_address_space_kib()) {
        assert!(after.saturating_sub(before) < 2 * 1024 * 1024, "grew from {before} KiB to {after} KiB");
    }
}

/// `None` where the system does not tell.
fn peak_address_space_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

proptest! {
    #[test]
    fn random_bytes_give_a_message_or_a_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_as_every_message(&bytes);
    }

    #[test]
    fn small_numbers_give_a_message_or_a_refusal(bytes in proptest::collection::vec(0u8..40, 0..64)) {
        decode_as_every_message(&bytes);
    }
}
