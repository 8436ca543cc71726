//! Refusals of the state: one function each, so that the same refusal always reads the same.

use p2p_proto::escape::shell_word;
use p2p_proto::id::NodeId;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};

/// The node belongs to nobody.
pub fn login_needed() -> Reject {
    Reject::new(ErrorCode::LOGIN_NEEDED, "this node is not logged in").hint("log in with: p2pctl login USER")
}

/// The node belongs to somebody else.
pub fn already_logged_in(user: &UserName) -> Reject {
    Reject::new(ErrorCode::ALREADY_LOGGED_IN, format!("this node is logged in as `{user}`"))
        .hint("log out first with: p2pctl logout")
}

/// Wrong user or wrong password: the same words for both, so that nobody learns which names exist.
pub fn login_refused() -> Reject {
    Reject::new(ErrorCode::LOGIN_REFUSED, "wrong user name or password")
}

/// Who changes a password does not know the one until now.
pub fn old_password_refused() -> Reject {
    Reject::new(ErrorCode::LOGIN_REFUSED, "the old password is wrong")
        .hint("if a change of it was interrupted, the new one may be in force already")
}

pub(super) fn node_not_found(node: NodeId, user: &UserName) -> Reject {
    Reject::new(ErrorCode::NODE_NOT_FOUND, format!("`{user}` is not logged in on node {}", node.short()))
        .hint("`p2pctl status` shows where")
}

pub(super) fn user_not_found(user: &UserName) -> Reject {
    Reject::new(ErrorCode::USER_NOT_FOUND, format!("there is no user `{user}`"))
}

/// Anybody may ask this, so it does not tell how the name that stands is spelled.
pub(super) fn user_exists(asked: &UserName) -> Reject {
    Reject::new(ErrorCode::USER_EXISTS, format!("user `{asked}` exists already, perhaps in another spelling"))
        .hint(format!("choose another name, or log in with: p2pctl login {}", shell_word(asked.as_str())))
}

pub(super) fn group_not_found(group: &GroupName) -> Reject {
    Reject::new(ErrorCode::GROUP_NOT_FOUND, format!("there is no group `{group}`"))
        .hint("see all groups with: p2pctl list_groups")
}

pub(super) fn group_exists(asked: &GroupName, standing: &GroupName) -> Reject {
    let message = if asked.as_str() == standing.as_str() {
        format!("group `{asked}` exists already")
    } else {
        format!("group `{standing}` exists already, and `{asked}` differs from it in case or composition only")
    };
    Reject::new(ErrorCode::GROUP_EXISTS, message)
        .hint(format!("choose another name, or ask to join with: p2pctl join_group {}", word(standing)))
}

pub(super) fn not_member(group: &GroupName) -> Reject {
    Reject::new(ErrorCode::NOT_MEMBER, format!("only members of group `{group}` may do this"))
        .hint(format!("ask to join with: p2pctl join_group {}", word(group)))
}

pub(super) fn built_in(group: &GroupName) -> Reject {
    let message = format!(
        "group `{group}` is built in: nobody owns, joins or leaves it, and everybody reads and publishes in it"
    );
    Reject::new(ErrorCode::NOT_ALLOWED, message)
        .hint("publish with: p2pctl share FILE, and download with: p2pctl download NAME DEST")
}

pub(super) fn reserved_user(user: &UserName) -> Reject {
    Reject::new(ErrorCode::BAD_NAME, format!("`{user}` is the name of what belongs to nobody, so no user can have it"))
        .hint("choose another name")
}

pub(super) fn nothing_to_leave(user: &UserName, group: &GroupName) -> Reject {
    let message = format!("`{user}` is not a member of group `{group}` and has not asked to join");
    Reject::new(ErrorCode::NOT_MEMBER, message).hint("see your groups with: p2pctl list_my_groups")
}

pub(super) fn not_owner(group: &GroupName, owner: &UserName) -> Reject {
    Reject::new(ErrorCode::NOT_OWNER, format!("only the owner of group `{group}`, `{owner}`, may do this"))
}

pub(super) fn no_such_member(user: &UserName, group: &GroupName) -> Reject {
    Reject::new(ErrorCode::USER_NOT_FOUND, format!("group `{group}` has no member `{user}`"))
        .hint(format!("see its members with: p2pctl list_members {}", word(group)))
}

