//! What people do in a simulated world: log in, share a file, download it.

use std::time::Duration;

use p2p_proto::control::{Answer, DownloadPrefix, DownloadState, LocalPath, Password, Request};
use p2p_proto::id::ContentId;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::FileSelector;
use p2p_proto::tracker::JoinPolicy;

use super::{Link, World};

/// No scenario takes longer than this, in virtual time.
pub const DEADLINE: Duration = Duration::from_secs(6 * 3600);

impl World {
    /// A world of nodes with equal links, each with its user, all members of one group. Prints the seed.
    pub fn of_members(seed: u64, count: usize, link: Link) -> World {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for place in 0..count {
            world.add_member(link, &format!("user{place}"));
        }
        world
    }

    /// A new node, with a user who is a member of the group; its place.
    pub fn add_member(&mut self, link: Link, user: &str) -> usize {
        let place = self.add_node(link);
        self.log_in(place, user);
        let group = "g".parse().expect("a good name");
        self.ask(place, Request::CreateGroup { group, policy: JoinPolicy::Open }).expect("is a member");
        place
    }

    /// A node's user logs in.
    pub fn log_in(&mut self, place: usize, user: &str) {
        let user = user.parse().expect("a good name");
        self.ask(place, Request::Login { user, password: Password::new("secret".to_owned()) }).expect("logs in");
    }

    /// A node shares a new file of so many bytes under a name; its content.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn upload(&mut self, place: usize, length: u64, name: &str) -> ContentId {
        let path = self.make_file(place, length);
        let request = Request::UploadFile {
            path: LocalPath(path),
            group: "g".parse().expect("a good name"),
            name: name.parse().expect("a good name"),
            hash: HashAlgorithm::Blake3,
            whole_digest: false,
            force: false,
            wait_copies: 0,
            follow_links: false,
        };
        match self.ask(place, request) {
            Ok(Answer::Uploaded(uploaded)) => uploaded.content,
            other => panic!("not uploaded: {other:?}"),
        }
    }

    /// A node begins to download a file; the download's id.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn start_download(&mut self, place: usize, name: &str) -> DownloadPrefix {
        self.try_start_download(place, name).expect("it is started")
    }

    /// The same, where it may be refused.
    pub fn try_start_download(&mut self, place: usize, name: &str) -> Option<DownloadPrefix> {
        match self.ask(place, download_request(true, name)) {
            Ok(Answer::DownloadStarted(download)) => download.id.to_string().try_into().ok(),
            _ => None,
        }
    }

    /// State of a node's first download, and why it waits.
    ///
    /// # Panics
    /// Where it has none.
    pub fn download_state(&mut self, place: usize) -> (DownloadState, Option<String>) {
        match self.ask(place, Request::ShowDownloads) {
            Ok(Answer::Downloads(list)) => (list.downloads[0].state, list.downloads[0].reason.clone()),
            other => panic!("no list: {other:?}"),
        }
    }

    /// Runs until every one of these nodes holds the content.
    ///
    /// # Panics
    /// Where they do not within [`DEADLINE`].
    pub fn complete_all(&mut self, places: std::ops::Range<usize>, content: ContentId) {
        let deadline = self.now + DEADLINE;
        let mut seen = usize::MAX;
        let done = self.run_until(deadline, |world| {
            // Whether all are complete changes only when one more is.
            let changed = std::mem::replace(&mut seen, world.completed.len()) != world.completed.len();
            changed && places.clone().all(|place| world.holds(place, content))
        });
        let missing: Vec<_> = places.filter(|place| !self.holds(*place, content)).collect();
        let states: Vec<_> = missing.iter().map(|place| (*place, self.download_state(*place))).collect();
        assert!(done, "not done: {states:?}");
    }
}

/// A request to download a file of the group.
pub fn download_request(detach: bool, name: &str) -> Request {
    Request::DownloadFile {
        group: "g".parse().expect("a good name"),
        file: FileSelector { owner: None, name: name.parse().expect("a good name") },
        destination: LocalPath("/downloads".into()),
        force: false,
        detach,
        only: Vec::new(),
    }
}
