//! Golden bytes: one recorded encoding of every message, so that no change of a type changes a wire unnoticed.
//!
//! `golden/<message>.v<version>.hex` holds a line `name hex` for every variant. What stands there has been sent or
//! stored by some program: once a version of the protocol is released (CHANGELOG.md) its lines are never changed; until
//! then one is replaced on purpose only, by hand, and the commit says why. A new variant is a new line, which the failing test prints; a new
//! message is a new file, written by `P2P_GOLDEN=record cargo test -p p2p-proto golden`, which leaves existing files
//! alone. A change that cannot keep the old lines is a new version of the protocol, with files of its own.

mod content;
mod control;
mod fuzz;
mod peer;
mod tracker;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::grant::Grant;
use crate::id::{ContentId, NodeId};
use crate::time::UnixMillis;

/// An enum whose every variant has a name here: one without does not compile.
trait Variants: Sized {
    const NAMES: &'static [&'static str];
    fn variant(&self) -> &'static str;
}

/// Names every variant of an enum, in an exhaustive `match`.
macro_rules! variants {
    ($type:ty: $($variant:ident)*) => {
        impl crate::golden::Variants for $type {
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),*];
            fn variant(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($variant)),* }
            }
        }
    };
}
use variants;

/// One kind of message: its samples' bytes, and how bytes of it are read.
struct Table {
    file: String,
    lines: Vec<(String, Vec<u8>)>,
    /// What bytes say, encoded again; `None` if they are refused.
    decode: fn(&[u8]) -> Option<Vec<u8>>,
}

impl Table {
    /// The samples of a struct, each with a name.
    fn of<T>(message: &str, version: u16, samples: Vec<(&str, T)>) -> Table
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let encoded = |(name, sample): (&str, T)| {
            let bytes = codec::encode(&sample);
            assert_eq!(codec::decode::<T>(&bytes).as_ref(), Ok(&sample), "{message}: {name} does not read back");
            (name.to_owned(), bytes)
        };
        let lines = samples.into_iter().map(encoded).collect();
        let decode = |bytes: &[u8]| codec::decode::<T>(bytes).ok().map(|message| codec::encode(&message));
        Table { file: file_name(message, version), lines, decode }
    }

    /// The samples of an enum: at least one of every variant, named by it; a second one has a name of its own.
    fn of_enum<T>(message: &str, version: u16, samples: Vec<(&str, T)>) -> Table
    where
        T: Variants + Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let sampled: BTreeSet<_> = samples.iter().map(|(_, sample)| sample.variant()).collect();
        for name in T::NAMES {
            assert!(sampled.contains(name), "{message}::{name} has no sample: add one beside the others");
        }
        let names: Vec<String> = samples
            .iter()
            .map(|(name, sample)| match *name {
                "" => sample.variant().to_owned(),
                name => format!("{}.{name}", sample.variant()),
            })
            .collect();
        let samples = names.iter().map(String::as_str).zip(samples.into_iter().map(|(_, sample)| sample)).collect();
        Table::of(message, version, samples)
    }

    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(&self.file)
    }

    fn text(&self) -> String {
        self.lines.iter().map(|(name, bytes)| format!("{name} {}\n", hex::encode(bytes))).collect()
    }

    /// What is wrong with the recorded file, a sentence each.
    fn faults(&self) -> Vec<String> {
        let Ok(text) = fs::read_to_string(self.path()) else {
            return vec![format!(
                "{} is not there: record it with `P2P_GOLDEN=record cargo test -p p2p-proto golden`",
                self.file
            )];
        };
        let recorded: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
        let mut faults = Vec::new();
        for (name, bytes) in &self.lines {
            let now = hex::encode(bytes);
            match recorded.iter().find(|(recorded, _)| recorded == name) {
                None => faults.push(format!("{}: {name} is not recorded: add the line\n{name} {now}", self.file)),
                Some((_, then)) if *then != now => faults.push(format!(
                    "{}: {name} is encoded otherwise than it was recorded: that breaks the wire\n\
                     recorded {then}\nnow      {now}",
                    self.file
                )),
                Some(_) => {}
            }
        }
        let names: BTreeSet<_> = self.lines.iter().map(|(name, _)| name.as_str()).collect();
        for (name, _) in recorded.iter().filter(|(name, _)| !names.contains(name)) {
            faults.push(format!("{}: {name} is recorded and has no sample any more", self.file));
        }
        if names.len() != self.lines.len() || recorded.len() > names.len() {
            faults.push(format!("{}: a name stands twice", self.file));
        }
        faults
    }
}

fn file_name(message: &str, version: u16) -> String {
    format!("{message}.v{version}.hex")
}

/// Every message of every wire.
fn tables() -> Vec<Table> {
    [content::tables(), control::tables(), peer::tables(), tracker::tables()].into_iter().flatten().collect()
}

fn node(byte: u8) -> NodeId {
    NodeId([byte; 32])
}

fn content(byte: u8) -> ContentId {
    ContentId([byte; 32])
}

/// A user's, group's or file's name.
fn name<T: std::str::FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a good name")
}

const TIME: UnixMillis = UnixMillis(1_795_217_000_123);

/// When the group in the samples was born.
const BORN: UnixMillis = UnixMillis(1_795_000_000_000);

fn grant() -> Grant {
    Grant { body: vec![1, 2, 3], signature: vec![4; 64] }
}

#[test]
fn every_message_is_encoded_as_it_was_recorded() {
    let record = std::env::var_os("P2P_GOLDEN").is_some_and(|value| value == "record");
    let mut faults = Vec::new();
    for table in tables() {
        if record && !table.path().exists() {
            fs::write(table.path(), table.text()).expect("the source tree is writable");
        }
        faults.extend(table.faults());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_recorded_file_belongs_to_a_message() {
    let known: BTreeSet<PathBuf> = tables().iter().map(Table::path).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden");
    for entry in fs::read_dir(folder).expect("the folder of recordings") {
        let path = entry.expect("reads").path();
        let is_recording = path.extension().is_some_and(|extension| extension == "hex");
        assert!(!is_recording || known.contains(&path), "{} belongs to no message", path.display());
    }
}
