//! One command's dealings with the daemon: finding or starting it, asking, and following what takes time.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use p2p_proto::control::{Answer, Frame, Request};
use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::version::SOFTWARE;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Globals;
use crate::connect::Connection;
use crate::error::{Failure, cause};
use crate::file_output::FileOutput;
use crate::render::progress::Progress;
use crate::render::{Screen, event, human, json};
use crate::start::Starter;

/// How often what is watched is asked for: as often as progress is told.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Everything a verb needs to ask its one question and to show the answer.
#[derive(Debug)]
pub struct Session {
    /// Where answers go.
    pub screen: Screen,
    /// Where the daemon keeps its things.
    pub folders: Folders,
    starter: Option<Starter>,
    runtime: Runtime,
    /// Until when anything is waited for.
    deadline: Option<Instant>,
}

/// Why nothing more is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    /// The person at the prompt said so.
    Interrupted,
    /// It took longer than was allowed.
    TimedOut,
}

impl Enough {
    /// The refusal that says so, with what became of what was waited for.
    pub fn reject(self, what: &str) -> Reject {
        match self {
            Enough::Interrupted => Reject::new(ErrorCode::INTERRUPTED, format!("interrupted; {what}")),
            Enough::TimedOut => Reject::new(ErrorCode::TIMED_OUT, format!("not done in the time given; {what}")),
        }
    }
}

impl Session {
    /// A session with the daemon that the options mean. Nothing is connected yet.
    pub fn new(globals: Globals) -> Result<Session, Failure> {
        let folders = Folders::find(globals.home.as_deref())?;
        let home = globals.home.map(std::path::absolute).transpose().map_err(|error| internal(&error))?;
        let starter = (!globals.no_start).then(|| Starter::new(home, folders.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| internal(&error))?;
        let deadline = globals.timeout.and_then(|time| Instant::now().checked_add(time));
        Ok(Session { screen: Screen::new(globals.json, globals.quiet), folders, starter, runtime, deadline })
    }

    /// Asks, and shows the answer as it is usually shown.
    pub fn show(&self, request: Request) -> Result<(), Failure> {
        let answer = self.ask(request)?;
        self.screen.answer(&answer, |view| human::answer(&answer, view))
    }

    /// Asks the daemon, which is started if none answers.
    pub fn ask(&self, request: Request) -> Result<Answer, Failure> {
        self.exchanged(request, self.starter.as_ref())
    }

    /// Asks a daemon that runs; none is started.
    pub fn ask_running(&self, request: Request) -> Result<Answer, Failure> {
        self.exchanged(request, None)
    }

    fn exchanged(&self, request: Request, starter: Option<&Starter>) -> Result<Answer, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                answer = self.exchange(request, starter) => answer,
                () = self.time_is_up() => {
                    Err(Enough::TimedOut.reject("whether the daemon has done it is not known").into())
                }
            }
        })
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
        let answer = self.or_enough(self.followed(&request, &mut progress, None))?;
        progress.clear();
        let answer = answer.unwrap_or_else(|enough| Err(progress.left(enough)))?;
        self.screen.answer(&answer, |view| human::answer(&answer, view))?;
        Ok(answer)
    }

    /// The same for a request whose answer comes with a file's bytes, which go to standard output, and all else to
    /// standard error.
    pub fn stream(&self, request: Request) -> Result<(), Failure> {
        if io::stdout().is_terminal() {
            return Err(Failure::usage("standard output is a terminal, which a file's bytes could steer")
                .hint("add `> FILE` or a pipe: `| less` shows a text, `| tar x` unpacks"));
        }
        self.screen.leave_stdout_to_a_file();
        let mut progress = Progress::new(&request, &self.screen);
        let mut output = FileOutput::start();
        let answer = self.or_enough(self.followed(&request, &mut progress, Some(&mut output)))?;
        progress.clear();
        let answer = answer.unwrap_or_else(|enough| Err(progress.left(enough)))?;
        self.screen.answer(&answer, |view| human::answer(&answer, view))
    }

    /// Asks again every second and shows each answer, until Ctrl-C. A terminal shows the last one.
    pub fn watch(&self, request: &Request) -> Result<(), Failure> {
        let watched = async {
            let mut starter = self.starter.as_ref();
            loop {
                let answer = self.exchange(request.clone(), starter.take()).await?;
                self.screen.begin_again();
                self.screen.answer(&answer, |view| human::answer(&answer, view))?;
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        };
        self.or_enough(watched)?.unwrap_or_else(|enough| Err(self.seen(enough, "nothing is watched any more")))
    }

    /// What `work` comes to, or that nobody waits for it any longer. What is dropped with it goes on in the daemon.
    pub fn or_enough<T>(&self, work: impl Future<Output = T>) -> Result<Result<T, Enough>, Failure> {
        self.runtime.block_on(async {
            // Listening begins before anything is sent, so that no interrupt comes unheard.
            let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| internal(&error))?;
            tokio::select! {
                biased;
                _ = interrupts.recv() => Ok(Err(Enough::Interrupted)),
                () = self.time_is_up() => Ok(Err(Enough::TimedOut)),
                done = work => Ok(Ok(done)),
            }
        })
    }

    async fn time_is_up(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// How following ends that has no end of its own: a person has seen it, a script is told as of any other end.
    fn seen(&self, enough: Enough, what: &str) -> Failure {
        let reject = enough.reject(what);
        match self.screen.as_json {
            false => Failure::Told(reject.code),
            true => reject.into(),
        }
    }

    /// Follows what happens until Ctrl-C, which is how it is meant to end, or until the daemon ends.
    pub fn listen(&self, request: &Request) -> Result<(), Failure> {
        let listened = self.or_enough(self.listened(request))?;
        listened.unwrap_or_else(|enough| Err(self.seen(enough, "events are no longer followed")))
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

    async fn followed(
        &self,
        request: &Request,
        progress: &mut Progress<'_>,
        mut output: Option<&mut FileOutput>,
    ) -> Result<Answer, Failure> {
        let mut connection = self.connect(self.starter.as_ref()).await?;
        connection.send(request).await?;
        loop {
            match (connection.receive().await?, &mut output) {
                (Frame::Result(result), Some(output)) => {
                    // What came is written, also where it is not all.
                    output.finish().await?;
                    return result.map_err(Failure::from);
                }
                (Frame::Result(result), None) => return result.map_err(Failure::from),
                (Frame::Bytes(bytes), Some(output)) => output.write(bytes.0).await?,
                (frame, _) => progress.show(&frame)?,
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
