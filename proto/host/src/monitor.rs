//! What whoever watches a program reads: `/metrics` in the text format of Prometheus, `/health`, over HTTP on this machine alone.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use hyper::http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use p2p_proto::reject::{ErrorCode, Reject};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// Connections at once: a few who watch, and somebody who looks.
const CONNECTIONS_MAX: usize = 8;

/// Longest head of a request, in bytes, the least that hyper takes. Bodies are not read.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long a connection may last, from its beginning to the last byte of the one answer on it.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// How long is waited when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Version of the document at `/health`; fields are only ever added.
const HEALTH_SCHEMA: u32 = 1;

/// An address and TCP port that only this machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(SocketAddr);

impl FromStr for LocalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<LocalAddress, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(LocalAddress(address)),
            Ok(address) => {
                Err(format!("`{address}` can be reached from elsewhere; it has to be 127.0.0.1:PORT or [::1]:PORT"))
            }
            Err(_) => Err(format!("`{text}` is no address and port; write it as 127.0.0.1:PORT")),
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is watched.
pub trait Watched: Send + Sync + 'static {
    /// The figures as they are now, as Prometheus reads them; `None` where the program does not tell them in time.
    fn figures(&self) -> impl Future<Output = Option<String>> + Send;

    /// Why the program does not do all of its work, in its own words alone; `None` where it does.
    fn fault(&self) -> impl Future<Output = Option<&'static str>> + Send;
}

/// The listening socket.
#[derive(Debug)]
pub struct Monitor {
    listener: TcpListener,
    deadline: Duration,
}

impl Monitor {
    /// Listens at `address`, and says so in the log.
    ///
    /// # Errors
    /// Why nobody can listen there, as a person is told.
    pub async fn listen(address: LocalAddress) -> Result<Monitor, Reject> {
        let refused = |error: io::Error| {
            let code = if error.kind() == io::ErrorKind::AddrInUse { ErrorCode::WRONG_STATE } else { ErrorCode::USAGE };
            Reject::new(code, format!("cannot listen for /metrics at {address}: {error}"))
                .hint("another address or port: --metrics ADDR:PORT, or `metrics` in the settings")
        };
        let listener = TcpListener::bind(address.0).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        info!(%address, "figures are told at /metrics and /health");
        Ok(Monitor { listener, deadline: CONNECTION_DEADLINE })
    }

    /// Tells everybody who asks. Never returns.
    pub async fn serve(self, watched: Arc<impl Watched>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "nobody can read figures for a moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Who comes too many is hung up on, and comes again.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let watched = Arc::clone(&watched);
            tokio::spawn(async move {
                if timeout(self.deadline, tell(stream, watched)).await.is_err() {
                    debug!("who reads figures is too slow");
                }
                drop(place);
            });
        }
    }
}

/// One request and its answer.
async fn tell(stream: TcpStream, watched: Arc<impl Watched>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let watched = Arc::clone(&watched);
        async move { Ok::<_, Infallible>(answer(&request, &*watched).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        debug!(%error, "figures were not read");
    }
}

async fn answer<B>(request: &Request<B>, watched: &impl Watched) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !names_this_machine(request.headers().get(HOST)) {
        return response(StatusCode::MISDIRECTED_REQUEST, TEXT, "ask by address, or as localhost\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "there is only something to read\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => match watched.figures().await {
            Some(figures) => response(StatusCode::OK, prometheus::TEXT_FORMAT, figures),
            None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the program does not tell in time\n"),
        },
        "/health" => {
            let reason = watched.fault().await;
            let health = Health { schema: HEALTH_SCHEMA, kind: "health", ok: reason.is_none(), reason };
            let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            response(status, "application/json", serde_json::to_string(&health).unwrap_or_default() + "\n")
        }
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /metrics and /health\n"),
    }
}

/// The document at `/health`.
#[derive(Debug, Serialize)]
struct Health {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    ok: bool,
    reason: Option<&'static str>,
}

/// Whether who asks knows whom: a page in a browser that has a name of its own lead here does not, and must not read.
fn names_this_machine(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
