//! The first thing that went wrong with the log; whoever hears of it ends the process.

use std::sync::Arc;

use openraft::StorageIOError;
use openraft::{AnyError, ErrorSubject, ErrorVerb};
use tokio::sync::watch;
use tracing::error;

use super::error::LogError;
use super::types::StorageError;

/// Where a failure is told. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Failure(Arc<watch::Sender<Option<Arc<LogError>>>>);

impl Failure {
    pub fn new() -> Failure {
        Failure(Arc::new(watch::channel(None).0))
    }

    /// Tells it, unless something has failed before. Nothing is tried again: what is on disk is unknown.
    pub fn tell(&self, failure: LogError) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                error!(error = %failure, "the log has failed, so this tracker ends");
                *first = Some(Arc::new(failure));
            }
            is_first
        });
    }

    /// What has failed, if anything.
    pub fn first(&self) -> Option<Arc<LogError>> {
        self.0.borrow().clone()
    }

    /// Waits until something has failed.
    pub async fn wait(&self) -> Arc<LogError> {
        let mut failure = self.0.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // The sender is this one.
            _ => std::future::pending().await,
        }
    }

    /// The result as openraft takes it; an error is told first.
    #[expect(clippy::result_large_err, reason = "its size is openraft's")]
    pub fn check<T>(&self, verb: ErrorVerb, result: Result<T, LogError>) -> Result<T, StorageError> {
        result.map_err(|failure| {
            let shown = AnyError::error(failure.to_string());
            self.tell(failure);
            StorageIOError::new(ErrorSubject::Store, verb, shown).into()
        })
    }
}
