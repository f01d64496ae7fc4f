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
            while let Some(piece) = next(&mut from, &mut buffer)
                && sender.blocking_send(piece).is_ok()
            {}
        });
        Self { pieces }
    }

    /// The next piece; none at the end.
    pub(crate) async fn recv(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }
}

/// What can be read now; none at the end. What can't be read has ended.
fn next(from: &mut impl Read, buffer: &mut [u8]) -> Option<Vec<u8>> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return None,
            Ok(read) => return Some(buffer[..read].to_vec()),
        }
    }
}
