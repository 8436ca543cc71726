//! Answers in words and tables, for people.

use p2p_proto::control::{
    Answer, Copied, Download, DownloadState, Downloaded, Downloads, File, FileInfo, FileRemoved, Files, GroupJoined,
    Groups, LoggedIn, LoggedOut, Members, Requests, Shares, Uploaded, Verified,
};
use p2p_proto::id::DownloadId;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::tracker::{JoinPolicy, Standing};

use super::escape::shell_word;
use super::table::{self, Column::Left, Column::Right};
use super::{Text, View, rate, status, unit, why};

/// Fewest digits of a download's id that are shown.
const ID_DIGITS_MIN: usize = 4;

/// What people are shown of any answer.
pub fn answer(answer: &Answer, view: View) -> Text {
    match answer {
        Answer::UserCreated(created) => {
            Text::change(format!("user {} created", created.user)).next(format!("p2pctl login {}", word(&created.user)))
        }
        Answer::LoggedIn(login) => logged_in(login),
        Answer::LoggedOut(logout) => logged_out(logout),
        Answer::Status(status) => Text::data(status::lines(status), String::new),
        Answer::GroupCreated(created) => {
            Text::change(format!("group {} created ({})", created.group, policy(created.policy)))
                .next(format!("p2pctl upload_file FILE {}", word(&created.group)))
        }
        Answer::GroupJoined(joined) => group_joined(joined),
        Answer::GroupLeft(left) => Text::change(format!("left {}", left.group)),
        Answer::GroupDeleted(deleted) => {
            Text::change(format!("group {} and its listings are deleted; the files stay where they are", deleted.group))
        }
        Answer::Groups(groups) => table_of_groups(groups, view),
        Answer::Members(members) => table_of_members(members, view),
        Answer::Requests(requests) => table_of_requests(requests, view),
        Answer::RequestAccepted(change) => Text::change(format!("{} is a member of {} now", change.user, change.group)),
        Answer::RequestRejected(change) => {
            Text::change(format!("the request of {} to join {} is rejected", change.user, change.group))
        }
        Answer::MemberRemoved(change) => {
            Text::change(format!("{} is no member of {} any more", change.user, change.group))
        }
        Answer::GroupTransferred(change) => Text::change(format!("{} owns {} now", change.user, change.group))
            .next(format!("you stay a member; p2pctl leave_group {} ends that", word(&change.group))),
        Answer::Uploaded(uploaded) => upload(uploaded),
        Answer::Files(files) => table_of_files(files, view),
        Answer::FileInfo(info) => file_info(info, false, view),
        Answer::DownloadStarted(download) => Text {
            lines: vec![download.id.to_string()],
            message: Some(format!("{} is downloaded in the background", download.name)),
            next: Some(format!("p2pctl wait {}", download.id.short())),
        },
        Answer::Downloaded(downloaded) => download_done(downloaded),
        Answer::DownloadChanged(download) => download_changed(download),
        Answer::Downloads(downloads) => table_of_downloads(downloads, view),
        Answer::ShareStopped(stopped) if stopped.until_requested => Text::change(format!(
            "{} rests: it is shared with {} again when a member asks for it and nobody else online has it",
            stopped.name, stopped.group
        )),
        Answer::ShareStopped(stopped) => Text::change(format!(
            "{} is no longer shared with {} from here; the file stays where it is",
            stopped.name, stopped.group
        )),
        Answer::Shares(shares) => table_of_shares(shares, view),
        Answer::ShuttingDown(ending) => Text::change(format!("p2pd (process {}) ends", ending.process_id)),
        Answer::PasswordChanged(changed) if changed.logged_out_everywhere => Text::change(format!(
            "the password of {} is changed, and {} is logged out everywhere but here",
            changed.user, changed.user
        )),
        Answer::PasswordChanged(changed) => Text::change(format!("the password of {} is changed", changed.user)),
        Answer::NodeLoggedOut(node) => {
            Text::change(format!("node {} is logged out; it was {}'s", node.node.short(), node.user))
        }
        Answer::PolicySet(set) => Text::change(format!("group {} is {} now", set.group, policy(set.policy))),
        Answer::FileRemoved(removed) => file_removed(removed),
        Answer::Shared(shared) => {
            let mut text = upload(&shared.uploaded);
            text.next = Some(format!("for the others: p2pctl get {} DEST", shell_word(&shared.mtorrent.to_string())));
            text
        }
        Answer::Limits(limits) => Text::data(rate::limits(limits), String::new),
        Answer::Why(why) => why::text(why, view),
        Answer::Verified(verified) => pieces_verified(verified),
        Answer::Copied(Copied { uploaded, copies }) => {
            let nodes = unit::counted((*copies).into(), "other node");
            let hold = if *copies == 1 { "holds" } else { "hold" };
            let mut text = upload(uploaded);
            text.next = Some(format!("{nodes} {hold} all of {}: it is safe to leave", uploaded.name));
            text
        }
    }
}

