//! The log: lines for people or JSON documents on standard error, in the form that journald sorts, with levels that can be
//! changed while the program runs.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use p2p_proto::escape::{HarmlessJsonLines, HarmlessLines};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{self as fmt_layer, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What openraft does, the tracker's log tells in its own words; whoever wants to know more has to name it.
const SILENT: &str = "openraft";

/// What came of a reload is told to whoever asked for it, whatever else is written.
const ALWAYS: &str = "p2p_host::reload=info";

/// Which lines are written: `info`, or `warn,audit=info`, as `RUST_LOG` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    /// What an operator must know.
    fn default() -> LogFilter {
        LogFilter("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// An empty text is the default: who has `RUST_LOG=` has set nothing.
    fn from_str(text: &str) -> Result<LogFilter, String> {
        if text.trim().is_empty() {
            return Ok(LogFilter::default());
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(LogFilter(text.to_owned())),
            Err(error) => Err(format!("`{text}` is no filter of a log ({error}); write it as warn or warn,audit=info")),
        }
    }
}

impl LogFilter {
    fn directives(&self) -> EnvFilter {
        let silent = if self.0.contains(SILENT) { String::new() } else { format!(",{SILENT}=off") };
        EnvFilter::builder().parse_lossy(format!("{ALWAYS},{}{silent}", self.0))
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is no format of a log; there are text and json")),
        }
    }
}

/// The log of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Begins to log to standard error. Once a process.
    pub fn start(format: LogFormat, filter: &LogFilter) -> Log {
        let journal = is_journal(io::stderr(), std::env::var("JOURNAL_STREAM").ok().as_deref());
        let (filter, handle) = reload::Layer::new(filter.directives());
        let layer = fmt_layer::layer().with_ansi(false).log_internal_errors(false);
        let layer = match format {
            LogFormat::Text => {
                let lines = WithPriority { journal, lines: Format::default().with_ansi(false) };
                layer.event_format(lines).with_writer(|| HarmlessLines(io::stderr())).boxed()
            }
            LogFormat::Json => {
                let lines = WithPriority { journal, lines: Format::default().json().flatten_event(true) };
                let layer = layer.fmt_fields(JsonFields::new()).event_format(lines);
                layer.with_writer(|| HarmlessJsonLines(io::stderr())).boxed()
            }
        };
        tracing_subscriber::registry().with(filter).with(layer).init();
        Log { filter: handle }
    }

    /// Writes the lines that `filter` lets through from now on.
    pub fn set_filter(&self, filter: &LogFilter) {
        if let Err(error) = self.filter.reload(filter.directives()) {
            tracing::warn!(%error, "the log goes on to write what it did");
        }
    }
}

/// Lines that begin with the priority that journald sorts them by (sd-daemon(3)), where it reads them.
struct WithPriority<F> {
    journal: bool,
    lines: F,
}

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.journal {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.lines.format_event(context, writer, event)
    }
}

/// The priority of a level, as syslog(3) numbers it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Whether what is written to `stream` goes to the journal: it is the one that `JOURNAL_STREAM` names (systemd.exec(5)), and
/// was not led elsewhere since.
fn is_journal(stream: impl AsFd, named: Option<&str>) -> bool {
    let Some((device, inode)) = named.and_then(|named| named.split_once(':')) else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    rustix::fs::fstat(stream).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_filter_is_what_rust_log_takes() {
        for text in ["warn", "warn,audit=info", "p2pd::net=debug", "off"] {
            assert_eq!(text.parse::<LogFilter>().expect("a filter").to_string(), text);
        }
        assert_eq!(" ".parse::<LogFilter>(), Ok(LogFilter::default()));
        for text in ["a=b=c", "warn,audit=noisy"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cluster_library_is_heard_where_it_is_named() {
        let directives = |text: &str| text.parse::<LogFilter>().expect("a filter").directives().to_string();
        assert!(directives("info").contains("openraft=off"));
        assert!(directives("info,openraft=warn").contains("openraft=warn"));
    }

    #[test]
    fn lines_are_for_the_journal_only_where_it_reads_them() {
        let file = tempfile::tempfile().expect("a file");
        let stat = rustix::fs::fstat(&file).expect("a file");
        let named = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(&file, Some(&named)));
        assert!(!is_journal(File::open("/dev/null").expect("a device"), Some(&named)));
        assert!(!is_journal(&file, None) && !is_journal(&file, Some("journal")));
    }
}
