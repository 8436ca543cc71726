//! Text from others made harmless for a terminal, and words made ready for a shell.

pub use p2p_proto::escape::{escape, shell_word};
