//! One file of a group: the listing that is meant, who is online with it, and what is known of it here.

use p2p_proto::control::{Answer, FileInfo, FileProvider};
use p2p_proto::escape::shell_word;
use p2p_proto::id::ContentId;
use p2p_proto::name::{FileSelector, GroupName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Listing, Providers, Request};

use super::input::{AskId, CommandId, Description};
use super::steps::Step;
use super::trackers::Call;
use super::{Engine, Output};

impl Engine {
    /// The listings of that name: who is online with the one that is meant?
    pub(super) fn info_found(
        &mut self,
        command: CommandId,
        group: GroupName,
        file: &FileSelector,
        listings: Vec<Listing>,
    ) {
        match choose_listing(listings, &group, file, |chosen| command_line("file_info", &group, chosen, "")) {
            Ok(listing) => {
                let next = Request::Lookup { group: group.clone(), content: listing.content };
                self.ask(Step::InfoProviders(command, group, Box::new(listing)), Call::Request(next));
            }
            Err(reject) => self.fail(command, reject),
        }
    }

    /// Who is online with it; what does its manifest say, if it is here?
    pub(super) fn info_providers(&mut self, command: CommandId, group: GroupName, listing: Listing, found: Providers) {
        let content = listing.content;
        let providers = found.providers.into_iter().map(|provider| FileProvider {
            pieces: self.pieces_at(content, provider.node),
            node: provider.node,
            user: provider.user,
            complete: provider.complete,
        });
        let info = FileInfo {
            providers: providers.collect(),
            group,
            file: self.file_row(listing),
            piece_length: None,
            pieces: None,
            hash: None,
            digests: Vec::new(),
            whole_sha256: None,
        };
        let ask = self.expect(Step::Described(command, Box::new(info)));
        self.outputs.push_back(Output::DescribeContent(ask, content));
    }

    pub(super) fn described(&mut self, ask: AskId, result: Result<Description, Reject>) {
        let Some(Step::Described(command, mut info)) = self.steps.remove(&ask) else { return };
        match result {
            Ok(description) => {
                info.piece_length = Some(description.shape.piece_length);
                info.pieces = description.shape.geometry().ok().map(|geometry| geometry.piece_count());
                info.hash = Some(description.shape.hash);
                info.digests = description.digests.iter().map(|digest| hex(digest)).collect();
                info.whole_sha256 = description.whole_sha256.map(|digest| hex(&digest));
                self.tell(command, Answer::FileInfo(info));
            }
            // Nothing of it is here: the listing is all there is to show.
            Err(reject) if reject.code == ErrorCode::CONTENT_NOT_FOUND => self.tell(command, Answer::FileInfo(info)),
            Err(reject) => self.fail(command, reject),
        }
    }
}

/// The one listing that a person means; listings of one content are as good as each other. `example` makes the command
/// that chooses one of several.
pub(super) fn choose_listing(
    mut listings: Vec<Listing>,
    group: &GroupName,
    file: &FileSelector,
    example: impl Fn(&str) -> String,
) -> Result<Listing, Reject> {
    keep_meant(&mut listings, file);
    let contents: std::collections::BTreeSet<ContentId> = listings.iter().map(|listing| listing.content).collect();
    let owners: Vec<String> = listings.iter().map(|listing| format!("{}:{}", listing.owner, listing.name)).collect();
    match listings.into_iter().next() {
        Some(listing) if contents.len() == 1 => Ok(listing),
        Some(_) => {
            Err(Reject::new(ErrorCode::AMBIGUOUS_NAME, format!("several members publish different files named {file}"))
                .hint(format!("say whose: {}, as in `{}`", owners.join(" or "), example(&owners[0]))))
        }
        None => Err(Reject::new(ErrorCode::FILE_NOT_FOUND, format!("no file {file} in {group}"))
            .hint(format!("`p2pctl list_files {}` lists them", shell_word(group.as_str())))),
    }
}

/// A command about a file of a group, as it is typed.
pub(super) fn command_line(verb: &str, group: &GroupName, file: &str, rest: &str) -> String {
    format!("p2pctl {verb} {} {}{rest}", shell_word(group.as_str()), shell_word(file))
}

/// Drops listings that were not asked for. The tracker's word for which ones are meant is not taken: the name becomes a
/// file's name in a person's folder, where `.profile` in the place of what was asked for would be an intrusion.
pub(super) fn keep_meant(listings: &mut Vec<Listing>, file: &FileSelector) {
    let is_owner = |listing: &Listing| file.owner.as_ref().is_none_or(|owner| owner.key() == listing.owner.key());
    listings.retain(|listing| listing.name.key() == file.name.key() && is_owner(listing));
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
