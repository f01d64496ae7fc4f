//! Work that is done several times at once.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

/// Does `work` so many times, all at once. Results are in no order.
pub(crate) fn at_once<T: Send>(count: u32, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        let done = workers.into_iter().map(ScopedJoinHandle::join);
        done.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Does `work` with every item, as many at a time as there are CPUs: kubelet, too, does not wait
/// for one pod before it begins with the next. Results are in no order.
pub(crate) fn all_cpus<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(items.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || std::iter::from_fn(next).map(&work).collect::<Vec<_>>();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    at_once(cpus, some).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once() {
        let mut done = all_cpus((0..100).collect(), |item: u32| item * 2);
        done.sort_unstable();
        assert_eq!(done, (0..100).map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn all_run_at_the_same_time() {
        // Each waits for the others.
        let barrier = std::sync::Barrier::new(5);
        assert_eq!(at_once(5, || barrier.wait().is_leader()).iter().filter(|one| **one).count(), 1);
    }
}
