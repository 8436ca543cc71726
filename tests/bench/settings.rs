//! What the bare transfer may be told, so that the best of it can be looked for.

use clap::{Args, FromArgMatches as _, ValueEnum};
use p2p_proto::manifest::HashAlgorithm;
use serde::{Deserialize, Serialize};

/// Settings of both ends of the bare transfer; unsaid, the fastest found.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Settings {
    /// What pieces are checked with.
    #[arg(long, value_enum, default_value_t = Hash::Blake3)]
    pub hash: Hash,
    /// Largest datagram that path discovery tries.
    #[arg(long, default_value_t = 6500)]
    pub datagram_bytes: u16,
    /// Pieces asked for at once.
    #[arg(long, default_value_t = 4)]
    pub pieces_in_flight: usize,
    /// Socket buffers asked for.
    #[arg(long, default_value_t = 4096)]
    pub socket_buffer_kib: usize,
    /// Threads of each end's runtime; 0 for one that runs all on the main thread.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Bytes under way on the connection.
    #[arg(long, default_value_t = 8192)]
    pub window_kib: u32,
    /// Sets the file's space aside before anything is fetched.
    #[arg(long)]
    pub preallocate: bool,
    /// Shares a connection's room between streams, rather than one after the other.
    #[arg(long)]
    pub send_fairness: bool,
}

impl Settings {
    /// From the words that a command line would have.
    pub fn parse(words: &str) -> Result<Settings, clap::Error> {
        let command = Settings::augment_args(clap::Command::new("settings").no_binary_name(true));
        Settings::from_arg_matches(&command.try_get_matches_from(words.split_whitespace())?)
    }
}

/// What pieces are checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Hash {
    Blake3,
    Sha256,
    /// With the check for collision attacks, as the programs do it.
    Sha1,
    /// Nothing.
    None,
}

impl Hash {
    /// As manifests name it; `None` where nothing is checked.
    pub fn algorithm(self) -> Option<HashAlgorithm> {
        match self {
            Hash::Blake3 => Some(HashAlgorithm::Blake3),
            Hash::Sha256 => Some(HashAlgorithm::Sha256),
            Hash::Sha1 => Some(HashAlgorithm::Sha1),
            Hash::None => None,
        }
    }

    /// As `p2pctl upload_file --hash` has it.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Hash::Blake3 => Some("blake3"),
            Hash::Sha256 => Some("sha256"),
            Hash::Sha1 => Some("sha1"),
            Hash::None => None,
        }
    }
}
