//! Input in pieces. Standard input is read by a thread: a read of a terminal can't be given up.

use std::io::Read;

use tokio::sync::mpsc;

/// Bytes of a piece; the daemon takes messages of 32 KiB.
const PIECE: usize = 16 << 10;

/// Pieces that wait to be sent.
const WAITING: usize = 4;

/// Where input comes from.
#[derive(Debug)]
pub(crate) struct Input {
    pieces: mpsc::Receiver<Vec<u8>>,
}

impl Input {
    /// What `from` has, read by a thread of its own.
    pub(crate) fn of(mut from: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING);
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                match from.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    // What can't be read has ended.
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        if sender.blocking_send(buffer[..read].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self { pieces }
    }

    /// The next piece; none at the end.
    pub(crate) async fn recv(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }
}
