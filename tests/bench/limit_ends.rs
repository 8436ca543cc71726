//! The two ends of the bare transfer: QUIC, TLS with both keys, a stream a piece, a hash and a write, and nothing else. No
//! line of the daemon's runs here.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clap::Args;
use p2p_proto::geometry::{Geometry, PieceIndex};
use p2p_proto::id::NodeId;
use p2p_proto::identity::Identity;
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::tls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig,
};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::net::sockopt;

use crate::Outcome;
use crate::settings::Settings;

/// The protocol's name in the handshake.
const ALPN: &[u8] = b"limit";

/// The request for what a manifest says: not a piece's number.
const DESCRIPTION: u32 = u32::MAX;

/// The server's command line.
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[arg(long)]
    listen: IpAddr,
    #[arg(long)]
    file: PathBuf,
    #[arg(long)]
    settings: String,
}

/// The client's command line.
#[derive(Debug, Args)]
pub struct FetchArguments {
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    node_id: NodeId,
    #[arg(long)]
    destination: PathBuf,
    #[arg(long)]
    settings: String,
}

/// Serves a file until it is killed, or its standard input ends.
pub fn serve(arguments: &ServeArguments) -> Outcome<()> {
    let settings: Settings = serde_json::from_str(&arguments.settings)?;
    let served = Arc::new(Served::open(&arguments.file, settings.hash.algorithm())?);
    end_with_input();
    runtime(&settings)?.block_on(async {
        let identity = Identity::generate()?;
        let crypto = QuicServerConfig::try_from(tls::server_config(&identity, &[ALPN])?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport(&settings)));
        let endpoint = endpoint(SocketAddr::new(arguments.listen, 0), Some(config), &settings)?;
        say(&format!("ready {} {}", endpoint.local_addr()?, identity.node_id()))?;
        while let Some(incoming) = endpoint.accept().await {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, recv)) = connection.accept_bi().await {
                    // A client that goes away is no matter of the server's.
                    tokio::spawn(Arc::clone(&served).answer(send, recv));
                }
            });
        }
        Ok(())
    })
}

/// A file with all that is asked of it.
struct Served {
    file: File,
    geometry: Geometry,
    digests: Vec<u8>,
    spare: Spare,
}

impl Served {
    fn open(path: &Path, hash: Option<HashAlgorithm>) -> Outcome<Served> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let geometry = Geometry::new(file.metadata()?.len(), PIECE_BYTES_MIN)?;
        let mut digests = Vec::new();
        let mut piece = vec![0; PIECE_BYTES_MIN as usize];
        for index in geometry.pieces().filter(|_| hash.is_some()) {
            piece.resize(geometry.piece_bytes(index) as usize, 0);
            file.read_exact_at(&mut piece, geometry.byte_range(index).start)?;
            if let Some(hash) = hash {
                hash.digest_into(&piece, &mut digests)?;
            }
        }
        Ok(Served { file, geometry, digests, spare: Spare::default() })
    }

    async fn answer(self: Arc<Served>, mut send: SendStream, mut recv: RecvStream) -> Outcome<()> {
        let mut request = [0; 4];
        recv.read_exact(&mut request).await?;
        let answer = match u32::from_le_bytes(request) {
            DESCRIPTION => {
                let length = self.geometry.length().to_le_bytes();
                length.into_iter().chain(self.digests.iter().copied()).collect::<Vec<u8>>().into()
            }
            number => {
                let piece = self.geometry.piece(number).ok_or("no such piece")?;
                let mut lent = self.spare.take(self.geometry.piece_bytes(piece) as usize);
                // From the page cache, which takes less time than another thread would.
                self.file.read_exact_at(&mut lent.bytes, self.geometry.byte_range(piece).start)?;
                Bytes::from_owner(lent)
            }
        };
        send.write_chunk(answer).await?;
        Ok(send.finish()?)
    }
}

/// Buffers to use again.
#[derive(Default, Clone)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self, length: usize) -> Lent {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.resize(length, 0);
        Lent { bytes, home: self.clone() }
    }
}