fn file_removed(removed: &FileRemoved) -> Text {
    let FileRemoved { group, name, owner, .. } = removed;
    let kept = if removed.unshared { "; it is no longer shared from here, the file stays where it is" } else { "" };
    Text::change(format!("{name} of {owner} is no longer listed in {group}{kept}"))
}

/// A name as a word of a command.
pub fn word(name: &impl ToString) -> String {
    shell_word(&name.to_string())
}

fn policy(policy: JoinPolicy) -> &'static str {
    match policy {
        JoinPolicy::Approval => "approval",
        JoinPolicy::Open => "open",
        JoinPolicy::Public => "public",
    }
}

fn hash(hash: HashAlgorithm) -> &'static str {
    match hash {
        HashAlgorithm::Blake3 => "blake3",
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha1 => "sha1",
    }
}

fn shares_and_downloads(shares: u32, downloads: u32) -> Option<String> {
    let parts = [(shares, "share"), (downloads, "unfinished download")];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts.map(|(number, noun)| unit::counted((*number).into(), noun)).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

fn logged_in(login: &LoggedIn) -> Text {
    let text = format!("logged in as {}", login.user);
    match shares_and_downloads(login.shares, login.downloads) {
        Some(resumed) => Text::change(format!("{text}; {resumed} resumed")),
        None => Text::change(text).next("p2pctl list_groups"),
    }
}

fn logged_out(logout: &LoggedOut) -> Text {
    let text = format!("{} is logged out", logout.user);
    match shares_and_downloads(logout.shares, logout.downloads) {
        Some(kept) => Text::change(format!("{text}; {kept} kept for the next login of {}", logout.user)),
        None => Text::change(text),
    }
}

fn group_joined(joined: &GroupJoined) -> Text {
    let group = &joined.group;
    if joined.member {
        return Text::change(format!("joined {group}")).next(format!("p2pctl list_files {}", word(group)));
    }
    let decides = joined.waiting_for.as_ref().map_or("its owner".to_owned(), ToString::to_string);
    Text::change(format!("asked to join {group}; {decides} decides"))
        .next("p2pctl list_groups shows when you are let in")
}

fn upload(uploaded: &Uploaded) -> Text {
    let Uploaded { group, name, length, elapsed_ms, .. } = uploaded;
    let pieces = unit::counted(uploaded.pieces.into(), "piece");
    let (size, elapsed) = (unit::size(*length), unit::elapsed(*elapsed_ms));
    let rate = unit::rate(per_second(*length, *elapsed_ms));
    let mut lines = Vec::new();
    if let Some(digest) = &uploaded.whole_sha256 {
        // As `sha256sum` prints it.
        lines.push(format!("{digest}  {name}"));
    }
    let mut changes = match &uploaded.folder {
        None => format!("{name} is shared with {group}: {pieces}, {size} hashed in {elapsed} ({rate})"),
        Some(folder) => {
            let files = unit::counted(folder.files.into(), "file");
            format!("{name}/ is shared with {group}: {files}, {pieces}, {size} hashed in {elapsed} ({rate})")
        }
    };
    if let Some(folder) = &uploaded.folder {
        if folder.links > 0 {
            let more = if (folder.followed.len() as u64) < folder.links.into() { " …" } else { "" };
            let links = unit::counted(folder.links.into(), "symbolic link");
            changes.push_str(&format!("; {links} followed: {}{more}", folder.followed.join(", ")));
        }
        if folder.empty_folders > 0 {
            changes.push_str(&format!("; left out: {}", unit::counted(folder.empty_folders.into(), "empty folder")));
        }
    }
    Text { lines, ..Text::change(changes) }.next(format!(
        "for the others: p2pctl download_file {} {} DEST",
        word(group),
        word(name)
    ))
}

fn per_second(bytes: u64, milliseconds: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / u128::from(milliseconds.max(1))).unwrap_or(u64::MAX)
}

fn download_done(downloaded: &Downloaded) -> Text {
    Text::change(format!(
        "{}, {} verified in {} ({}) → {}",
        unit::counted(downloaded.pieces.into(), "piece"),
        unit::size(downloaded.length),
        unit::elapsed(downloaded.elapsed_ms),
        unit::rate(downloaded.rate),
        match downloaded.destination.as_path().to_str() {
            Some("-") => "standard output".to_owned(),
            _ => downloaded.destination.to_string(),
        }
    ))
}

fn download_changed(download: &Download) -> Text {
    let text = Text::change(format!("{} {} is {}", download.id.short(), download.name, state(download)));
    match download.state {
        DownloadState::Paused => text.next(format!("p2pctl resume {}", download.id.short())),
        _ => text.next(format!("p2pctl wait {}", download.id.short())),
    }
}

