//! What a tracker takes: idle connections and their memory, lookups and durable changes a second over many connections.
//!
//! The tracker is the real program; its clients are the tests' own, so that no daemon is in the way. Each of them has a user,
//! a group and an address of its own. What is measured is all of this machine: clients and tracker share its processors, and a
//! change waits for this disk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use p2p_proto::id::ContentId;
use p2p_proto::name::{FileName, GroupName};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Answer, JoinPolicy, Request};
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::{Client, Key};
use p2p_tests::{Binaries, World, usage};
use quinn::{Endpoint, TransportConfig};
use tokio::task::JoinSet;

/// Connections from one address, below what the tracker takes from one.
const CONNECTIONS_PER_ADDRESS: usize = 512;

/// Connections that are made at once.
const CONNECTING_MAX: usize = 64;

/// Loads a tracker, and says what it took.
#[derive(Debug, Parser)]
struct Options {
    /// Connections that do nothing
    #[arg(long, default_value_t = 1_000)]
    idle: usize,

    /// Connections that ask, each for a user of its own; as many changes wait at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=250))]
    clients: u8,

    /// Lookups that each of them has under way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=16))]
    streams: u8,

    /// How long each kind of load lasts
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let mut world = World::at(IpAddr::V4(Ipv4Addr::LOCALHOST), Binaries::build(Stdio::inherit())?)?;
    let (tracker, process) = (world.tracker.address, world.tracker.process().id());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        idle(tracker, process, options.idle).await?;
        let users = enter(tracker, options.clients).await?;
        let rate = |what: &str, done: u64, time: Duration| {
            println!("{what:<44} {:>10.0} a second", done as f64 / time.as_secs_f64());
        };
        let time = Duration::from_secs(options.seconds);
        let (done, took) = load(&users, options.streams.into(), time, look_up).await?;
        rate("lookups", done, took);
        let (done, took) = load(&users, 1, time, change).await?;
        rate(&format!("durable changes, {} waiting", options.clients), done, took);
        // One in sixteen questions is a change, as where people publish and many look.
        let (done, took) = load(&users, options.streams.into(), time, mixed).await?;
        rate("both, one change to fifteen lookups", done, took);
        let resident = usage::resident_bytes(process).unwrap_or_default();
        println!("{:<44} {:>10} KiB", "memory of the tracker in the end", resident / 1024);
        Ok(())
    })
}

/// Makes connections that say no more than Hello, and what each of them costs the tracker.
async fn idle(tracker: SocketAddr, process: u32, count: usize) -> Result<(), String> {
    let before = usage::resident_bytes(process).ok_or("the system does not tell memory")?;
    let start = Instant::now();
    let mut lines = Vec::with_capacity(count);
    let mut connecting = JoinSet::new();
    let mut endpoint = None;
    for number in 0..count {
        if number % CONNECTIONS_PER_ADDRESS == 0 {
            let address = own_address(100, number / CONNECTIONS_PER_ADDRESS);
            endpoint = Some(Endpoint::client(SocketAddr::new(address, 0)).map_err(|error| error.to_string())?);
        }
        let Some(endpoint) = endpoint.clone() else { continue };
        if connecting.len() >= CONNECTING_MAX {
            lines.push(joined(connecting.join_next().await)?);
        }
        connecting.spawn(async move {
            let connected = Client::connect_on(endpoint, tracker, &Key::new(), TransportConfig::default()).await;
            connected.map_err(|close| format!("the tracker refuses connection {number}: {close:?}"))
        });
    }
    while !connecting.is_empty() {
        lines.push(joined(connecting.join_next().await)?);
    }
    let took = start.elapsed();
    let after = usage::resident_bytes(process).ok_or("the system does not tell memory")?;
    let each = after.saturating_sub(before) as f64 / 1024.0 / count.max(1) as f64;
    println!("{:<44} {:>10.0} a second", "new connections", count as f64 / took.as_secs_f64());
    println!("{:<44} {each:>10.1} KiB", format!("memory of each of {count} idle connections"));
    Ok(())
}

/// A user with a group and a listing in it.
struct User {
    client: Client,
    group: GroupName,
    born: UnixMillis,
    /// Listings made so far: each has another content.
    listed: AtomicU64,
}

