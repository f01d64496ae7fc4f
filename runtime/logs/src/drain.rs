//! Waiting for the rest of a process's outputs.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long after a process's end its output may stand still before its end is told all the
/// same. Copying goes on even then, until the process is deleted.
const STALLED: Duration = Duration::from_secs(10);

/// How long the rest of a process's output may take when the process is deleted. Containerd gives a
/// deletion ten seconds.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Longest time that a process's end may be held back by output that does move.
const LONGEST: Duration = Duration::from_mins(5);

/// Most bytes that may still come: what pipes and sockets on the way hold is far less. The
/// attack: a guest whose output has no end, so that nobody can stop its pod.
const REST: usize = 64 << 20;

/// The state of a process's outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Outputs that have not ended.
    pub open: usize,
    /// Bytes delivered; wraps around.
    pub bytes: usize,
}

/// Waits for a process's output.
#[derive(Debug)]
pub struct Drain(watch::Receiver<Flow>);

impl Drain {
    /// Waits for the outputs of which this tells.
    pub fn new(flow: watch::Receiver<Flow>) -> Self {
        Self(flow)
    }

    /// As [`Self::done`] before the process is deleted, which is not held back for long.
    pub async fn last(self) {
        if tokio::time::timeout(LAST_CALL, self.done()).await.is_err() {
            log::warn!("a process is deleted before all its output was read");
        }
    }

    /// Returns when all output was written, has not moved for ten seconds, or has no end.
    pub async fn done(mut self) {
        let (since, first) = (Instant::now(), self.0.borrow().bytes);
        loop {
            let Flow { open, bytes } = *self.0.borrow_and_update();
            if open == 0 {
                return;
            }
            if bytes.wrapping_sub(first) > REST || since.elapsed() > LONGEST {
                log::warn!("a process's output has no end; the process's end is told without it");
                return;
            }
            match tokio::time::timeout(STALLED, self.0.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    log::warn!("nobody reads a process's output; its end is told without it");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn endless(flow: watch::Sender<Flow>) {
        loop {
            flow.send_modify(|flow| flow.bytes = flow.bytes.wrapping_add(1 << 16));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn output_without_end_does_not_hold_back_the_end_of_its_process() {
        let (flow, watch) = watch::channel(Flow { open: 1, bytes: usize::MAX - 5 });
        let endless = tokio::spawn(endless(flow));
        let drained = tokio::time::timeout(Duration::from_secs(60), Drain(watch).done());
        drained.await.unwrap();
        endless.abort();
    }

    #[tokio::test]
    async fn output_that_ends_is_waited_for() {
        let (flow, watch) = watch::channel(Flow { open: 1, bytes: 0 });
        let drained = tokio::spawn(Drain(watch).done());
        tokio::task::yield_now().await;
        flow.send_modify(|flow| flow.bytes += 1);
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        flow.send_modify(|flow| flow.open = 0);
        drained.await.unwrap();
    }
}
