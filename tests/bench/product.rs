//! The real programs: a tracker, daemons that share a file, and each run daemons that have never had it.

use std::path::PathBuf;

use p2p_tests::{Binaries, Daemon, World, file};

use crate::Outcome;
use crate::limit::{check, text};
use crate::meter::{Meter, Run};
use crate::transfer::Places;

/// The file's name.
const NAME: &str = "file.bin";

/// The group that everybody is in.
const GROUP: &str = "group";

/// A world in which a file is shared.
pub struct Product<'a> {
    seeders: Vec<Daemon>,
    places: &'a Places,
    original: PathBuf,
    next: u32,
    /// Last, so that the daemons end before their folder does.
    world: World,
}

impl<'a> Product<'a> {
    /// Starts the tracker and the seeders, and shares a file of so many bytes.
    pub fn start(places: &'a Places, bytes: u64, hash: &str) -> Outcome<Product<'a>> {
        let binaries = Binaries::build(std::process::Stdio::inherit())?;
        let world = match &places.tracker {
            Some(node) => World::on(node, binaries)?,
            None => World::at([127, 0, 0, 1].into(), binaries)?,
        };
        let original = world.path(NAME);
        file::write_random(&original, bytes, fastrand::u64(..))?;
        let mut product = Product { seeders: Vec::new(), places, original, next: 0, world };
        for number in 0..places.seeders.len() {
            let seeder = product.user(&places.seeders[number], &format!("seeder{number}"));
            if number == 0 {
                seeder.run(&["create_group", GROUP, "--policy", "public"]);
                seeder.run(&["upload_file", text(&product.original)?, GROUP, "--hash", hash]);
            } else {
                seeder.run(&["download_file", GROUP, NAME, text(&product.world.path(&format!("seed {number}")))?]);
            }
            product.seeders.push(seeder);
        }
        Ok(product)
    }

    /// The shared file.
    pub fn original(&self) -> PathBuf {
        self.original.clone()
    }

    /// Where there is room for copies of it.
    pub fn folder(&self) -> PathBuf {
        self.world.folder().to_owned()
    }

    fn user(&self, node: &Option<p2p_tests::namespace::Node>, name: &str) -> Daemon {
        match node {
            Some(node) => self.world.user_on(node, name),
            None => self.world.user(name),
        }
    }

    /// One run: every downloader is given the command at once, the clock stops when the last is done.
    pub fn run(&mut self) -> Outcome<Run> {
        self.next += 1;
        let name = |number: usize| format!("downloader{}-{number}", self.next);
        let nodes = self.places.downloaders.iter().enumerate();
        let mut downloaders: Vec<Daemon> = nodes.map(|(number, node)| self.user(node, &name(number))).collect();
        let copies: Vec<PathBuf> =
            (0..downloaders.len()).map(|number| self.world.path(&format!("copy {number}"))).collect();
        let words: Vec<&str> = copies.iter().map(|copy| text(copy)).collect::<Outcome<_>>()?;
        let seeders: Vec<u32> = self.seeders.iter_mut().map(|seeder| seeder.process().id()).collect();
        let processes: Vec<u32> = downloaders.iter_mut().map(|daemon| daemon.process().id()).collect();
        let meter = Meter::start(&seeders, &processes);
        std::thread::scope(|scope| {
            for (downloader, copy) in downloaders.iter().zip(&words) {
                scope.spawn(move || downloader.run(&["download_file", GROUP, NAME, copy]));
            }
        });
        let run = meter.stop();
        drop(downloaders);
        check(&self.original, &copies)?;
        Ok(run)
    }
}
