//! A node of a network: its namespace, its cable to the router, and all that can happen to that.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Namespace, Router};
use crate::process::Process;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// The seconds that so many bytes take.
    pub fn seconds(self, bytes: u64) -> f64 {
        bytes as f64 * 8.0 / self.0 as f64
    }
}

/// What a shaped cable sends at once after a pause, in bytes: twice the largest batch that the kernel hands to a device as
/// one packet, so that none is too long to ever pass.
const BURST_BYTES: u64 = 128 * 1024;

/// How long a shaped cable keeps a packet before it drops those behind it, in milliseconds: a router's usual queue.
const QUEUE_MS: u64 = 50;

/// What a cable does to packets without anybody being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Loses so many of a hundred packets, either way.
    Loss(u8),
    /// Loses every packet that the node sends.
    Mute,
    /// Loses every packet that is sent to the node.
    Deaf,
}

/// One member of a network.
#[derive(Debug)]
pub struct Node {
    /// Where its programs run; they keep it alive.
    pub(crate) namespace: Arc<Namespace>,
    /// Between its cable and its namespace, where it has one.
    gateway: Option<Namespace>,
    router: Arc<Router>,
    cable: Cable,
    address: Ipv4Addr,
}

/// A cable between `eth0` of a namespace and the router.
#[derive(Debug)]
struct Cable {
    /// The router's interface.
    port: String,
    subnet: u8,
}

impl Node {
    pub(super) fn new(router: &Arc<Router>, name: &str) -> Result<Node, String> {
        let namespace = Arc::new(Namespace::new(name)?);
        let cable = Cable::connect(router, &namespace)?;
        let address = cable.address(2);
        Ok(Node { namespace, gateway: None, router: Arc::clone(router), cable, address })
    }

    pub(super) fn behind_gateway(router: &Arc<Router>, name: &str) -> Result<Node, String> {
        let (namespace, gateway) = (Arc::new(Namespace::new(name)?), Namespace::new("gateway")?);
        let cable = Cable::connect(router, &gateway)?;
        let inside = |host| Ipv4Addr::new(192, 168, cable.subnet, host);
        gateway.set("ipv4/ip_forward", "1")?;
        // Translating lets in whoever knows the addresses inside; gateways at home let in only what was asked for.
        gateway.nft(
            "table ip gateway {
                chain translate { type nat hook postrouting priority 100; oifname eth0 masquerade; }
                chain forward { type nat hook prerouting priority -100; }
                chain refuse { type filter hook forward priority 0; iifname eth0 ct state new drop; }
            }",
        )?;
        namespace.ip(&format!("link add eth0 type veth peer name inside netns {}", gateway.name))?;
        gateway.ip(&format!("addr add {}/24 dev inside", inside(1)))?;
        gateway.ip("link set inside up")?;
        namespace.ip(&format!("addr add {}/24 dev eth0", inside(2)))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip(&format!("route add default via {}", inside(1)))?;
        let address = inside(2);
        Ok(Node { namespace, gateway: Some(gateway), router: Arc::clone(router), cable, address })
    }

    /// Runs `work` on a thread of its own in the node's namespace: sockets that it makes stay in there.
    ///
    /// # Panics
    /// If `work` does, or if the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(work)
    }

    /// `command`, to be run here: in its folder, with its environment.
    pub fn command(&self, command: &Command) -> Command {
        self.namespace.command(command)
    }

    /// Starts a program here, as [`Process::start`] does.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn start(&self, name: &str, command: &Command, log: PathBuf, ready: &str) -> Result<Process, String> {
        Process::start(name, self.namespace.command(command), log, ready)
    }

    /// Its address now, as it knows it itself.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// The cable is pulled out at the router: the node sees that, others do not.
    ///
    /// # Panics
    /// As all that changes a node: if a program fails, with what it said.
    pub fn cut(&self) {
        done(self.router.namespace.ip(&format!("link set {} down", self.cable.port)));
    }

    /// The cable is back.
    ///
    /// # Panics
    /// If a program fails.
    pub fn mend(&self) {
        done(self.router.namespace.ip(&format!("link set {} up", self.cable.port)));
    }

    /// From now on the router does this to its packets, silently, in place of what it did before.
    ///
    /// # Panics
    /// If a program fails.
    pub fn impair(&self, fault: Fault) {
        let port = &self.cable.port;
        let rules = match fault {
            Fault::Loss(percent) => {
                let lost = format!("numgen random mod 100 < {percent} drop");
                format!("iifname {port} {lost}; oifname {port} {lost};")
            }
            Fault::Mute => format!("iifname {port} drop;"),
            Fault::Deaf => format!("oifname {port} drop;"),
        };
        done(self.set_rules(&rules));
    }

    /// The router lets its packets pass again.
    ///
    /// # Panics
    /// If a program fails.
    pub fn repair(&self) {
        done(self.set_rules(""));
    }

    /// Shapes its cable to `rate`, each way.
    ///
    /// # Panics
    /// If a program fails.
    pub fn shape(&self, rate: Rate) {
        let bucket = format!("root tbf rate {}bit burst {BURST_BYTES} latency {QUEUE_MS}ms", rate.0);
        let end = self.gateway.as_ref().unwrap_or(self.namespace.as_ref());
        done(end.tc(&format!("qdisc replace dev eth0 {bucket}")));
        done(self.router.namespace.tc(&format!("qdisc replace dev {} {bucket}", self.cable.port)));
    }

    /// Another address on the same cable; the one before is gone.
    ///
    /// # Panics
    /// If a program fails.
    pub fn change_address(&mut self) {
        const ANOTHER_HOST: u8 = 3;
        let address = self.cable.address(ANOTHER_HOST);
        done(self.namespace.ip("addr flush dev eth0 scope global"));
        done(self.cable.configure(&self.namespace, address));
        self.address = address;
    }

    /// Its gateway passes on to it whatever comes, as people set it up who want to be reached.
    ///
    /// # Panics
    /// If a program fails, or if it has no gateway.
    pub fn forward_everything(&self) {
        let gateway = self.gateway.as_ref().expect("a node behind a gateway");
        done(gateway.nft(&format!(
            "flush chain ip gateway refuse
            add rule ip gateway forward iifname eth0 meta l4proto udp dnat to {}",
            self.address
        )));
    }

    /// The interface is gone, and there is another one with another cable, in another subnet: its gateway's, where it has
    /// one.
    ///
    /// # Panics
    /// If a program fails.
    pub fn swap_interface(&mut self) {
        let end = self.gateway.as_ref().unwrap_or(self.namespace.as_ref());
        done(end.ip("link del eth0"));
        self.cable = Cable::connect(&self.router, end).unwrap_or_else(|error| panic!("{error}"));
        if self.gateway.is_none() {
            self.address = self.cable.address(2);
        }
    }

    /// An address of another node's that this one pretends to have: what it sends from there is answered elsewhere.
    ///
    /// # Panics
    /// If a program fails.
    pub fn pretend_to_be(&self, address: IpAddr) {
        done(self.namespace.ip(&format!("addr add {address}/32 dev lo")));
    }

    /// Counts from now on the UDP payload that this node gets from an address and sends there.
    ///
    /// # Panics
    /// If a program fails.
    pub fn count_traffic_with(&self, other: IpAddr) -> Traffic<'_> {
        done(self.namespace.nft(&format!(
            "table ip traffic {{
                counter received {{ }}
                counter sent {{ }}
                chain in {{ type filter hook input priority 0; ip protocol udp ip saddr {other} counter name received; }}
                chain out {{ type filter hook output priority 0; ip protocol udp ip daddr {other} counter name sent; }}
            }}"
        )));
        Traffic(&self.namespace)
    }

    fn set_rules(&self, rules: &str) -> Result<(), String> {
        let port = &self.cable.port;
        self.router.namespace.nft(&format!(
            "table ip {port} {{ }}
            flush table ip {port}
            table ip {port} {{
                chain pass {{ type filter hook forward priority 0; {rules} }}
            }}"
        ))
    }
}