pub(super) fn request_not_found(user: &UserName, group: &GroupName) -> Reject {
    Reject::new(ErrorCode::REQUEST_NOT_FOUND, format!("`{user}` has not asked to join group `{group}`"))
        .hint(format!("see who waits with: p2pctl list_requests {}", word(group)))
}

pub(super) fn already_member(user: &UserName, group: &GroupName) -> Reject {
    Reject::new(ErrorCode::ALREADY_MEMBER, format!("`{user}` is a member of group `{group}` already"))
}

pub(super) fn already_requested(group: &GroupName, owner: &UserName) -> Reject {
    let message = format!("the request to join group `{group}` waits already, for its owner `{owner}`");
    Reject::new(ErrorCode::ALREADY_REQUESTED, message)
        .hint(format!("take it back with: p2pctl leave_group {}", word(group)))
}

pub(super) fn owner_must_hand_over(group: &GroupName) -> Reject {
    let message = format!("the owner cannot leave group `{group}` while it has other members");
    Reject::new(ErrorCode::OWNER_MUST_HAND_OVER, message).hint(format!(
        "hand it on first with: p2pctl transfer_group {0} USER, or end it with: p2pctl delete_group {0}",
        word(group)
    ))
}

pub(super) fn last_member(group: &GroupName) -> Reject {
    let message = format!("leaving as the last member ends group `{group}` with all its listings");
    Reject::new(ErrorCode::WRONG_STATE, message)
        .hint(format!("if that is meant: p2pctl leave_group {} --force", word(group)))
}

pub(super) fn file_not_found(name: &FileName, group: &GroupName) -> Reject {
    Reject::new(ErrorCode::FILE_NOT_FOUND, format!("group `{group}` has no file `{name}`"))
        .hint(format!("see its files with: p2pctl list_files {}", word(group)))
}

pub(super) fn not_your_file(name: &FileName, group: &GroupName, user: &UserName) -> Reject {
    Reject::new(ErrorCode::FILE_NOT_FOUND, format!("group `{group}` has no file `{name}` of `{user}`"))
        .hint(format!("see its files and their owners with: p2pctl list_files {}", word(group)))
}

pub(super) fn content_not_listed(group: &GroupName) -> Reject {
    Reject::new(ErrorCode::FILE_NOT_FOUND, format!("group `{group}` lists no file with this content"))
        .hint(format!("see its files with: p2pctl list_files {}", word(group)))
}

pub(super) fn other_content(name: &FileName, group: &GroupName) -> Reject {
    let message = format!("you list another file as `{name}` in group `{group}`");
    Reject::new(ErrorCode::FILE_EXISTS, message).hint(format!(
        "replace it with: p2pctl upload_file --force FILE {}, or choose another name with --name",
        word(group)
    ))
}

/// Nobody decides in the built-in group.
pub(super) fn not_your_listing(
    name: &FileName,
    owner: &UserName,
    group: &GroupName,
    decides: Option<&UserName>,
) -> Reject {
    let message = match decides {
        Some(decides) => {
            format!("only `{owner}` and the owner of group `{group}`, `{decides}`, may take `{name}` out of it")
        }
        None => format!("only `{owner}` may take `{name}` out of group `{group}`"),
    };
    Reject::new(ErrorCode::NOT_OWNER, message)
}

pub(super) fn another_group(name: &FileName, group: &GroupName) -> Reject {
    let message = format!("the group `{group}` that `{name}` was meant for has ended, and another has its name now");
    Reject::new(ErrorCode::GROUP_NOT_FOUND, message).hint(format!(
        "if it is meant for the new one too, upload it again; its members: p2pctl list_members {}",
        word(group)
    ))
}

pub(super) fn twin_file(asked: &FileName, standing: &FileName, group: &GroupName) -> Reject {
    let message = format!(
        "you list a file as `{standing}` in group `{group}`, which `{asked}` differs from in case or composition only"
    );
    Reject::new(ErrorCode::FILE_EXISTS, message).hint("choose another name with --name")
}

/// A bound of [`super::bound`] is reached; `what` says whose and of what, with its number.
pub(super) fn full(what: String) -> Reject {
    Reject::new(ErrorCode::NOT_ALLOWED, format!("{what}, and more are not allowed"))
}

/// A group's name as a word of a command.
fn word(group: &GroupName) -> String {
    shell_word(group.as_str())
}
