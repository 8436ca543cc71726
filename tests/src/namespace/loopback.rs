//! A machine of its own as far as the network goes: a loopback interface, and whom it silently does not connect.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Namespace, missing};

/// A namespace with nothing but a loopback interface.
#[derive(Debug)]
pub struct Loopback {
    namespace: Namespace,
}

impl Loopback {
    /// One in which everybody reaches everybody.
    ///
    /// # Errors
    /// What keeps this process from making networks.
    pub fn new() -> Result<Loopback, String> {
        match missing() {
            None => Ok(Loopback { namespace: Namespace::new("loopback")? }),
            Some(reason) => Err(reason),
        }
    }

    /// Runs `work` on a thread of its own in there, with all threads and programs that it starts.
    ///
    /// # Panics
    /// If `work` does, or if the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(work)
    }

    /// From now on no datagram passes between `one` and those `others`, or anybody: it is lost without a word, as behind a
    /// cable that is cut somewhere.
    ///
    /// # Panics
    /// If `nft` fails.
    pub fn cut_off(&self, one: SocketAddr, others: Option<&Vec<SocketAddr>>) {
        let (address, port) = (one.ip(), one.port());
        let mut rules = String::new();
        match others {
            None => {
                let _ =
                    write!(rules, "ip daddr {address} udp dport {port} drop\nip saddr {address} udp sport {port} drop");
            }
            Some(others) => {
                for other in others {
                    for (from, to) in [(&one, other), (other, &one)] {
                        let (from, from_port, to, to_port) = (from.ip(), from.port(), to.ip(), to.port());
                        let _ = writeln!(
                            rules,
                            "ip saddr {from} udp sport {from_port} ip daddr {to} udp dport {to_port} drop"
                        );
                    }
                }
            }
        }
        // Where it comes in: whoever sends it is told nothing.
        let chain = format!("chain cut {{ type filter hook input priority 0\n{rules}\n}}");
        self.namespace.nft(&format!("table inet chaos {{ {chain}\n}}")).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Everybody reaches everybody again.
    ///
    /// # Panics
    /// If `nft` fails.
    pub fn mend(&self) {
        self.namespace.nft("delete table inet chaos").unwrap_or_else(|error| panic!("{error}"));
    }
}
