//! Keys of the tables: folded names, so that two names that look alike are one row.

use std::sync::Arc;

use p2p_proto::name::{FileName, GroupName, UserName};

/// Defines the key made from a checked name. Shared text: a user's key stands in every listing of that user.
macro_rules! define_key {
    ($(#[$doc:meta])* $key:ident from $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $key(Arc<str>);

        impl From<&$name> for $key {
            fn from(name: &$name) -> $key {
                $key(name.key().into())
            }
        }
    };
}

define_key! {
    /// A user's row.
    UserKey from UserName
}
define_key! {
    /// A group's row.
    GroupKey from GroupName
}
define_key! {
    /// A file's row, together with its owner's.
    FileKey from FileName
}

impl UserKey {
    /// Before every user's key, for the start of a range.
    pub(super) fn first() -> UserKey {
        UserKey("".into())
    }
}
