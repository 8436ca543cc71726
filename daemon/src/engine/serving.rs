//! Serving: who may read what from here, and the pieces they ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use p2p_proto::geometry::{Geometry, PieceIndex};
use p2p_proto::grant::{Grant, GrantBody};
use p2p_proto::have_map::{HaveMap, WireHaveMap};
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::limit::HAVE_PIECES_MAX;
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::peer::{FromProvider, Interest, Load, PieceRequest};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;

use super::access::{grant_over, grant_refused};
use super::input::{ConnectionId, ServedId, UploadId};
use super::uploads::Upload;
use super::{Engine, Output, Timer};

/// Bytes of the longest digest, and of a manifest without its digests.
const DIGEST_BYTES_MAX: u64 = 32;
const MANIFEST_HEADER_BYTES_MAX: u64 = 1024;

/// A peer that may read one content of one group from here.
#[derive(Debug)]
pub(super) struct Served {
    pub connection: ConnectionId,
    pub node: NodeId,
    pub user: UserName,
    pub group: GroupName,
    /// When the group was born: nothing of another one of that name is served.
    born: UnixMillis,
    pub content: ContentId,
    /// When its grant ends, by the tracker's clock.
    pub expires: UnixMillis,
    /// When its grant was issued, as revocations count.
    pub epoch: u64,
    /// Whether it has been told what is here.
    told: bool,
    /// How busy it was told that this node is.
    pub told_load: Option<Load>,
}

impl Engine {
    /// A peer wants to read a content: it may if its grant holds and the content is here in that group.
    pub(super) fn serve_interest(&mut self, served: ServedId, connection: ConnectionId, interest: Interest) {
        let admitted = self.admit(connection, &interest);
        match admitted.and_then(|admitted| self.make_room(&admitted.user).map(|()| admitted)) {
            Ok(admitted) => {
                let (content, node) = (admitted.content, admitted.node);
                self.outputs.push_back(Output::Admitted(served, admitted.user.clone()));
                // One at a time: the older one's end may be on its way still.
                if let Some(older) = self.served_by.get(&(connection, content)) {
                    let reject = Reject::new(ErrorCode::BUSY, "a newer interest in this content was opened");
                    self.refuse_served(*older, reject);
                }
                self.served.insert(served, admitted);
                self.served_by.insert((connection, content), served);
                self.watch_grant(served);
                self.tell_have_map(content);
                self.tell_load();
                self.load_changed();
                self.tell_limit(served);
                self.add_connected(content, node);
            }
            Err(reject) => self.outputs.push_back(Output::Provide(served, FromProvider::Refused(reject))),
        }
    }

    /// A peer shows a fresh grant.
    pub(super) fn renew_served(&mut self, served: ServedId, grant: &Grant) {
        let Some(entry) = self.served.get(&served) else { return };
        let checked = self.check_grant(grant, entry.node, &entry.group);
        match checked.and_then(|body| (body.born == entry.born).then_some(body).ok_or_else(of_another_group)) {
            Ok(body) => {
                if let Some(entry) = self.served.get_mut(&served) {
                    (entry.user, entry.expires, entry.epoch) = (body.user, body.expires, body.epoch);
                    self.watch_grant(served);
                }
            }
            Err(reject) => self.refuse_served(served, reject),
        }
    }

    /// A peer has ended its interest: nothing is served without one.
    pub(super) fn served_closed(&mut self, served: ServedId) {
        self.end_served(served, &grant_refused("the interest in this content was ended"));
    }

    pub(super) fn piece_requested(&mut self, upload: UploadId, connection: ConnectionId, request: &PieceRequest) {
        let checked = self.check_piece(connection, request.content, request.piece);
        let queued = checked.and_then(|(served, bytes)| {
            let user = &self.served.get(&served).ok_or_else(grant_over)?.user;
            let piece = Upload { upload, served, content: request.content, piece: request.piece, bytes };
            if self.uploads.push(user, piece) {
                Ok(())
            } else {
                Err(Reject::new(ErrorCode::BUSY, "too many requests wait here"))
            }
        });
        match queued {
            Ok(()) => self.start_uploads(),
            Err(reject) => self.outputs.push_back(Output::RefuseUpload(upload, reject)),
        }
    }

    pub(super) fn manifest_requested(&mut self, upload: UploadId, connection: ConnectionId, content: ContentId) {
        self.outputs.push_back(match self.check_manifest(connection, content) {
            Ok((served, bytes)) => {
                self.uploads.start_manifest(upload, served);
                Output::ServeManifest(upload, content, bytes)
            }
            Err(reject) => Output::RefuseUpload(upload, reject),
        });
    }