/// What was found when the pieces of a download were hashed again.
fn pieces_verified(verified: &Verified) -> Text {
    let Verified { download, pieces, checked_pieces, bad_pieces } = verified;
    let (id, name) = (download.id.short(), &download.name);
    let here = format!("{} of {pieces} are here", unit::counted((*checked_pieces).into(), "piece"));
    if bad_pieces.is_empty() {
        return Text::change(format!("{id} {name}: {here}, all of them as their digests say"));
    }
    let numbers: Vec<String> = bad_pieces.iter().map(ToString::to_string).collect();
    let text = Text::change(format!("{id} {name}: {here}, {} of them bad: {}", bad_pieces.len(), numbers.join(" ")));
    match download.state {
        DownloadState::Error => text.next(format!("p2pctl why {id}")),
        _ => text.next("they are fetched again when the download goes on"),
    }
}

/// What people are shown of a download that was cancelled. Only a finished file can stay.
pub fn cancelled(download: &Download, data_deleted: bool) -> Text {
    let finished = matches!(download.state, DownloadState::Complete | DownloadState::Seeding);
    let data = if finished && !data_deleted { "the file stays" } else { "what had arrived of it is deleted" };
    Text::change(format!("{} {} is cancelled; {data}", download.id.short(), download.name))
}

/// A download's state, and why where there is a reason.
pub fn state(download: &Download) -> String {
    let state = match download.state {
        DownloadState::Queued => "queued",
        DownloadState::Waiting => "waiting",
        DownloadState::Downloading => "downloading",
        DownloadState::Verifying => "verifying",
        DownloadState::Complete => "complete",
        DownloadState::Seeding => "seeding",
        DownloadState::Paused => "paused",
        DownloadState::Error => "error",
    };
    match &download.reason {
        Some(reason) => format!("{state}: {reason}"),
        None => state.to_owned(),
    }
}

fn table_of_groups(groups: &Groups, view: View) -> Text {
    let rows = groups.groups.iter().map(|group| {
        let standing = match group.standing {
            Standing::Owner => "owner",
            Standing::Member => "member",
            Standing::Requested => "request sent",
            Standing::None => "-",
        };
        [
            group.group.to_string(),
            group.owner.to_string(),
            policy(group.policy).to_owned(),
            unit::count(group.members.into()),
            unit::count(group.files.into()),
            standing.to_owned(),
        ]
    });
    let columns = [Left("GROUP"), Left("OWNER"), Left("POLICY"), Right("MEMBERS"), Right("FILES"), Left("YOU")];
    Text::data(table::lines(columns, rows, view.width), || "no groups".to_owned())
}

fn table_of_members(members: &Members, view: View) -> Text {
    let rows = members.members.iter().map(|member| {
        let role = if member.owner { "owner" } else { "member" };
        let online = unit::count(member.nodes_online.into());
        [member.user.to_string(), role.to_owned(), online, unit::ago(member.since, view.now)]
    });
    let columns = [Left("USER"), Left("ROLE"), Right("NODES ONLINE"), Left("SINCE")];
    Text::data(table::lines(columns, rows, view.width), || format!("{} has no members", members.group))
}

fn table_of_requests(requests: &Requests, view: View) -> Text {
    let rows = requests.requests.iter().map(|request| [request.user.to_string(), unit::ago(request.since, view.now)]);
    let lines = table::lines([Left("USER"), Left("SINCE")], rows, view.width);
    let text = Text::data(lines, || format!("nobody waits to join {}", requests.group));
    match requests.requests.first() {
        Some(first) => text.next(format!("p2pctl accept_request {} {}", word(&requests.group), word(&first.user))),
        None => text,
    }
}

fn table_of_files(files: &Files, view: View) -> Text {
    let rows = files.files.iter().map(|file| {
        [
            file_name(file),
            file_size(file),
            unit::count(file.seeders.into()),
            unit::count(file.partial.into()),
            file.here_bytes.map_or("-".to_owned(), |here| unit::percent(here, file.length)),
            file.owner.to_string(),
            unit::ago(file.added, view.now),
        ]
    });
    let columns =
        [Left("NAME"), Left("SIZE"), Right("SEEDERS"), Right("PARTIAL"), Right("HERE"), Left("OWNER"), Left("ADDED")];
    Text::data(table::lines(columns, rows, view.width), || format!("no files in {}", files.group))
}

/// A folder's name ends with the sign that no file's name holds.
fn file_name(file: &File) -> String {
    format!("{}{}", file.name, if file.files.is_some() { "/" } else { "" })
}

fn file_size(file: &File) -> String {
    let size = unit::size(file.length);
    file.files.map_or(size.clone(), |files| format!("{size}, {}", unit::counted(files.into(), "file")))
}

