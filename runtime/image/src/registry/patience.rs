//! How long a registry is waited for, and how often it is asked again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::fault::{self, Fault};

/// How long a registry is waited for, and how often it is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For a connection, TLS included, where `hosts.toml` says nothing.
    pub connect: Duration,
    /// From a request to the header of its answer.
    pub answer: Duration,
    /// For a credential helper.
    pub program: Duration,
    /// For the next bytes of a body.
    pub silence: Duration,
    /// After so much waiting for bytes [`Patience::least`] of them must have come.
    pub window: Duration,
    /// How many bytes must come in a window.
    pub least: u64,
    /// How often a server is asked for a blob, unless it gets on.
    pub attempts: u32,
    /// After so many bytes of a blob attempts are counted anew.
    pub progress: u64,
    /// How often all servers are asked for a manifest.
    pub rounds: u32,
    /// Between the first attempt and the second. Each further pause is twice as long.
    pub first_pause: Duration,
    /// The longest pause, also if a server asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// 30 s to connect and 60 s without a byte, as in containerd; and at least 1 KiB/s over two
    /// minutes, below which containerd waits for ever.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            program: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            window: Duration::from_secs(120),
            least: 120 << 10,
            attempts: 5,
            progress: 1 << 20,
            rounds: 3,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// How long to wait after an attempt that failed; `failed` counts those before it. Up to a
    /// quarter is added by chance, so that the nodes of a cluster do not come all at once.
    pub(super) fn pause(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(failed));
        let least = doubled.max(asked.unwrap_or_default());
        let chance = u32::try_from(RandomState::new().hash_one(failed) % 256).unwrap_or_default();
        (least + least.min(self.longest_pause) / 1024 * chance).min(self.longest_pause)
    }
}

/// A watch over a body's bytes. Only the time counts in which somebody waits for them.
#[derive(Debug)]
pub(super) struct Watch {
    waited: Duration,
    bytes: u64,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { waited: Duration::ZERO, bytes: 0 }
    }

    /// The next bytes of a body. None: it ended.
    pub(super) async fn chunk(
        &mut self,
        patience: &Patience,
        body: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, Fault> {
        let began = Instant::now();
        let silent = |_| Fault::Silent { what: "bytes", seconds: patience.silence.as_secs() };
        let chunk = tokio::time::timeout(patience.silence, body.chunk()).await.map_err(silent)?;
        let chunk = chunk.map_err(|error| fault::of_transfer(&error))?;
        let Some(bytes) = chunk else { return Ok(None) };
        self.waited += began.elapsed();
        self.bytes += bytes.len() as u64;
        if self.waited >= patience.window {
            if self.bytes < patience.least {
                let seconds = self.waited.as_secs();
                return Err(Fault::Slow { bytes: self.bytes, seconds });
            }
            *self = Self::new();
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let patience = Patience::default();
        let second = Duration::from_secs(1);
        for (failed, least) in [(0, second / 2), (1, second), (3, 4 * second), (5, 16 * second)] {
            let pause = patience.pause(failed, None);
            assert!((least..=least * 5 / 4).contains(&pause), "{failed}: {pause:?}");
        }
        assert_eq!(patience.pause(u32::MAX, None), patience.longest_pause);
        assert!(patience.pause(0, Some(10 * second)) >= 10 * second);
        assert_eq!(patience.pause(0, Some(Duration::MAX / 2)), patience.longest_pause);
    }
}