/// What a node exchanges with one address.
#[derive(Debug)]
pub struct Traffic<'a>(&'a Namespace);

impl Traffic<'_> {
    /// Bytes of UDP payload received and sent.
    ///
    /// # Panics
    /// If a program fails.
    pub fn payload_bytes(&self) -> (u64, u64) {
        (self.payload("received"), self.payload("sent"))
    }

    fn payload(&self, counter: &str) -> u64 {
        const HEADERS_BYTES: u64 = 20 + 8;
        let said = self.0.nft_list(&format!("counter ip traffic {counter}")).unwrap_or_else(|error| panic!("{error}"));
        let number = |word: &str| {
            let mut words = said.split_whitespace().skip_while(|it| *it != word);
            words.nth(1).and_then(|number| number.parse::<u64>().ok())
        };
        match (number("packets"), number("bytes")) {
            (Some(packets), Some(bytes)) => bytes - packets * HEADERS_BYTES,
            _ => panic!("not a counter: {said}"),
        }
    }
}

impl Cable {
    /// A new cable between the router and `end`, whose `eth0` it becomes, in a subnet of its own.
    fn connect(router: &Router, end: &Namespace) -> Result<Cable, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let port = format!("cable{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let cable = Cable { port, subnet: router.subnet()? };
        let (port, router) = (&cable.port, &router.namespace);
        router.ip(&format!("link add {port} type veth peer name eth0 netns {}", end.name))?;
        router.ip(&format!("addr add {}/24 dev {port}", cable.address(1)))?;
        router.ip(&format!("link set {port} up"))?;
        cable.configure(end, cable.address(2))?;
        Ok(cable)
    }

    /// Gives `end` an address and the way to everybody else.
    fn configure(&self, end: &Namespace, address: Ipv4Addr) -> Result<(), String> {
        end.ip("link set eth0 up")?;
        end.ip(&format!("addr add {address}/24 dev eth0"))?;
        end.ip(&format!("route replace default via {}", self.address(1)))
    }

    /// The address of a host in its subnet; the router is 1.
    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, host)
    }
}

fn done(result: Result<(), String>) {
    result.unwrap_or_else(|error| panic!("{error}"));
}
