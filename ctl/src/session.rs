//! One command's dealings with the daemon: finding or starting it, asking, and following what takes time.

use std::io;
use std::time::Duration;

use p2p_proto::control::{Answer, Frame, Request};
use p2p_proto::paths::Folders;
use p2p_proto::reject::ErrorCode;
use p2p_proto::version::SOFTWARE;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Globals;
use crate::connect::Connection;
use crate::error::{Failure, cause};
use crate::render::progress::Progress;
use crate::render::{Screen, event, human, json};
use crate::start::Starter;

/// Everything a verb needs to ask its one question and to show the answer.
#[derive(Debug)]
pub struct Session {
    /// Where answers go.
    pub screen: Screen,
    folders: Folders,
    starter: Option<Starter>,
    runtime: Runtime,
}

impl Session {
    /// A session with the daemon that the options mean. Nothing is connected yet.
    pub fn new(globals: Globals) -> Result<Session, Failure> {
        let folders = Folders::find(globals.home.as_deref())?;
        let home = globals.home.map(std::path::absolute).transpose().map_err(|error| internal(&error))?;
        let starter = (!globals.no_start).then(|| Starter::new(home, folders.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| internal(&error))?;
        Ok(Session { screen: Screen::new(globals.json, globals.quiet), folders, starter, runtime })
    }

    /// Asks, and shows the answer as it is usually shown.
    pub fn show(&self, request: Request) -> Result<(), Failure> {
        let answer = self.ask(request)?;
        self.screen.answer(&answer, |view| human::answer(&answer, view))
    }

    /// Asks the daemon, which is started if none answers.
    pub fn ask(&self, request: Request) -> Result<Answer, Failure> {
        self.runtime.block_on(self.exchange(request, self.starter.as_ref()))
    }

    /// Asks a daemon that runs; none is started.
    pub fn ask_running(&self, request: Request) -> Result<Answer, Failure> {
        self.runtime.block_on(self.exchange(request, None))
    }

    /// Asks a daemon that runs; `None` where nothing useful comes within `deadline`.
    pub fn ask_soon(&self, request: Request, deadline: Duration) -> Option<Answer> {
        let asked = async { tokio::time::timeout(deadline, self.exchange(request, None)).await };
        self.runtime.block_on(asked).ok()?.ok()
    }

    /// Asks for something that takes time, shows how far it is, and the answer, which comes back. Ctrl-C ends only the
    /// following.
    pub fn follow(&self, request: Request) -> Result<Answer, Failure> {
        let mut progress = Progress::new(&request, &self.screen);
        let answer = self.runtime.block_on(async {
            // Listening begins before anything is sent, so that no interrupt comes unheard.
            let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| internal(&error))?;
            tokio::select! {
                answer = self.followed(&request, &mut progress) => answer,
                _ = interrupts.recv() => Err(progress.interrupted()),
            }
        });
        progress.clear();
        let answer = answer?;
        self.screen.answer(&answer, |view| human::answer(&answer, view))?;
        Ok(answer)
    }

    /// Follows what happens until Ctrl-C, which is how it is meant to end, or until the daemon ends.
    pub fn listen(&self, request: &Request) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| internal(&error))?;
            tokio::select! {
                ended = self.listened(request) => ended,
                // A person has seen the end; a script is told as of any other end.
                _ = interrupts.recv() => Err(match self.screen.as_json {
                    false => Failure::Told(ErrorCode::INTERRUPTED),
                    true => Failure::new(ErrorCode::INTERRUPTED, "events are no longer followed"),
                }),
            }
        })
    }

    async fn listened(&self, request: &Request) -> Result<(), Failure> {
        let mut connection = self.connect(self.starter.as_ref()).await?;
        connection.send(request).await?;
        loop {
            let frame = connection.receive().await?;
            if self.screen.as_json
                && let Some(document) = json::frame(&frame)
            {
                self.screen.document(&document)?;
            }
            match frame {
                Frame::Result(result) => return result.map(drop).map_err(Failure::from),
                Frame::Following => self.screen.message("following events; Ctrl-C ends"),
                Frame::Event(event) if !self.screen.as_json => self.screen.line(&event::line(&event))?,
                _ => {}
            }
        }
    }

    async fn followed(&self, request: &Request, progress: &mut Progress<'_>) -> Result<Answer, Failure> {
        let mut connection = self.connect(self.starter.as_ref()).await?;
        connection.send(request).await?;
        loop {
            match connection.receive().await? {
                Frame::Result(result) => return result.map_err(Failure::from),
                frame => progress.show(&frame)?,
            }
        }
    }

    async fn exchange(&self, request: Request, starter: Option<&Starter>) -> Result<Answer, Failure> {
        let mut connection = self.connect(starter).await?;
        connection.send(&request).await?;
        loop {
            match connection.receive().await? {
                Frame::Result(result) => return result.map_err(Failure::from),
                Frame::Stale => self.screen.mark_stale(),
                _ => {}
            }
        }
    }

    async fn connect(&self, starter: Option<&Starter>) -> Result<Connection, Failure> {
        let socket = self.folders.control_socket()?;
        let connection = match (Connection::open(&socket).await?, starter) {
            (Some(connection), _) => connection,
            (None, Some(starter)) => {
                let started = |process_id| self.screen.message(&format!("started p2pd (process {process_id})"));
                starter.start(&socket, started).await?
            }
            (None, None) => {
                let message = format!("no daemon answers at {}", socket.display());
                return Err(Failure::new(ErrorCode::NO_DAEMON, message)
                    .hint("start it with `p2pd` or `systemctl --user start p2pd`"));
            }
        };
        if let Some(warning) = version_warning(&connection.software, SOFTWARE) {
            self.screen.warning(&warning);
        }
        Ok(connection)
    }
}

fn internal(error: &io::Error) -> Failure {
    Failure::new(ErrorCode::INTERNAL, format!("p2pctl cannot work: {}", cause(error)))
}

/// What to say where daemon and command are of different versions but still understand each other.
fn version_warning(daemon: &str, command: &str) -> Option<String> {
    let version = |software: &str| software.rsplit(' ').next().unwrap_or_default().to_owned();
    let (daemon, command) = (version(daemon), version(command));
    (daemon != command).then(|| format!("p2pd is version {daemon} and p2pctl is {command}: restart the daemon"))
}

#[cfg(test)]
mod tests;
