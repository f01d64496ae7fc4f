//! For fuzzing, in place of threads: workers that do what there is to do when they are told to, on
//! the caller's thread. What happens then depends on the input alone.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use super::active::Active;
use super::serve::{self, Parting, Stop, Turn};
use super::{Backend, Spawner, ThreadKind, WorkerError};
use crate::device::{Activation, FailureReport};

/// Most turns until a worker finds nothing to do. A turn takes as many chains as a queue is long,
/// and a queue has at most 65535 more until its index makes no sense.
const TURNS: usize = 70_000;

/// What a worker has to do: serve each driver that it is told of, until it is told to stop.
pub(super) struct Duty<B> {
    pub(super) backend: B,
    pub(super) orders: mpsc::Receiver<Activation>,
    /// Where it says what became of a driver.
    pub(super) acknowledge: mpsc::Sender<Parting>,
    pub(super) stop: Stop,
}

trait Step: Send {
    fn step(&mut self);
}

struct Serving<B> {
    duty: Duty<B>,
    driver: Option<(Active, FailureReport)>,
}

impl<B: Backend> Serving<B> {
    fn begin(&mut self, activation: Activation) {
        match serve::begin(&mut self.duty.backend, activation, &self.duty.stop) {
            (Ok(active), failed) => self.driver = Some((active, failed)),
            (Err(error), failed) => self.end(Err(error), failed),
        }
    }

    fn end(&mut self, served: Result<Parting, WorkerError>, failed: FailureReport) {
        let parting = serve::end(&mut self.duty.backend, served, failed);
        self.tell(parting);
    }

    fn tell(&self, parting: Parting) {
        // Only the owner's disappearance makes this fail.
        let _ = self.duty.acknowledge.send(parting);
    }

    fn turn(&mut self, active: &mut Active) -> Result<Turn, WorkerError> {
        serve::turn(&mut self.duty.backend, active, 0)
    }
}

impl<B: Backend> Step for Serving<B> {
    fn step(&mut self) {
        for _ in 0..TURNS {
            let Some((mut active, failed)) = self.driver.take() else {
                match self.duty.orders.try_recv() {
                    Ok(activation) => self.begin(activation),
                    Err(_) => return,
                }
                continue;
            };
            let turn = self.turn(&mut active);
            if let Ok(Turn::Park) = turn {
                let Duty { backend, stop, .. } = &mut self.duty;
                match serve::park(backend, &mut active, stop) {
                    Ok(Parting::Refused(reason)) => {
                        self.tell(Parting::Refused(reason));
                        self.driver = Some((active, failed));
                    }
                    parting => self.end(parting, failed),
                }
                continue;
            }
            match turn {
                Ok(Turn::Over) => self.end(Ok(Parting::Over), failed),
                Err(error) => self.end(Err(error), failed),
                Ok(turn) => {
                    self.driver = Some((active, failed));
                    if turn == Turn::Idle {
                        return;
                    }
                }
            }
        }
        panic!("a worker that always finds something to do");
    }
}

static WORKERS: Mutex<Vec<Weak<Mutex<dyn Step>>>> = Mutex::new(Vec::new());

/// Lets all workers do what there is to do.
pub(crate) fn step_all() {
    let mut all = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|worker| worker.strong_count() > 0);
    let workers: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
    drop(all);
    for worker in workers {
        worker.lock().unwrap_or_else(PoisonError::into_inner).step();
    }
}

/// What stands in for a thread.
pub(super) struct Thread {
    number: u32,
    worker: Arc<Mutex<dyn Step>>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Thread {
    /// A worker that sleeps until its first order.
    pub(super) fn start<B: Backend>(
        spawner: &Spawner,
        kind: ThreadKind,
        duty: Duty<B>,
    ) -> io::Result<Self> {
        (spawner.prepare)(kind)?;
        let worker: Arc<Mutex<dyn Step>> = Arc::new(Mutex::new(Serving { duty, driver: None }));
        let mut all = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(&worker));
        Ok(Self { number: spawner.made.fetch_add(1, Ordering::Relaxed), worker })
    }

    /// Lets the worker find what it is told.
    pub(super) fn wake(&self) {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).step();
    }

    /// Nothing is left to wait for.
    pub(super) fn join(self) {
        drop(self);
    }
}
