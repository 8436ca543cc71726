//! A file's bytes on their way to standard output.
//!
//! They are written by a thread of its own, which may wait for whoever reads them while the command hears Ctrl-C; it ends
//! with the process, wherever it is.

use std::io::{self, Write as _};

use tokio::sync::{mpsc, oneshot};

use crate::error::Failure;
use crate::render::output_failure;

/// Frames of bytes that wait to be written: one is written, the next is here.
const WAITING_MAX: usize = 1;

/// Standard output, as a file's bytes see it.
pub struct FileOutput {
    /// Taken back when all is written.
    chunks: Option<mpsc::Sender<Vec<u8>>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl FileOutput {
    /// Takes standard output over, to which nothing else may be written from now on.
    pub fn start() -> FileOutput {
        let (chunks, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let mut stdout = io::stdout().lock();
            let mut write = || -> io::Result<()> {
                while let Some(chunk) = waiting.blocking_recv() {
                    stdout.write_all(&chunk)?;
                }
                stdout.flush()
            };
            let result = write();
            drop(waiting);
            // Nobody hears it where the command has been interrupted.
            let _ = end.send(result);
        });
        FileOutput { chunks: Some(chunks), ended }
    }

    /// Writes the next bytes as soon as those before them are written.
    pub async fn write(&mut self, chunk: Vec<u8>) -> Result<(), Failure> {
        match &self.chunks {
            Some(chunks) if chunks.send(chunk).await.is_ok() => Ok(()),
            _ => self.finish().await,
        }
    }

    /// Waits until all is written.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        self.chunks = None;
        let ended = (&mut self.ended).await.unwrap_or_else(|_| Err(io::Error::other("its writer has ended")));
        ended.map_err(|error| output_failure(&error))
    }
}
