//! Every bound that both ends of a wire must agree on, with its unit in its name and its reason beside it.

/// Longest name of a user, group or file, in bytes: what common file systems take for one component.
pub const NAME_BYTES_MAX: usize = 255;

/// Smallest piece, in bytes. Large enough that a request costs nothing beside its payload, small enough to be re-fetched.
pub const PIECE_BYTES_MIN: u64 = 512 * 1024;

/// Largest encoded manifest, in bytes: 524,280 digests of 32 bytes, so 512 KiB pieces up to 256 GiB.
pub const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Largest encoded table of a folder's files, in bytes: half of its manifest, whose other half holds the digests of 512 KiB
/// pieces up to 128 GiB.
pub const FOLDER_TABLE_BYTES_MAX: u64 = MANIFEST_BYTES_MAX / 2;

/// Files in a folder. Each is made, opened and looked at by its name: with more of them a single command would keep a disk
/// busy for minutes.
pub const FOLDER_FILES_MAX: usize = 100_000;

/// Longest path of a file within its folder, in bytes: half of what Linux takes in one call, so that other programs can open it
/// beneath a path of the receiver's.
pub const FOLDER_PATH_BYTES_MAX: usize = 2048;

/// Folders within each other, the file's own name counted: no program has to be ready for more.
pub const FOLDER_DEPTH_MAX: usize = 64;

/// Largest piece, in bytes: with it a manifest of [`MANIFEST_BYTES_MAX`] covers 16 TiB, and a piece still fits a buffer.
pub const PIECE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Largest frame of the tracker protocol, in bytes: a page of listings or announcements.
pub const TRACKER_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Largest frame that a peer may send, in bytes, apart from have-maps.
pub const PEER_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Largest have-map frame, in bytes: one bit for each of the pieces a manifest can hold (SHA-1 digests: 838,860), and a header.
pub const HAVE_MAP_FRAME_BYTES_MAX: usize = 128 * 1024;

/// Largest frame on the control socket, in bytes: the longest table a daemon shows.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a file in one frame of a stream: little memory for each command that reads one, and few frames.
pub const STREAM_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Largest first frame on any wire, in bytes: a Hello is read before anything is known of who sends it.
pub const HELLO_FRAME_BYTES_MAX: usize = 1024;

/// Items in one announce, lookup or listing page: keeps a frame below [`TRACKER_FRAME_BYTES_MAX`] with names of any length.
pub const PAGE_ITEMS_MAX: usize = 300;

/// Addresses taken for one node: more would let a tracker or a peer aim many dials at a victim.
pub const NODE_ADDRESSES_MAX: usize = 8;

/// Providers returned by one lookup: a download talks to this many peers at the most.
pub const LOOKUP_PROVIDERS_MAX: usize = 50;

/// Pieces told in one `Have` message.
pub const HAVE_PIECES_MAX: usize = 1024;

/// Longest software name in a Hello, in bytes.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// Longest message of a refusal, in bytes; longer ones are cut when they are made.
pub const REJECT_TEXT_BYTES_MAX: usize = 1024;

/// Lowest limit of a rate, in bytes per second: at twice the slowest rate that a request is waited for at, two pieces can be
/// sent at once and neither is given up.
pub const RATE_LIMIT_BYTES_PER_SECOND_MIN: u64 = 2 * 16 * 1024;

/// A password's bounds, in bytes: one character would be a typing error, a mebibyte an attack on the key stretching.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How long a grant lives, in seconds: the longest that a removed member can still be served with every tracker down.
pub const GRANT_LIFE_SECONDS: u64 = 600;

/// How long a tracker that has lost sight of its majority goes on granting what it knew last, in seconds: time enough to
/// bring another tracker back, and the longest that somebody removed elsewhere meanwhile can get grants.
pub const GRANTS_WITHOUT_MAJORITY_SECONDS: u64 = 3600;

/// How far two honest clocks may stand apart, in seconds.
pub const CLOCK_LEEWAY_SECONDS: u64 = 300;

/// How long it is remembered that grants were revoked, in seconds: until all that were issued by somebody who had not heard
/// of it have ended, on a clock that is off by as much as is forgiven.
pub const REVOCATION_SECONDS: u64 = GRANTS_WITHOUT_MAJORITY_SECONDS + GRANT_LIFE_SECONDS + CLOCK_LEEWAY_SECONDS;
