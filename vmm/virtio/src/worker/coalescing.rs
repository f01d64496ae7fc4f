//! How many finished requests are worth one interrupt.
//!
//! A disk whose data the host has in memory is done before a driver with one CPU can ask for more.
//! Were each request an interrupt, the guest would do little else than handle them. So requests are
//! held back as `vIC` does it (Ahmad, Gulati, Mashtizadeh, "vIC: Interrupt Coalescing for Virtual
//! Machine Storage Device IO", USENIX ATC 2011). The more a driver has under way, the more are
//! given back together. One that has fewer than four under way gets each at once, so that a program
//! which waits for every request waits no longer. A driver that takes longer to ask than it lately
//! did has stopped asking. It gets all that is done, and is soon taken for one with fewer.

use std::time::{Duration, Instant};

/// Most requests that are held back. More would save little, and keep a busy guest waiting.
const MOST: u16 = 8;

/// Number of requests for which the most that a driver had under way counts.
const WINDOW: u16 = 64;

/// After a request that takes longer nothing is held back: interrupts are few anyhow.
const QUICK: Duration = Duration::from_micros(250);

/// A driver that asks for nothing for so many times what the last request took has stopped asking.
/// Its own share of the work for a request is larger than the disk's.
const PAUSE: u32 = 64;

/// The longest that a driver is waited for. The attack: one that always seems to have much under
/// way keeps the worker's thread looking at its queue, which the pod's cgroup pays.
const LONGEST: Duration = Duration::from_millis(1);

/// What is known about a driver's habits. Starts with knowing nothing, which holds back nothing.
#[derive(Debug, Default)]
pub(crate) struct Coalescing {
    /// Most requests under way in this window, and in the one before.
    depth: [u16; 2],
    /// Requests in this window.
    requests: u16,
    /// What the last one took.
    cost: Duration,
    /// How long the driver takes to ask for another one.
    pace: Duration,
    /// When the queue was found empty.
    idle: Option<Instant>,
}

impl Coalescing {
    /// The queue is empty.
    pub(super) fn idle(&mut self, now: Instant) {
        self.idle.get_or_insert(now);
    }

    /// A request was served from `began` to `ended`.
    pub(super) fn served(&mut self, began: Instant, ended: Instant) {
        self.cost = ended - began;
        if let Some(idle) = self.idle.take() {
            let pause = began.saturating_duration_since(idle);
            let pace = if pause <= self.cost * PAUSE { self.pace + pause } else { self.pace };
            self.pace = pace / 2;
        }
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

    /// How long to wait for another request while fewer than that are finished: what the driver
    /// takes when it is interrupted before, and a little more.
    pub(super) fn patience(&self) -> Duration {
        (self.pace + self.cost).min(LONGEST)
    }

    /// That wait was in vain.
    pub(super) fn disappointed(&mut self) {
        self.depth = self.depth.map(|depth| depth.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_micros(10);

    /// Requests that the driver makes a `pause` after the one before is served.
    fn serve(coalescing: &mut Coalescing, count: u16, pause: Duration, cost: Duration) {
        let mut now = Instant::now();
        for _ in 0..count {
            coalescing.idle(now);
            now += pause;
            coalescing.served(now, now + cost);
            now += cost;
        }
    }

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
        for (count, enough) in [(WINDOW, 5), (WINDOW - 1, 5), (1, 1)] {
            serve(&mut coalescing, count, COST, COST);
            assert_eq!(coalescing.enough(), enough);
        }
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
        assert_eq!(waits, 2 * MOST - 3);
    }

    #[test]
    fn slow_requests_are_given_back_one_by_one() {
        let mut coalescing = Coalescing::default();
        coalescing.under_way(10);
        serve(&mut coalescing, 1, COST, Duration::from_secs(1));
        assert_eq!(coalescing.enough(), 1);
        serve(&mut coalescing, 1, COST, QUICK);
        assert_eq!(coalescing.enough(), 5);
    }

    #[test]
    fn drivers_are_waited_for_as_long_as_they_take() {
        let mut coalescing = Coalescing::default();
        serve(&mut coalescing, 20, 12 * COST, COST);
        let patience = coalescing.patience();
        assert!(patience > 12 * COST && patience <= 13 * COST, "{patience:?}");
        serve(&mut coalescing, 10, Duration::from_secs(1), COST);
        assert!(coalescing.patience() < 2 * COST, "it asks for nothing");
        serve(&mut coalescing, 10, LONGEST * 2, LONGEST);
        assert_eq!(coalescing.patience(), LONGEST);
    }
}