/// A buffer that goes back once all of it is acknowledged.
struct Lent {
    bytes: Vec<u8>,
    home: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// Fetches the server's file when it is told to, and waits to be killed.
pub fn fetch(arguments: &FetchArguments) -> Outcome<()> {
    let settings: Settings = serde_json::from_str(&arguments.settings)?;
    let runtime = runtime(&settings)?;
    let identity = Identity::generate()?;
    say("ready")?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    runtime.block_on(async {
        let any = SocketAddr::new(if arguments.server.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        let endpoint = endpoint(any, None, &settings)?;
        let expected = Some(arguments.node_id);
        let crypto = QuicClientConfig::try_from(tls::client_config(&identity, ALPN, expected)?)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport(&settings)));
        let connection = endpoint.connect_with(config, arguments.server, &tls::server_name(expected))?.await?;
        fetch_all(connection, &settings, &arguments.destination).await
    })?;
    say("done")?;
    // What it cost is looked at before it ends.
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// What is fetched.
struct Wanted {
    connection: Connection,
    geometry: Geometry,
    hash: Option<HashAlgorithm>,
    digests: Vec<u8>,
    file: File,
    next: AtomicU32,
}

async fn fetch_all(connection: Connection, settings: &Settings, destination: &Path) -> Outcome<()> {
    let description = ask(&connection, DESCRIPTION).await?.read_to_end(1 << 26).await?;
    let (length, digests) = description.split_first_chunk().ok_or("the description is cut short")?;
    let geometry = Geometry::new(u64::from_le_bytes(*length), PIECE_BYTES_MIN)?;
    let part = destination.with_extension("part");
    let file = File::create(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    if settings.preallocate {
        fallocate(&file, FallocateFlags::empty(), 0, geometry.length())?;
    }
    let (digests, hash, next) = (digests.to_vec(), settings.hash.algorithm(), AtomicU32::new(0));
    let wanted = Arc::new(Wanted { connection, geometry, hash, digests, file, next });
    let tasks: Vec<_> = (0..settings.pieces_in_flight).map(|_| tokio::spawn(Arc::clone(&wanted).fetch())).collect();
    for task in tasks {
        task.await??;
    }
    wanted.file.sync_data()?;
    std::fs::rename(&part, destination)?;
    File::open(destination.parent().ok_or("no folder")?)?.sync_all()?;
    Ok(())
}

impl Wanted {
    /// Fetches pieces that nobody has fetched until there is none.
    async fn fetch(self: Arc<Wanted>) -> Outcome<()> {
        let mut buffer = vec![0; PIECE_BYTES_MIN as usize];
        while let Some(piece) = self.geometry.piece(self.next.fetch_add(1, Ordering::Relaxed)) {
            buffer.resize(self.geometry.piece_bytes(piece) as usize, 0);
            let mut recv = ask(&self.connection, piece.0).await?;
            let mut filled = 0;
            while filled < buffer.len() {
                filled += recv.read(&mut buffer[filled..]).await?.ok_or("the server broke off")?;
            }
            if recv.read_chunk(1, true).await?.is_some() {
                return Err("more came than was asked for".into());
            }
            if !self.verify(piece, &buffer) {
                return Err(format!("piece {} is damaged", piece.0).into());
            }
            self.file.write_all_at(&buffer, self.geometry.byte_range(piece).start)?;
        }
        Ok(())
    }

    fn verify(&self, piece: PieceIndex, bytes: &[u8]) -> bool {
        let Some(hash) = self.hash else { return true };
        let start = piece.as_usize() * hash.digest_bytes();
        self.digests.get(start..start + hash.digest_bytes()).is_some_and(|digest| hash.verify(bytes, digest))
    }
}

/// Opens a stream and asks for a piece.
async fn ask(connection: &Connection, number: u32) -> Outcome<RecvStream> {
    let (mut send, recv) = connection.open_bi().await?;
    send.write_all(&number.to_le_bytes()).await?;
    send.finish()?;
    Ok(recv)
}

fn runtime(settings: &Settings) -> Outcome<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let mut builder = match settings.workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(settings.workers.max(1)).enable_all().build()?)
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>, settings: &Settings) -> Outcome<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    sockopt::set_socket_recv_buffer_size(&socket, settings.socket_buffer_kib << 10)?;
    sockopt::set_socket_send_buffer_size(&socket, settings.socket_buffer_kib << 10)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(settings.datagram_bytes)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

fn transport(settings: &Settings) -> TransportConfig {
    let mut mtu_discovery = MtuDiscoveryConfig::default();
    mtu_discovery.upper_bound(settings.datagram_bytes);
    let window = settings.window_kib << 10;
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(window.min(1 << 20).into())
        .receive_window(window.into())
        .send_window(window.into())
        .send_fairness(settings.send_fairness)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(mtu_discovery));
    config
}

/// A line for who started this.
fn say(line: &str) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// Ends this process when whoever started it is gone.
fn end_with_input() {
    std::thread::spawn(|| {
        while std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0) {}
        std::process::exit(0);
    });
}
