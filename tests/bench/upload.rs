//! Publishing a file: what `upload_file` takes, beside what hashing the same file with every processor takes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Args;
use p2p_proto::geometry::Geometry;
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::manifest::HashAlgorithm;
use p2p_tests::{Binaries, World, file};

use crate::figures::{Figures, Program};
use crate::limit::text;
use crate::meter::{Meter, Run};
use crate::settings::Hash;
use crate::{Common, Outcome, parse_size};

/// The command line.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Bytes of the file.
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// What pieces are hashed with.
    #[arg(long, value_enum, default_value_t = Hash::Blake3)]
    hash: Hash,
}

/// Measures both.
pub fn run(options: &Options) -> Outcome<()> {
    options.common.use_folder()?;
    let (Some(word), Some(hash)) = (options.hash.word(), options.hash.algorithm()) else {
        return Err("the programs always hash what they share".into());
    };
    let world = World::at([127, 0, 0, 1].into(), Binaries::build(std::process::Stdio::inherit())?)?;
    let mut user = world.user("seeder");
    user.run(&["create_group", "group", "--policy", "public"]);
    let original = world.path("file.bin");
    file::write_random(&original, options.size, fastrand::u64(..))?;
    let mut number = 0_u64;
    let mut programs: Vec<Program<'_>> = vec![
        ("hash alone".to_owned(), Box::new(|| hash_alone(&original, hash))),
        (
            "upload_file".to_owned(),
            Box::new(|| {
                // Another content each time: one that is known already is not hashed again.
                number += 1;
                File::options().write(true).open(&original)?.write_all_at(&number.to_le_bytes(), 0)?;
                let meter = Meter::start(&[user.process().id()], &[]);
                user.run(&["upload_file", text(&original)?, "group", "--force", "--hash", word]);
                Ok(meter.stop())
            }),
        ),
    ];
    let what = format!("{} MiB published, {word}", options.size >> 20);
    let figures = Figures::take(what, options.size, options.common.runs, &mut programs)?;
    figures.report(&options.common)
}

/// Hashes every piece of a file, a thread for each processor.
fn hash_alone(path: &Path, hash: HashAlgorithm) -> Outcome<Run> {
    let meter = Meter::start(&[std::process::id()], &[]);
    let file = File::open(path)?;
    let geometry = Geometry::new(file.metadata()?.len(), PIECE_BYTES_MIN)?;
    let next = AtomicU32::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> Outcome<()> {
        let (mut bytes, mut digest) = (vec![0; PIECE_BYTES_MIN as usize], Vec::new());
        while let Some(piece) = geometry.piece(next.fetch_add(1, Ordering::Relaxed)) {
            bytes.resize(geometry.piece_bytes(piece) as usize, 0);
            file.read_exact_at(&mut bytes, geometry.byte_range(piece).start)?;
            digest.clear();
            hash.digest_into(&bytes, &mut digest)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread failed")?)
    })?;
    Ok(meter.stop())
}