    pub(super) fn upload_ended(&mut self, upload: UploadId, sent_bytes: u64) {
        self.up_rate.add(sent_bytes, self.now.monotonic);
        self.uploads.end(upload, sent_bytes, self.now.monotonic);
        self.start_uploads();
    }

    /// A shared file is no longer what was shared: it is not served any more, and those who read it are told.
    pub(super) fn source_broken(&mut self, content: ContentId, path: PathBuf, reason: Reject) {
        if self.shares.mark_broken(content, path.clone(), reason.clone()) {
            self.outputs.push_back(Output::Note(format!("a shared file is no longer served: {reason}")));
            self.refuse_readers(content);
            self.announce_content(content);
            let broken = self.shares.of_user().filter(|share| share.content == content && share.path == path);
            for share in broken.cloned().collect::<Vec<_>>() {
                self.share_stopped(&share, Some(reason.message.clone()));
            }
        }
    }

    /// A file is what was shared again: it is served as before.
    pub(super) fn source_back(&mut self, content: ContentId, path: PathBuf) {
        if self.shares.mark_whole(content, path) {
            self.announce_content(content);
        }
    }

    /// Ends the interests in a content of those who may no longer read it from here.
    pub(super) fn refuse_readers(&mut self, content: ContentId) {
        let readers = self.served.iter().filter(|(_, served)| served.content == content);
        let lost = readers.filter(|(_, served)| self.available(content, &served.group, served.born).is_none());
        let lost: Vec<ServedId> = lost.map(|(served, _)| *served).collect();
        for served in lost {
            self.refuse_served(served, no_longer_served());
        }
    }

    /// A connection is gone, with the interests and requests on it.
    pub(super) fn drop_served_of(&mut self, connection: ConnectionId) {
        let gone = self.served.iter().filter(|(_, served)| served.connection == connection);
        let gone: Vec<ServedId> = gone.map(|(served, _)| *served).collect();
        gone.into_iter().for_each(|served| self.served_closed(served));
    }

    /// Tells those who have not been told yet what is here of a content.
    pub(super) fn tell_have_map(&mut self, content: ContentId) {
        let untold = self.served.iter().filter(|(_, served)| served.content == content && !served.told);
        let untold: Vec<_> = untold.map(|(served, entry)| (*served, entry.group.clone(), entry.born)).collect();
        for (served, group, born) in untold {
            let map = match self.available(content, &group, born) {
                Some(Available { have, .. }) => have.map_or(WireHaveMap::All, HaveMap::to_wire),
                None => continue,
            };
            self.outputs.push_back(Output::Provide(served, FromProvider::HaveMap(map)));
            if let Some(entry) = self.served.get_mut(&served) {
                entry.told = true;
            }
        }
    }

    /// Tells those who read a content from here which pieces have come.
    pub(super) fn tell_have(&mut self, content: ContentId) {
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let fresh = std::mem::take(&mut transfer.fresh);
        for (served, _) in self.served.iter().filter(|(_, served)| served.content == content && served.told) {
            for page in fresh.chunks(HAVE_PIECES_MAX) {
                self.outputs.push_back(Output::Provide(*served, FromProvider::Have(page.to_vec())));
            }
        }
    }

    /// Serves waiting requests while places are free. Much may have changed while they waited.
    pub(super) fn start_uploads(&mut self) {
        let now = self.now.monotonic;
        while let Some(Upload { upload, served, content, piece, bytes }) = self.uploads.start_next(now) {
            match self.check_served(served).and_then(|entry| self.check_here(entry, piece)) {
                Ok(_) => self.outputs.push_back(Output::ServePiece(upload, content, piece, bytes)),
                Err(reject) => {
                    self.uploads.end(upload, 0, now);
                    self.outputs.push_back(Output::RefuseUpload(upload, reject));
                }
            }
        }
        if let Some(wait) = self.uploads.held_back(now) {
            self.timers.set(Timer::Uploads, now + wait);
        }
        self.load_changed();
        self.tell_queue_soon();
    }

    /// A place for an interest of that user, where all are taken the newest one of who has most, if that leaves them more than
    /// this user: one user's many nodes keep nobody else out.
    fn make_room(&mut self, user: &UserName) -> Result<(), Reject> {
        let busy = || Reject::new(ErrorCode::BUSY, "too many downloads are served here");
        if self.served.len() < self.config.limits.served_max {
            return Ok(());
        }
        let mut per_user: BTreeMap<&UserName, (usize, ServedId)> = BTreeMap::new();
        for (served, entry) in &self.served {
            let (count, last) = per_user.entry(&entry.user).or_insert((0, *served));
            (*count, *last) = (*count + 1, *served);
        }
        let own = per_user.get(user).map_or(0, |(count, _)| *count);
        let most = per_user.into_values().max_by_key(|(count, _)| *count);
        let (_, newest) = most.filter(|(count, _)| *count > own + 1).ok_or_else(busy)?;
        self.refuse_served(newest, busy());
        Ok(())
    }

