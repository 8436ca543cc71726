//! What is followed, while it is under way: a bar on a terminal, else a line every ten seconds; documents as JSON.

use std::fmt::Write;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use p2p_proto::control::{Copies, Download, DownloadState, Frame, Hashing, Request};
use p2p_proto::name::{FileName, GroupName};
use p2p_proto::reject::Reject;

use super::escape::escape;
use super::{Screen, human, json, unit};
use crate::error::Failure;
use crate::session::Enough;

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Columns of a bar between its brackets, where the terminal has room for them.
const BAR_COLUMNS_MAX: usize = 22;

/// Fewest columns of a bar; below them the name is cut instead.
const BAR_COLUMNS_MIN: usize = 8;

/// Fewest columns that a name is cut to.
const NAME_COLUMNS_MIN: usize = 12;

/// Shows how far something is.
pub struct Progress<'a> {
    screen: &'a Screen,
    display: Display,
    /// What goes on in the daemon if the following is interrupted.
    subject: Subject,
}

enum Display {
    Documents,
    Bar(ProgressBar),
    Lines { last: Instant },
    Nothing,
}

enum Subject {
    /// Nothing has come from the daemon yet.
    Asked,
    /// A download, with as much of its id as is known.
    Download {
        id: String,
        name: Option<String>,
    },
    Upload {
        name: String,
    },
    /// A file that is shared, and copies of it are waited for.
    Copies {
        group: GroupName,
        name: FileName,
    },
    /// What is here of a download is hashed again.
    Verify,
    /// A file that goes to standard output.
    Stream,
}

/// One moment of what is followed, in the pieces that bar and line are made of.
struct Moment {
    name: String,
    have_bytes: u64,
    length: u64,
    /// How much is there of how much.
    amount: String,
    rest: String,
}

