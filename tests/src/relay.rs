//! A relay of datagrams between two programs, which can be muted: to them, a network that loses everything.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// How soon a thread of a relay that is gone ends.
const GONE_NOTICED: Duration = Duration::from_millis(200);

/// Stands before a program: what is sent to it reaches the program, and the answers come back.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    muted: AtomicBool,
    gone: AtomicBool,
}

impl Relay {
    /// A relay to `target`, on a free port of the same address.
    ///
    /// # Panics
    /// If the system gives no socket.
    pub fn to(target: SocketAddr) -> Relay {
        let front = Arc::new(socket(target).expect("a socket"));
        let address = front.local_addr().expect("bound");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || forward(&front, target, &shared));
        Relay { address, state }
    }

    /// Whether it loses everything from now on.
    pub fn mute(&self, muted: bool) {
        self.state.muted.store(muted, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }
}

fn socket(beside: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(beside.ip(), 0))?;
    socket.set_read_timeout(Some(GONE_NOTICED))?;
    Ok(socket)
}

/// Takes what comes to the relay to the program, from a socket of its own for each sender.
fn forward(front: &Arc<UdpSocket>, target: SocketAddr, state: &Arc<State>) {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    receive(front, state, |datagram, sender| {
        let back = senders.entry(sender).or_insert_with(|| {
            let back = Arc::new(socket(target).expect("a socket"));
            let (front, answers, state) = (Arc::clone(front), Arc::clone(&back), Arc::clone(state));
            std::thread::spawn(move || {
                receive(&answers, &state, |datagram, _| _ = front.send_to(datagram, sender));
            });
            back
        });
        // The program may be down: what is sent to it is lost, as on any network.
        let _ = back.send_to(datagram, target);
    });
}

/// Gives each datagram that comes and is not lost to `take`, until the relay is gone.
fn receive(socket: &UdpSocket, state: &State, mut take: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !state.gone.load(Ordering::Relaxed) {
        // An error is the time-out, or a datagram that met nobody.
        if let Ok((bytes, sender)) = socket.recv_from(&mut buffer)
            && !state.muted.load(Ordering::Relaxed)
        {
            take(&buffer[..bytes], sender);
        }
    }
}
