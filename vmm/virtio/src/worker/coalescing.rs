//! How many finished requests are worth one interrupt.
//!
//! A disk whose data the host has in memory is done before a driver with one CPU can ask for more.
//! Were each request an interrupt, the guest would do little else than handle them. So requests are
//! held back as `vIC` does it (Ahmad, Gulati, Mashtizadeh, "vIC: Interrupt Coalescing for Virtual
//! Machine Storage Device IO", USENIX ATC 2011): the more a driver has under way, the more are
//! given back together. One that has fewer than four under way gets each at once, so that a
//! program which waits for every request waits no longer. A driver that stops asking gets all that
//! is done after a few times what a request takes, and is soon taken for one with fewer.

use std::time::Duration;

/// Most requests that are held back. More would save little, and keep a busy guest waiting.
const MOST: u16 = 8;

/// Number of requests for which the most that a driver had under way counts.
const WINDOW: u16 = 64;

/// For how many times what the last request took a driver may ask for nothing before it gets what
/// is held back. Its own share of the work for a request is larger than the disk's.
const PATIENCE: u32 = 4;

/// After a request that takes longer nothing is held back: interrupts are few anyhow. The attack: a
/// driver that always seems to have much under way keeps the worker's thread looking at its queue,
/// for no longer than [`PATIENCE`] times this, and the sooner in vain the sooner not at all; the
/// pod's cgroup pays.
const QUICK: Duration = Duration::from_micros(250);

/// What is known about a driver's habits. Starts with knowing nothing, which holds back nothing.
#[derive(Debug, Default)]
pub(crate) struct Coalescing {
    /// Most requests under way in this window, and in the one before.
    depth: [u16; 2],
    /// Requests in this window.
    requests: u16,
    /// What the last one took.
    cost: Duration,
}

impl Coalescing {
    /// A request took `cost`.
    pub(super) fn served(&mut self, cost: Duration) {
        self.cost = cost;
        self.requests += 1;
        if self.requests == WINDOW {
            self.requests = 0;
            self.depth = [0, self.depth[0]];
        }
    }

    /// The driver has this many requests under way: those that it has not taken back yet.
    pub(super) fn under_way(&mut self, requests: u16) {
        self.depth[0] = self.depth[0].max(requests.min(2 * MOST));
    }

    /// So many finished requests are given back at once.
    pub(super) fn enough(&self) -> usize {
        if self.cost > QUICK {
            return 1;
        }
        let depth = self.depth[0].max(self.depth[1]);
        usize::from((depth / 2).max(1))
    }

    /// How long to wait for another request while fewer than that are finished.
    pub(super) fn patience(&self) -> Duration {
        self.cost.min(QUICK) * PATIENCE
    }

    /// That wait was in vain.
    pub(super) fn disappointed(&mut self) {
        self.depth = self.depth.map(|depth| depth / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_are_given_back_one_by_one() {
        let mut coalescing = Coalescing::default();
        assert_eq!(coalescing.enough(), 1);
        coalescing.under_way(3);
        assert_eq!(coalescing.enough(), 1);
        coalescing.under_way(10);
        assert_eq!(coalescing.enough(), 5);
        coalescing.under_way(256);
        assert_eq!(coalescing.enough(), 8);
    }

    #[test]
    fn habits_are_forgotten() {
        let mut coalescing = Coalescing::default();
        coalescing.under_way(10);
        let mut serve = |count: u16| {
            (0..count).for_each(|_| coalescing.served(QUICK));
            coalescing.enough()
        };
        assert_eq!([serve(WINDOW), serve(WINDOW - 1), serve(1)], [5, 5, 1]);
    }

    #[test]
    fn after_a_burst_few_requests_wait() {
        let mut coalescing = Coalescing::default();
        coalescing.under_way(256);
        let mut waits = 0;
        while coalescing.enough() > 1 {
            coalescing.disappointed();
            waits += 1;
        }
        assert_eq!(waits, 3);
    }

    #[test]
    fn slow_requests_are_given_back_one_by_one() {
        let mut coalescing = Coalescing::default();
        coalescing.under_way(10);
        coalescing.served(Duration::from_secs(1));
        assert_eq!(coalescing.enough(), 1);
        assert_eq!(coalescing.patience(), QUICK * PATIENCE);
        coalescing.served(QUICK);
        assert_eq!(coalescing.enough(), 5);
    }
}