    /// Whether a peer may read what it asks to read.
    fn admit(&self, connection: ConnectionId, interest: &Interest) -> Result<Served, Reject> {
        let lost = || Reject::new(ErrorCode::BUSY, "the connection is closing");
        let node = *self.connections.get(&connection).ok_or_else(lost)?;
        let GrantBody { user, expires, epoch, born, .. } = self.check_grant(&interest.grant, node, &interest.group)?;
        let Interest { content, group, .. } = interest;
        let here = self.available(*content, group, born).is_some() || self.is_opening(*content, group, born);
        if !here {
            return Err(Reject::new(ErrorCode::CONTENT_NOT_FOUND, "this content is not served here"));
        }
        let group = group.clone();
        let (content, told_load) = (*content, None);
        Ok(Served { connection, node, user, group, born, content, expires, epoch, told: false, told_load })
    }

    /// The open interest that covers a request, if its grant still holds.
    fn check_request(&self, connection: ConnectionId, content: ContentId) -> Result<ServedId, Reject> {
        let served = self.served_by.get(&(connection, content));
        let served = *served.ok_or_else(|| grant_refused("no grant was shown for this content"))?;
        self.check_served(served).map(|_| served)
    }

    /// An open interest whose grant still holds.
    fn check_served(&self, served: ServedId) -> Result<&Served, Reject> {
        match self.served.get(&served) {
            Some(entry) if entry.expires > self.tracker_time() => Ok(entry),
            _ => Err(grant_over()),
        }
    }

    /// Whether a manifest may be read: by which interest, and how many bytes it has at the most.
    fn check_manifest(&self, connection: ConnectionId, content: ContentId) -> Result<(ServedId, u64), Reject> {
        let served = self.check_request(connection, content)?;
        let entry = self.check_served(served)?;
        match self.available(content, &entry.group, entry.born) {
            Some(available) => {
                let digests_bytes = u64::from(available.geometry.piece_count()) * DIGEST_BYTES_MAX;
                Ok((served, digests_bytes + MANIFEST_HEADER_BYTES_MAX))
            }
            None => Err(no_longer_served()),
        }
    }

    /// Whether a piece may be read and is here: by which interest, and its bytes.
    fn check_piece(
        &self,
        connection: ConnectionId,
        content: ContentId,
        piece: PieceIndex,
    ) -> Result<(ServedId, u64), Reject> {
        let served = self.check_request(connection, content)?;
        Ok((served, self.check_here(self.check_served(served)?, piece)?))
    }

    /// The bytes of a piece, if it is here for who reads.
    fn check_here(&self, served: &Served, piece: PieceIndex) -> Result<u64, Reject> {
        let available = self.available(served.content, &served.group, served.born);
        let bytes = available.and_then(|available| {
            let here = available.have.is_none_or(|have| have.contains(piece));
            available.geometry.piece(piece.0).filter(|_| here).map(|piece| available.geometry.piece_bytes(piece))
        });
        bytes.ok_or_else(|| Reject::new(ErrorCode::CONTENT_NOT_FOUND, "this piece is not here"))
    }

    /// What of a content can be served to readers of a group that was born then.
    fn available(&self, content: ContentId, group: &GroupName, born: UnixMillis) -> Option<Available<'_>> {
        if self.left_groups.contains(group) {
            return None;
        }
        if let Some(share) = self.shares.in_group(content, group, born) {
            return Some(Available { geometry: share.shape.geometry().ok()?, have: None });
        }
        let transfer = self.transfers.get(&content).filter(|transfer| transfer.is_of(group, born))?;
        let pieces = transfer.pieces.as_ref()?;
        Some(Available { geometry: pieces.geometry, have: Some(pieces.picker.have()) })
    }

    /// Whether a content will be here in a moment: its readers are told when it is.
    fn is_opening(&self, content: ContentId, group: &GroupName, born: UnixMillis) -> bool {
        !self.left_groups.contains(group)
            && self.transfers.get(&content).is_some_and(|transfer| transfer.is_of(group, born))
    }
}

/// A grant for a group that has only the name of the one that was read from until now.
fn of_another_group() -> Reject {
    grant_refused("the grant is for another group of that name")
}

/// What those are told who could read a content from here until now.
pub(super) fn no_longer_served() -> Reject {
    Reject::new(ErrorCode::CONTENT_NOT_FOUND, "this content is no longer served here")
}

/// What of a content is here.
struct Available<'a> {
    geometry: Geometry,
    /// The pieces; `None` for all of them.
    have: Option<&'a HaveMap>,
}
