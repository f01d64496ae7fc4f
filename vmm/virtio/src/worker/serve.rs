//! What a worker does between activation and reset.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::epoll::{Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::active::{Active, WorkerError};
use super::backend::Backend;
use crate::device::{Activation, FailureReport, Parked};

/// Token of the event that ends the loop. Queues have their position as token; a device's own
/// descriptors have tokens from [`FIRST_TOKEN`] on.
const STOP_TOKEN: u64 = u64::MAX;

/// Events taken from the kernel at once.
const EVENTS: usize = 32;

/// How the owner of a worker tells it to stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// Wakes the worker.
    pub(super) event: Arc<EventFd>,
    /// Set before `event` is written, for a worker that does not look at events just then.
    pub(super) soon: Arc<AtomicBool>,
    /// Whether the driver is to be served on elsewhere. Set before the other two.
    pub(super) park: Arc<AtomicBool>,
}

/// What a worker answers to the order to stop.
#[derive(Debug)]
pub(super) enum Parting {
    /// The driver is forgotten.
    Over,
    /// The driver can be served on from here.
    Parked(Parked),
    /// The driver is still served, for this reason.
    Refused(&'static str),
}

/// Serves a driver until `stop` says so or the device fails. Tells `refused` when it can't be
/// parked.
#[cfg(not(fuzzing))]
pub(super) fn serve<B: Backend>(
    backend: &mut B,
    activation: Activation,
    stop: &Stop,
    refused: impl Fn(Parting),
) -> Parting {
    let (begun, failed) = begin(backend, activation, stop);
    let served = begun.and_then(|mut active| {
        loop {
            match turn(backend, &mut active, -1)? {
                Turn::Idle | Turn::Served => {}
                Turn::Over => return Ok(Parting::Over),
                Turn::Park => match park(backend, &mut active, stop)? {
                    Parting::Refused(reason) => refused(Parting::Refused(reason)),
                    parting => return Ok(parting),
                },
            }
        }
    });
    end(backend, served, failed)
}

/// Parks a device between two turns. One that refuses goes on, and looks at all of its queues: what
/// it had begun may have been cut short.
pub(super) fn park<B: Backend>(
    backend: &mut B,
    active: &mut Active,
    stop: &Stop,
) -> Result<Parting, WorkerError> {
    match backend.park(active) {
        Ok(note) => Ok(Parting::Parked(Parked { positions: active.positions(), note })),
        Err(reason) => {
            stop.soon.store(false, Ordering::Relaxed);
            // Fails only if there was no order.
            let _ = stop.event.read();
            (0..active.queues.len()).try_for_each(|position| active.kick_later(position))?;
            Ok(Parting::Refused(reason))
        }
    }
}

/// Starts to serve a driver.
pub(super) fn begin<B: Backend>(
    backend: &mut B,
    activation: Activation,
    stop: &Stop,
) -> (Result<Active, WorkerError>, FailureReport) {
    let Activation { memory, features, queues, interrupt, failed, note } = activation;
    let begun = Epoll::new().map_err(WorkerError::host("create epoll")).and_then(|epoll| {
        let (stopping, parking) = (Arc::clone(&stop.soon), Arc::clone(&stop.park));
        let mut active =
            Active { memory, features, queues, interrupt, note, epoll, stopping, parking };
        let (count, most) = (active.queues.len(), backend.queues(active.features));
        if count > most {
            return Err(WorkerError::Queues { count, most });
        }
        watch_queues(&active, stop)?;
        backend.start(&mut active)?;
        Ok(active)
    });
    (begun, failed)
}

/// Ends the service of a driver, whether it was asked for or the device failed.
pub(super) fn end<B: Backend>(
    backend: &mut B,
    served: Result<Parting, WorkerError>,
    failed: FailureReport,
) -> Parting {
    backend.stop();
    served.unwrap_or_else(|error| {
        failed.send(error.to_string());
        Parting::Over
    })
}

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing, for as long as it was waited for.
    Idle,
    /// Some events were served.
    Served,
    /// The driver's time is up.
    Over,
    /// The driver is to be served on elsewhere.
    Park,
}

/// Serves what has happened, or what happens next within `patience` milliseconds; -1 is for ever.
pub(super) fn turn<B: Backend>(
    backend: &mut B,
    active: &mut Active,
    patience: i32,
) -> Result<Turn, WorkerError> {
    let mut events = [EpollEvent::default(); EVENTS];
    let count = match active.epoll.wait(patience, &mut events) {
        Ok(0) => return Ok(Turn::Idle),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Turn::Served),
        Err(source) => return Err(WorkerError::Host { action: "wait for events", source }),
    };
    let mut came = Turn::Served;
    for event in &events[..count] {
        match usize::try_from(event.data()) {
            // The rest of what happened has its turn first: a device that can't be parked goes on.
            _ if event.data() == STOP_TOKEN && active.parking.load(Ordering::Relaxed) => {
                came = Turn::Park;
            }
            _ if event.data() == STOP_TOKEN => {
                // The owner waits for the end: what is left has its own bounds.
                active.stopping.store(false, Ordering::Relaxed);
                backend.ending(active)?;
                return Ok(Turn::Over);
            }
            Ok(position) if position < active.queues.len() => {
                backend.kicked(active, position)?;
            }
            _ => backend.ready(active, event.data(), event.events())?,
        }
    }
    Ok(came)
}

/// Has the loop wake for kicks, and for the order to stop.
fn watch_queues(active: &Active, stop: &Stop) -> Result<(), WorkerError> {
    active
        .watch(stop.event.as_raw_fd(), EventSet::IN, STOP_TOKEN)
        .map_err(WorkerError::host("watch stop event"))?;
    for (token, queue) in (0..).zip(&active.queues) {
        // An edge saves reading the event, whose counter then only ever grows.
        active
            .watch(queue.kick.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, token)
            .map_err(WorkerError::host("watch queue"))?;
    }
    Ok(())
}
