//! Lists that come from a tracker in pages, gathered into one answer.

use p2p_proto::control::{Answer, Files, Groups, Members, Requests};
use p2p_proto::frame;
use p2p_proto::limit::{CONTROL_FRAME_BYTES_MAX, PAGE_ITEMS_MAX};
use p2p_proto::name::GroupName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{self, Group, JoinRequest, Listing, Member, Request};

use super::Engine;
use super::input::CommandId;
use super::steps::Step;
use super::trackers::Call;

/// Bytes that a list may have, as it comes: what is longer cannot be answered to a command, and a hostile tracker sends full
/// pages for as long as they are asked for.
const LIST_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX;

/// What a row counts at the least, in bytes: the shortest have a few, and take more than that in memory.
const ROW_BYTES_MIN: usize = 64;

/// A list with the rows that have come; the next page continues behind the last of them.
#[derive(Debug)]
pub(super) enum Pages {
    /// All groups, or (`true`) this user's.
    Groups(bool, Vec<Group>),
    Members(GroupName, Vec<Member>),
    Requests(GroupName, Vec<JoinRequest>),
    Files(GroupName, Vec<Listing>),
}

impl Pages {
    /// What to ask for the next page.
    fn next(&self) -> Request {
        match self {
            Pages::Groups(mine, rows) => {
                Request::ListGroups { mine: *mine, after: rows.last().map(|row| row.group.clone()) }
            }
            Pages::Members(group, rows) => {
                Request::ListMembers { group: group.clone(), after: rows.last().map(|row| row.user.clone()) }
            }
            Pages::Requests(group, rows) => {
                Request::ListRequests { group: group.clone(), after: rows.last().map(|row| row.user.clone()) }
            }
            Pages::Files(group, rows) => {
                let after = rows.last().map(|row| (row.name.clone(), row.owner.clone()));
                Request::ListFiles { group: group.clone(), after }
            }
        }
    }

    /// Takes a page and says whether more may follow; `None` for an answer that is no page of this list.
    fn take(&mut self, page: tracker::Answer) -> Option<bool> {
        match (self, page) {
            (Pages::Groups(_, rows), tracker::Answer::Groups(page)) => Some(append(rows, page)),
            (Pages::Members(_, rows), tracker::Answer::Members(page)) => Some(append(rows, page)),
            (Pages::Requests(_, rows), tracker::Answer::Requests(page)) => Some(append(rows, page)),
            (Pages::Files(_, rows), tracker::Answer::Files(page)) => Some(append(rows, page)),
            _ => None,
        }
    }
}

/// Appends a page to what has come; whether it was full, so that more may follow behind it.
fn append<T>(rows: &mut Vec<T>, page: Vec<T>) -> bool {
    let full = page.len() >= PAGE_ITEMS_MAX;
    rows.extend(page);
    full
}

impl Engine {
    /// Asks for the next page of a list for a command, behind pages of so many bytes.
    pub(super) fn ask_page(&mut self, command: CommandId, pages: Pages, bytes: usize) {
        let next = pages.next();
        self.ask(Step::Page(command, Box::new(pages), bytes), Call::Request(next));
    }

    /// A page came, behind pages of so many bytes: the next one is asked for, or the command has its answer.
    pub(super) fn take_page(&mut self, command: CommandId, mut pages: Pages, bytes: usize, page: tracker::Answer) {
        let bytes = bytes + frame::encode(&page).len().max(PAGE_ITEMS_MAX * ROW_BYTES_MIN);
        match pages.take(page) {
            Some(true) if bytes > LIST_BYTES_MAX => {
                let message = format!("the list has more than {LIST_BYTES_MAX} bytes, and an answer may have as many");
                self.fail(command, Reject::new(ErrorCode::UNSUPPORTED, message));
            }
            Some(true) => self.ask_page(command, pages, bytes),
            Some(false) => {
                let answer = self.listed(pages);
                self.tell(command, answer);
            }
            None => self.fail_misanswered(command),
        }
    }

    /// The answer that a whole list is.
    fn listed(&self, pages: Pages) -> Answer {
        match pages {
            Pages::Groups(_, groups) => Answer::Groups(Groups { groups }),
            Pages::Members(group, members) => Answer::Members(Members { group, members }),
            Pages::Requests(group, requests) => Answer::Requests(Requests { group, requests }),
            Pages::Files(group, rows) => {
                let files = rows.into_iter().map(|listing| self.file_row(listing)).collect();
                Answer::Files(Files { group, files })
            }
        }
    }
}
