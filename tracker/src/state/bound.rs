//! How large the tables may grow. Anybody who reaches the tracker may make an account, so nothing is without a bound.

/// Accounts. About 500 bytes of memory each.
pub const USERS_MAX: usize = 500_000;

/// Nodes enrolled under one user: a fleet under one account. A revocation names each of them.
pub const NODES_PER_USER_MAX: usize = 1_024;

/// Groups of the tracker. About 500 bytes of memory each, without members and listings.
pub const GROUPS_MAX: usize = 500_000;

/// Groups that one user belongs to: logging out names each of them.
pub const GROUPS_PER_USER_MAX: usize = 1_000;

/// Requests to join that one user has waiting: keeps one user from filling every owner's table.
pub const REQUESTS_PER_USER_MAX: usize = 100;

/// Members of one group.
pub const MEMBERS_PER_GROUP_MAX: usize = 100_000;

/// Requests waiting at one group: more than an owner answers.
pub const REQUESTS_PER_GROUP_MAX: usize = 10_000;

/// Listings of one group.
pub const LISTINGS_PER_GROUP_MAX: usize = 1_000_000;

/// Listings of one user in the built-in group, which needs no member's word to list in: a thousand accounts fill it, and
/// making accounts is slowed down.
pub const PUBLIC_LISTINGS_PER_USER_MAX: usize = 1_000;

/// Listings of one user in all groups: who leaves a group takes theirs out of it at once, and everybody else waits for
/// that, some tenths of a second at the most. Forty accounts fill the tracker.
pub const LISTINGS_PER_USER_MAX: usize = 100_000;

/// Listings of the tracker. About 330 bytes of memory each, so a little over a gibibyte.
pub const LISTINGS_MAX: usize = 4_000_000;

/// Longest OPAQUE registration record, in bytes; the suite in use makes 192.
pub const RECORD_BYTES_MAX: usize = 1_024;

/// Recent revocations. About 200 bytes of memory each. More of them within [`p2p_proto::limit::REVOCATION_SECONDS`] make some daemons that
/// were away refuse grants that hold, which their holders then ask for again.
pub const REVOCATIONS_MAX: usize = 65_536;

/// Answers kept for retries: at 5,000 changes a second those of the last 13 seconds, about 5 MiB.
pub const REMEMBERED_MAX: usize = 65_536;