/// Makes as many users, each from an address of its own, since attempts are counted by address.
async fn enter(tracker: SocketAddr, count: u8) -> Result<Vec<Arc<User>>, String> {
    let mut entering = JoinSet::new();
    for number in 0..usize::from(count) {
        entering.spawn(async move {
            let name = format!("user-{number}");
            let client = Client::enter(own_address(101, number), tracker, &Key::new(), &name, "a password").await;
            let group: GroupName = named(&format!("group-{number}"));
            let asked = |request| async { client.ask(request).await.map_err(|reject| reject.message) };
            asked(Request::CreateGroup { group: group.clone(), policy: JoinPolicy::Public }).await?;
            let born = match asked(Request::GroupInfo { group: group.clone() }).await? {
                Answer::Groups(groups) => groups.first().map(|group| group.born),
                _ => None,
            };
            let born = born.ok_or("the tracker does not tell the group")?;
            let user = Arc::new(User { client, group, born, listed: AtomicU64::new(0) });
            change(Arc::clone(&user), 0).await?;
            Ok(user)
        });
    }
    let mut users = Vec::new();
    while !entering.is_empty() {
        users.push(joined(entering.join_next().await)?);
    }
    Ok(users)
}

/// Has every user do the same again and again, `streams` times at once; how often it was done, and in which time.
async fn load<F>(
    users: &[Arc<User>],
    streams: u64,
    time: Duration,
    work: fn(Arc<User>, u64) -> F,
) -> Result<(u64, Duration), String>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut working = JoinSet::new();
    for user in users {
        for stream in 0..streams {
            let (user, over) = (Arc::clone(user), Arc::clone(&over));
            working.spawn(async move {
                let mut done = 0;
                while !over.load(Ordering::Relaxed) {
                    // Streams do not all change at the same time.
                    work(Arc::clone(&user), done + stream).await?;
                    done += 1;
                }
                Ok(done)
            });
        }
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut done = 0;
    while !working.is_empty() {
        done += joined(working.join_next().await)?;
    }
    Ok((done, start.elapsed()))
}

async fn look_up(user: Arc<User>, _: u64) -> Result<(), String> {
    let content = content_of(user.listed.load(Ordering::Relaxed), &user.group);
    let looked = user.client.ask(Request::Lookup { group: user.group.clone(), content }).await;
    looked.map(drop).map_err(|reject| format!("a lookup is refused: {}", reject.message))
}

/// Lists another content under the one name.
async fn change(user: Arc<User>, _: u64) -> Result<(), String> {
    let number = user.listed.load(Ordering::Relaxed) + 1;
    let name: FileName = named("file");
    let content = content_of(number, &user.group);
    let (group, born) = (user.group.clone(), Some(user.born));
    let publish = Request::Publish { group, name, content, length: 1 << 20, replace: true, born };
    user.client.ask(publish).await.map_err(|reject| format!("a change is refused: {}", reject.message))?;
    user.listed.fetch_max(number, Ordering::Relaxed);
    Ok(())
}

async fn mixed(user: Arc<User>, number: u64) -> Result<(), String> {
    // What was looked for may have been replaced meanwhile: both are answers.
    if number.is_multiple_of(16) { change(user, number).await } else { look_up(user, number).await.or(Ok(())) }
}

/// A content that only this listing has.
fn content_of(number: u64, group: &GroupName) -> ContentId {
    let mut bytes = [0; ContentId::BYTES];
    let name = group.as_str().bytes().chain(std::iter::repeat(0));
    bytes.iter_mut().zip(number.to_le_bytes().into_iter().chain(name)).for_each(|(byte, value)| *byte = value);
    ContentId(bytes)
}

/// A loopback address that nobody else here uses.
fn own_address(second: u8, number: usize) -> IpAddr {
    let [.., third, fourth] = number.to_be_bytes();
    Ipv4Addr::new(127, second, third, fourth.wrapping_add(1)).into()
}

/// What a task came to.
fn joined<T>(task: Option<Result<Result<T, String>, tokio::task::JoinError>>) -> Result<T, String> {
    match task {
        Some(ended) => ended.map_err(|error| error.to_string())?,
        None => Err("no task is left".to_owned()),
    }
}
