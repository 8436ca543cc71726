//! The bare transfer seen from outside: its two ends started, timed, and what came compared with what was sent.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use p2p_tests::file;
use p2p_tests::namespace::Node;

use crate::Outcome;
use crate::end::End;
use crate::meter::{Meter, Run};
use crate::settings::Settings;

/// A server that has a file.
pub struct Limit<'a> {
    settings: String,
    original: PathBuf,
    copies: PathBuf,
    server: End,
    address: String,
    node_id: String,
    downloaders: Vec<Option<&'a Node>>,
}

impl<'a> Limit<'a> {
    /// Starts the server; copies of `original` will lie in `folder`, one for each of the `downloaders`.
    pub fn start(
        settings: &Settings,
        original: &Path,
        folder: &Path,
        seeder: Option<&'a Node>,
        downloaders: Vec<Option<&'a Node>>,
    ) -> Outcome<Limit<'a>> {
        let settings = serde_json::to_string(settings)?;
        let listen = seeder.map_or(IpAddr::from([127, 0, 0, 1]), Node::address);
        let words =
            ["serve-limit", "--listen", &listen.to_string(), "--settings", &settings, "--file", text(original)?];
        let mut server = End::start(&words.map(str::to_owned), seeder)?;
        let [_, address, node_id] = &server.expect("ready")?[..] else { return Err("not a ready line".into()) };
        let (address, node_id) = (address.clone(), node_id.clone());
        Ok(Limit {
            settings,
            original: original.to_owned(),
            copies: folder.to_owned(),
            server,
            address,
            node_id,
            downloaders,
        })
    }

    /// One run: every downloader gets the file, all at once.
    pub fn run(&mut self) -> Outcome<Run> {
        let mut copies = Vec::new();
        let mut clients = Vec::new();
        for (number, node) in self.downloaders.iter().enumerate() {
            let copy = self.copies.join(format!("limit's copy {number}"));
            let words = ["fetch-limit", "--server", &self.address, "--node-id", &self.node_id];
            let more = ["--settings", &self.settings, "--destination", text(&copy)?];
            let words: Vec<String> = words.iter().chain(&more).map(|&word| word.to_owned()).collect();
            let mut client = End::start(&words, *node)?;
            client.expect("ready")?;
            copies.push(copy);
            clients.push(client);
        }
        let processes: Vec<u32> = clients.iter().map(End::id).collect();
        let meter = Meter::start(&[self.server.id()], &processes);
        clients.iter_mut().try_for_each(End::go)?;
        for client in &mut clients {
            client.expect("done")?;
        }
        let run = meter.stop();
        drop(clients);
        check(&self.original, &copies)?;
        Ok(run)
    }
}

/// That every copy is what was sent; then they are deleted.
pub fn check(original: &Path, copies: &[PathBuf]) -> Outcome<()> {
    for copy in copies {
        if !file::equal(original, copy).map_err(|error| format!("{}: {error}", copy.display()))? {
            return Err(format!("{} differs from what was sent", copy.display()).into());
        }
        std::fs::remove_file(copy)?;
    }
    Ok(())
}

/// A path as a word of a command.
pub fn text(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()).into())
}
