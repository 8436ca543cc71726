//! The store as openraft's own tests want it.

use openraft::testing::{StoreBuilder, Suite};

use super::*;
use types::StorageError;

/// Makes stores on files.
struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(Store::open(folder.path()).expect("a new log").with_gaps());
        let failure = Failure::new();
        let machine = StateMachine::load(Arc::clone(&store), failure.clone(), heard(|_| {})).expect("loads");
        Ok((folder, LogStore::new(store, failure, Stalls::new()), machine))
    }
}

#[test]
fn the_store_passes_the_tests_of_openraft() {
    Suite::test_all(Builder).expect("passes");
}