/// One file in detail; every piece's digest where asked for.
pub fn file_info(info: &FileInfo, digests: bool, view: View) -> Text {
    let file = &info.file;
    let mut lines = vec![
        format!("Name      {}", file_name(file)),
        format!("Group     {}", info.group),
        format!("Owner     {}", file.owner),
        format!("Added     {} ({})", file.added, unit::ago(file.added, view.now)),
        format!("Size      {} ({} bytes)", unit::size(file.length), unit::count(file.length)),
        format!("Content   {}", file.content),
    ];
    if let (Some(pieces), Some(piece_length), Some(algorithm)) = (info.pieces, info.piece_length, info.hash) {
        let pieces = unit::count(pieces.into());
        lines.push(format!("Pieces    {pieces} of {}, {}", unit::size(piece_length), hash(algorithm)));
    }
    lines.extend(file.files.map(|files| format!("Files     {}", unit::count(files.into()))));
    lines.extend(info.whole_sha256.iter().map(|digest| format!("SHA-256   {digest}")));
    lines.push(match file.here_bytes {
        Some(here) => format!("Here      {} ({})", unit::percent(here, file.length), unit::size(here)),
        None => "Here      -".to_owned(),
    });
    lines.push(format!("Online    {}, {} partial", unit::counted(file.seeders.into(), "seeder"), file.partial));
    let providers = info.providers.iter().map(|provider| {
        let pieces = match (provider.complete, provider.pieces) {
            (true, _) => "all".to_owned(),
            (false, Some(pieces)) => unit::count(pieces.into()),
            (false, None) => "some".to_owned(),
        };
        [provider.node.short(), provider.user.to_string(), pieces]
    });
    lines.extend(paragraph(table::lines([Left("NODE"), Left("USER"), Left("PIECES")], providers, view.width)));
    let text = Text { lines, ..Text::default() };
    if digests { with_digests(text, info) } else { text }
}

fn with_digests(mut text: Text, info: &FileInfo) -> Text {
    if info.pieces.is_none() {
        text.message = Some("the digests are not here: they come with the first download".to_owned());
    }
    let rows = info.digests.iter().enumerate().map(|(index, digest)| [index.to_string(), digest.clone()]);
    text.lines.extend(paragraph(table::lines([Right("PIECE"), Left("DIGEST")], rows, None)));
    text
}

/// Lines with an empty one before them, if there are any.
fn paragraph(lines: Vec<String>) -> impl Iterator<Item = String> {
    let gap = (!lines.is_empty()).then(String::new);
    gap.into_iter().chain(lines)
}

fn table_of_downloads(downloads: &Downloads, view: View) -> Text {
    let digits = id_digits(downloads.downloads.iter().map(|download| download.id));
    let rows = downloads.downloads.iter().map(|download| {
        let mut id = download.id.to_string();
        id.truncate(digits);
        [
            id,
            download.group.to_string(),
            download.name.to_string(),
            unit::percent_fine(download.have_bytes, download.length),
            unit::size(download.have_bytes),
            if download.down_rate > 0 { unit::rate(download.down_rate) } else { "-".to_owned() },
            download.eta_seconds.map_or("-".to_owned(), unit::clock),
            format!("{}/{}", download.peers_active, download.peers_known),
            state(download),
        ]
    });
    let columns = [
        Left("ID"),
        Left("GROUP"),
        Left("NAME"),
        Right("DONE"),
        Left("HAVE"),
        Left("DOWN"),
        Left("ETA"),
        Left("PEERS"),
        Left("STATE"),
    ];
    Text::data(table::lines(columns, rows, view.width), || "no downloads".to_owned())
}

/// How many digits it takes to tell these ids apart, at least [`ID_DIGITS_MIN`].
fn id_digits(ids: impl Iterator<Item = DownloadId>) -> usize {
    let mut ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    ids.sort_unstable();
    let common = |pair: &[String]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
    let longest_common = ids.windows(2).map(common).max();
    longest_common.map_or(0, |common| common + 1).clamp(ID_DIGITS_MIN, 2 * DownloadId::BYTES)
}

fn table_of_shares(shares: &Shares, view: View) -> Text {
    let rows = shares.shares.iter().map(|share| {
        let state = match (share.seeding, &share.reason) {
            (true, _) => "seeding".to_owned(),
            (false, Some(reason)) if share.until_requested => reason.clone(),
            (false, Some(reason)) => format!("stopped: {reason}"),
            (false, None) => "stopped".to_owned(),
        };
        [share.group.to_string(), share.name.to_string(), unit::size(share.length), share.path.to_string(), state]
    });
    let columns = [Left("GROUP"), Left("NAME"), Left("SIZE"), Left("PATH"), Left("STATE")];
    Text::data(table::lines(columns, rows, view.width), || "nothing is shared from here".to_owned())
}

#[cfg(test)]
mod tests;
