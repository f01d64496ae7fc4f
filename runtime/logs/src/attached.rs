//! Clients that see an output while it is produced (`kubectl attach`). The output's own end comes
//! first: a client that is too slow is dropped, and neither log nor container waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// How many pieces of output a client may lag behind; each is at most 16 KiB.
const BEHIND: usize = 64;

/// Most clients of one output at a time. Each holds at most 1 MiB.
const MOST: usize = 16;

type Piece = Arc<[u8]>;

/// The clients of one output. A copy is the same set.
#[derive(Debug, Clone, Default)]
pub struct Attached(Arc<Mutex<Clients>>);

#[derive(Debug, Default)]
struct Clients {
    queues: Vec<Sender<Piece>>,
    /// The output has ended.
    over: bool,
}

/// Why nobody more can be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} clients are attached already")]
pub struct TooMany;

impl Attached {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client that reads from the other end of `fifo`. It is told the end of the output by
    /// the end of the fifo: at once if the output is over. The future feeds it.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn add(
        &self,
        fifo: pipe::Sender,
    ) -> Result<impl Future<Output = ()> + Send + use<>, TooMany> {
        let (queue, pieces) = mpsc::channel(BEHIND);
        let mut clients = self.clients();
        clients.queues.retain(|queue| !queue.is_closed());
        if clients.queues.len() >= MOST {
            return Err(TooMany);
        }
        if !clients.over {
            clients.queues.push(queue);
        }
        Ok(feed(fifo, pieces))
    }

    /// Hands a piece of output to all clients. Those that lag too far behind are dropped: the end
    /// of their fifo comes after what they were given before.
    pub fn offer(&self, piece: &[u8]) {
        let mut clients = self.clients();
        if clients.queues.is_empty() {
            return;
        }
        let piece = Piece::from(piece);
        clients.queues.retain(|queue| {
            let taken = queue.try_send(piece.clone());
            if let Err(mpsc::error::TrySendError::Full(_)) = taken {
                log::warn!("a client that is attached reads too slowly: it is dropped");
            }
            taken.is_ok()
        });
    }

    /// The output is over.
    pub fn end(&self) {
        let mut clients = self.clients();
        clients.over = true;
        clients.queues.clear();
    }
}

async fn feed(mut fifo: pipe::Sender, mut pieces: Receiver<Piece>) {
    while let Some(piece) = pieces.recv().await {
        if let Err(error) = fifo.write_all(&piece).await {
            log::debug!("a client that was attached has gone: {error}");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn rest(mut client: pipe::Receiver) -> Vec<u8> {
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.unwrap();
        seen
    }

    fn attach(attached: &Attached) -> pipe::Receiver {
        let (fifo, client) = pipe::pipe().unwrap();
        tokio::spawn(attached.add(fifo).unwrap());
        client
    }

    #[tokio::test]
    async fn clients_see_what_comes_after_them_and_the_end() {
        let attached = Attached::default();
        attached.offer(b"nobody is there, ");
        let first = attach(&attached);
        attached.offer(b"one is there, ");
        let second = attach(&attached);
        attached.offer(b"both are there");
        attached.end();
        assert_eq!(rest(first).await, b"one is there, both are there");
        assert_eq!(rest(second).await, b"both are there");
        assert_eq!(rest(attach(&attached)).await, b"");
    }

    #[tokio::test]
    async fn client_that_does_not_read_is_dropped_and_the_others_see_all() {
        let attached = Attached::default();
        let (slow, quick) = (attach(&attached), attach(&attached));
        let all = tokio::spawn(rest(quick));
        let piece = [7; 16 << 10];
        for _ in 0..1000 {
            attached.offer(&piece);
            // What a quick client has is taken before the next piece comes.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        attached.end();
        assert_eq!(all.await.unwrap().len(), 1000 * piece.len());
        let seen = rest(slow).await.len();
        assert!(seen <= (BEHIND + 6) * piece.len(), "{seen}");
    }

    #[tokio::test]
    async fn clients_are_counted_and_those_that_have_gone_are_not() {
        let attached = Attached::default();
        let clients: Vec<_> = (0..MOST).map(|_| attach(&attached)).collect();
        let (fifo, _client) = pipe::pipe().unwrap();
        assert_eq!(attached.add(fifo).err(), Some(TooMany));
        drop(clients);
        attached.offer(b"x");
        while attached.clients().queues.iter().any(|queue| !queue.is_closed()) {
            tokio::task::yield_now().await;
        }
        drop(attach(&attached));
    }
}
