//! What is followed, while it is under way: a bar on a terminal, else a line every ten seconds; documents as JSON.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use p2p_proto::control::{Download, DownloadState, Frame, Hashing, Request};
use p2p_proto::reject::{ErrorCode, Reject};

use super::escape::{escape, shell_word};
use super::{Screen, human, json, unit};
use crate::error::Failure;

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Columns of a bar between its brackets.
const BAR_COLUMNS: u16 = 22;

/// Columns that a bar's line needs beside the name: percentage, bar, sizes, rate, time left, peers.
const BESIDE_NAME_COLUMNS: u16 = 80;

/// Fewest columns that a name is cut to.
const NAME_COLUMNS_MIN: u16 = 12;

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
}

/// One moment of what is followed, in the pieces that bar and line are made of.
struct Moment {
    name: String,
    have_bytes: u64,
    length: u64,
    rest: String,
}

impl<'a> Progress<'a> {
    /// Progress of what `request` asks for.
    pub fn new(request: &Request, screen: &'a Screen) -> Progress<'a> {
        let subject = match request {
            Request::Wait { id } => Subject::Download { id: id.to_string(), name: None },
            Request::UploadFile { name, .. } => Subject::Upload { name: name.to_string() },
            _ => Subject::Asked,
        };
        let display = if screen.as_json {
            Display::Documents
        } else if !screen.shows_messages() {
            Display::Nothing
        } else if io::stderr().is_terminal() {
            Display::Bar(bar())
        } else {
            Display::Lines { last: Instant::now() }
        };
        Progress { screen, display, subject }
    }

    /// Shows a frame that is not the last.
    pub fn show(&mut self, frame: &Frame) -> Result<(), Failure> {
        let moment = match frame {
            Frame::Started(download) | Frame::Progress(download) => {
                let (id, name) = (download.id.short(), Some(download.name.to_string()));
                self.subject = Subject::Download { id, name };
                Moment::of_download(download)
            }
            Frame::Hashing(hashing) => Moment::of_hashing(hashing),
            Frame::Result(_) => return Ok(()),
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

    /// What to say when the person has had enough: nothing ends in the daemon, and here is how to come back.
    pub fn interrupted(&self) -> Failure {
        interrupted(&self.subject).into()
    }
}

fn interrupted(subject: &Subject) -> Reject {
    let (what, hint) = match subject {
        Subject::Asked => ("what has begun goes on in the daemon".to_owned(), "p2pctl show_downloads".to_owned()),
        Subject::Download { id, name } => {
            let name = name.as_ref().map(|name| format!(" of {name}"));
            let hint = format!("`p2pctl wait {id}` follows it again, `p2pctl cancel {id}` ends it");
            (format!("the download{} goes on in the daemon", name.unwrap_or_default()), hint)
        }
        Subject::Upload { name } => (
            format!("the daemon goes on and shares {} when it is hashed", shell_word(name)),
            "`p2pctl list` shows what is shared".to_owned(),
        ),
    };
    Reject::new(ErrorCode::INTERRUPTED, format!("interrupted; {what}")).hint(hint)
}

fn bar() -> ProgressBar {
    // Drawn as frames come, once a second: no faster, and hidden until the first.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = format!("{{prefix}} [{{bar:{BAR_COLUMNS}}}] {{msg}}");
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
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
        Moment { name: download.name.to_string(), have_bytes, length, rest }
    }

    fn of_hashing(hashing: &Hashing) -> Moment {
        let name = hashing.path.as_path().file_name().unwrap_or_default().display().to_string();
        Moment { name, have_bytes: hashing.done_bytes, length: hashing.length, rest: "hashing".to_owned() }
    }

    fn percent(&self) -> String {
        unit::percent_fine(self.have_bytes, self.length)
    }

    fn line(&self) -> String {
        format!("{}  {}", self.prefix(u16::MAX), self.message())
    }

    /// What stands before the bar, its name cut so that the rest fits a terminal of `columns`.
    fn prefix(&self, columns: u16) -> String {
        let name = escape(&self.name);
        let room = columns.saturating_sub(BESIDE_NAME_COLUMNS).max(NAME_COLUMNS_MIN);
        format!("{}  {}", console::truncate_str(&name, room.into(), "…"), self.percent())
    }

    /// What stands behind the bar.
    fn message(&self) -> String {
        format!("{}  {}", unit::size_of(self.have_bytes, self.length), escape(&self.rest))
    }

    fn draw(&self, bar: &ProgressBar) {
        let (_, columns) = console::Term::stderr().size();
        bar.set_length(self.length);
        bar.set_prefix(self.prefix(columns));
        bar.set_message(self.message());
        bar.set_position(self.have_bytes);
        bar.tick();
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
}