impl<'a> Progress<'a> {
    /// Progress of what `request` asks for.
    pub fn new(request: &Request, screen: &'a Screen) -> Progress<'a> {
        let subject = match request {
            Request::Verify { .. } => Subject::Verify,
            Request::Stream { .. } => Subject::Stream,
            Request::Wait { id } => Subject::Download { id: id.to_string(), name: None },
            Request::UploadFile { name, .. } => Subject::Upload { name: name.to_string() },
            Request::Share { path, .. } => {
                Subject::Upload { name: path.as_path().file_name().unwrap_or_default().display().to_string() }
            }
            _ => Subject::Asked,
        };
        let display = if screen.as_json {
            Display::Documents
        } else if !screen.shows_messages() {
            Display::Nothing
        } else if io::stderr().is_terminal() {
            Display::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
        } else {
            Display::Lines { last: Instant::now() }
        };
        Progress { screen, display, subject }
    }

    /// Shows a frame that is not the last.
    pub fn show(&mut self, frame: &Frame) -> Result<(), Failure> {
        let moment = match frame {
            Frame::Started(download) | Frame::Progress(download) => {
                if !matches!(self.subject, Subject::Stream) {
                    let (id, name) = (download.id.short(), Some(download.name.to_string()));
                    self.subject = Subject::Download { id, name };
                }
                Moment::of_download(download)
            }
            Frame::Hashing(hashing) => Moment::of_hashing(hashing),
            Frame::Shared(uploaded) => {
                self.subject = Subject::Copies { group: uploaded.group.clone(), name: uploaded.name.clone() };
                if self.screen.as_json {
                    json::frame(frame).map_or(Ok(()), |document| self.screen.document(&document))?;
                }
                return Ok(());
            }
            Frame::Copies(copies) => Moment::of_copies(copies),
            Frame::Stale => {
                self.screen.mark_stale();
                return Ok(());
            }
            Frame::Result(_) | Frame::Event(_) | Frame::Following | Frame::Bytes(_) => return Ok(()),
        };
        match &mut self.display {
            Display::Documents => json::frame(frame).map_or(Ok(()), |document| self.screen.document(&document))?,
            Display::Bar(bar) => moment.draw(bar),
            Display::Lines { last } if last.elapsed() >= LINE_INTERVAL => {
                *last = Instant::now();
                self.screen.message(&moment.line());
            }
            Display::Lines { .. } | Display::Nothing => {}
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }

    /// What to say when nobody waits any longer: nothing ends in the daemon but a stream, and here is how to come back.
    pub fn left(&self, enough: Enough) -> Failure {
        left(&self.subject, enough).into()
    }
}

fn left(subject: &Subject, enough: Enough) -> Reject {
    let (what, hint) = match subject {
        Subject::Asked => ("what has begun goes on in the daemon".to_owned(), "p2pctl show_downloads".to_owned()),
        Subject::Download { id, name } => {
            let name = name.as_ref().map(|name| format!(" of {name}"));
            let hint = format!("`p2pctl wait {id}` follows it again, `p2pctl cancel {id}` ends it");
            (format!("the download{} goes on in the daemon", name.unwrap_or_default()), hint)
        }
        Subject::Copies { group, name } => (
            format!("{name} stays shared, and nobody waits for copies of it"),
            format!("`p2pctl file_info {} {}` shows who has it", human::word(group), human::word(name)),
        ),
        Subject::Verify => (
            "the pieces are hashed to the end in the daemon".to_owned(),
            "`p2pctl status` tells of what is bad".to_owned(),
        ),
        Subject::Stream => (
            "what was written is right as far as it goes, and the daemon keeps nothing of it".to_owned(),
            "a download into a file goes on by itself".to_owned(),
        ),
        Subject::Upload { name } => (
            format!("the daemon goes on and shares {name} when it is hashed"),
            "`p2pctl list` shows what is shared".to_owned(),
        ),
    };
    enough.reject(&what).hint(hint)
}

impl Moment {
    fn of_download(download: &Download) -> Moment {
        let rest = if download.state == DownloadState::Downloading {
            let eta = download.eta_seconds.map_or("-".to_owned(), unit::clock);
            let peers = unit::counted(download.peers_active.into(), "peer");
            format!("{}  ETA {eta}  {peers}", unit::rate(download.down_rate))
        } else {
            human::state(download)
        };
        let (have_bytes, length) = (download.have_bytes, download.length);
        let amount = unit::size_of(have_bytes, length);
        Moment { name: download.name.to_string(), have_bytes, length, amount, rest }
    }

    fn of_hashing(hashing: &Hashing) -> Moment {
        let name = hashing.path.as_path().file_name().unwrap_or_default().display().to_string();
        let (have_bytes, length) = (hashing.done_bytes, hashing.length);
        let amount = unit::size_of(have_bytes, length);
        Moment { name, have_bytes, length, amount, rest: "hashing".to_owned() }
    }

    fn of_copies(copies: &Copies) -> Moment {
        let Copies { copies, wanted, name, .. } = copies;
        let amount = format!("{copies}/{wanted} other nodes");
        let rest = "waiting for copies".to_owned();
        Moment { name: name.to_string(), have_bytes: (*copies).into(), length: (*wanted).into(), amount, rest }
    }

    fn percent(&self) -> String {
        unit::percent_fine(self.have_bytes, self.length)
    }

    fn line(&self) -> String {
        format!("{}  {}  {}", self.name, self.percent(), self.behind())
    }

    /// What stands behind the bar.
    fn behind(&self) -> String {
        format!("{}  {}", self.amount, self.rest)
    }

    /// What stands before the bar, the bar's columns, and what stands behind it, within a terminal of `columns`: first
    /// the bar gives way, then the name, at last the end.
    fn layout(&self, columns: usize) -> (String, usize, String) {
        let (name, percent, behind) = (escape(&self.name), self.percent(), escape(&self.behind()));
        let width = console::measure_text_width;
        let fixed = width("  ") + width(&percent) + width(" [") + width("] ") + width(&behind);
        let room = columns.saturating_sub(fixed);
        let bar_columns = room.saturating_sub(width(&name)).clamp(BAR_COLUMNS_MIN, BAR_COLUMNS_MAX);
        let name_columns = room.saturating_sub(bar_columns).max(NAME_COLUMNS_MIN);
        let before = format!("{}  {percent}", console::truncate_str(&name, name_columns, "…"));
        let behind_columns = columns.saturating_sub(width(&before) + width(" [") + bar_columns + width("] "));
        let behind = console::truncate_str(&behind, behind_columns, "").into_owned();
        (before, bar_columns, behind)
    }

    /// Draws the bar once: the style carries the texts, since setting them on the bar would draw it each time.
    fn draw(&self, bar: &ProgressBar) {
        let (_, columns) = console::Term::stderr().size();
        let (before, bar_columns, behind) = self.layout(columns.into());
        let template = format!("{{before}} [{{bar:{bar_columns}}}] {{behind}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(
                style.progress_chars("=> ").with_key("before", text(before)).with_key("behind", text(behind)),
            );
        }
        bar.update(|state| {
            state.set_len(self.length);
            state.set_pos(self.have_bytes);
        });
    }
}

/// A part of a bar's line that does not depend on the bar.
fn text(text: String) -> impl Fn(&ProgressState, &mut dyn Write) + Clone + Send + Sync + 'static {
    // Writing into memory: there is nothing to be done if that failed.
    move |_, line| {
        let _ = line.write_str(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::examples;

    #[test]
    fn a_line_says_how_far_a_download_is() {
        let downloads = examples::downloads().downloads;
        assert_eq!(
            Moment::of_download(&downloads[0]).line(),
            "genome.tar  62.0%  25.5/41.2 GiB  842 MiB/s  ETA 0:19  5 peers"
        );
        assert_eq!(Moment::of_download(&downloads[1]).line(), "maps.iso  0.0%  0.0/4.0 GiB  waiting: no seeder online");
    }
    /// The bar's line as a terminal of `columns` shows it.
    fn drawn(download: &Download, columns: usize) -> String {
        let (before, bar_columns, behind) = Moment::of_download(download).layout(columns);
        format!("{before} [{}] {behind}", "=".repeat(bar_columns))
    }

    #[test]
    fn a_bar_reads_as_the_contract_shows_it() {
        let download = &examples::downloads().downloads[0];
        let expected = "genome.tar  62.0% [======================] 25.5/41.2 GiB  842 MiB/s  ETA 0:19  5 peers";
        assert_eq!(drawn(download, 100), expected);
    }

    #[test]
    fn a_bar_fits_its_terminal() {
        let mut download = examples::downloads().downloads[0].clone();
        for name in ["genome.tar", &"x".repeat(255), &"写".repeat(80)] {
            download.name = examples::name(name);
            for columns in [200, 100, 80, 60, 50] {
                let line = drawn(&download, columns);
                assert!(console::measure_text_width(&line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn an_interrupted_command_says_that_the_download_goes_on_and_how_to_come_back() {
        let screen = Screen::new(false, true);
        let id = "a91f".parse().expect("a prefix");
        let mut progress = Progress::new(&Request::Wait { id }, &screen);
        let Failure::Refused(reject) = progress.left(Enough::Interrupted) else { panic!("a refusal") };
        assert_eq!(
            (reject.code.exit_code(), reject.message.as_str()),
            (130, "interrupted; the download goes on in the daemon")
        );
        assert_eq!(reject.hint, "`p2pctl wait a91f` follows it again, `p2pctl cancel a91f` ends it");
        let download = examples::downloads().downloads[0].clone();
        progress.show(&Frame::Started(download)).expect("shown");
        let Failure::Refused(reject) = progress.left(Enough::TimedOut) else { panic!("a refusal") };
        let message = "not done in the time given; the download of genome.tar goes on in the daemon";
        assert_eq!((reject.code.exit_code(), reject.message.as_str()), (11, message));
        assert!(reject.hint.contains("p2pctl wait a91f0102"));
    }
}
