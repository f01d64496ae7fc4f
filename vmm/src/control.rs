//! The control thread: serves the client's requests one by one, and reports what happens.

mod errors;

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vmm_api::{
    BootConfig, Channel, DeviceConfig, ErrorKind, ErrorReply, Event, FdSlot, FromVmm, MachineEnd,
    MachineState, MachineStatus, Reply, Request, Window, WireError,
};

use crate::descriptors::Descriptors;
use crate::machine::{Machine, Prepared};
use crate::notice::{Notice, Notices};

/// One client and its machine.
#[derive(Debug)]
pub struct Control {
    channel: Channel,
    notices: Notices,
    machine: Option<Machine>,
    state: MachineState,
    /// Whether the client has heard that the guest is ready.
    ready: bool,
    executed: Instant,
}

impl Control {
    /// Serves the client behind `channel`. `executed` is when the process started.
    ///
    /// # Errors
    /// If there are no more event descriptors.
    pub fn new(channel: Channel, executed: Instant) -> std::io::Result<Self> {
        let (notices, state) = (Notices::new()?, MachineState::New);
        Ok(Self { channel, notices, machine: None, state, ready: false, executed })
    }

    /// Serves until the machine's end, carries that out in order, reports it, and tells it.
    pub fn run(mut self) -> MachineEnd {
        let end = self.serve();
        self.state = MachineState::Ended;
        if let Some(machine) = self.machine.take() {
            machine.end();
        }
        if end == MachineEnd::Panic {
            self.report(Event::Panicked);
        }
        self.report(Event::Ended(end.clone()));
        end
    }

    fn serve(&mut self) -> MachineEnd {
        loop {
            let end = match self.wait() {
                Ok(Ready { notices: true, .. }) => self.take_notices(),
                Ok(Ready { requests: true, .. }) => self.take_request(),
                Ok(_) => None,
                Err(errno) => Some(failed(format!("wait for requests: {errno}"))),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn wait(&self) -> Result<Ready, Errno> {
        let mut fds =
            [PollFd::new(&self.notices, PollFlags::IN), PollFd::new(&self.channel, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let [notices, requests] = fds.map(|fd| !fd.revents().is_empty());
        Ok(Ready { notices, requests })
    }

    /// Acts upon everything that vCPUs and devices have to say, up to the machine's end.
    fn take_notices(&mut self) -> Option<MachineEnd> {
        while let Some(notice) = self.notices.next() {
            match notice {
                Notice::End(end) => return Some(end),
                Notice::GuestReady(at) => self.report_ready(at),
                Notice::DeviceFailed { window, reason } => {
                    self.report(Event::DeviceFailed { window, reason });
                }
            }
        }
        None
    }

    /// A guest is ready once: one that was saved is from the start, whatever it says later.
    fn report_ready(&mut self, at: Instant) {
        if std::mem::replace(&mut self.ready, true) {
            return;
        }
        let started = self.machine.as_ref().and_then(Machine::started).unwrap_or(at);
        self.report(Event::GuestReady {
            since_exec_us: micros(at, self.executed),
            since_boot_us: micros(at, started),
        });
    }

    /// Receives one request and answers it.
    fn take_request(&mut self) -> Option<MachineEnd> {
        let (request, descriptors) = match self.channel.recv::<Request>() {
            Ok(received) => received,
            Err(WireError::Socket(Errno::INTR | Errno::AGAIN)) => return None,
            Err(WireError::Closed | WireError::Socket(_)) => return Some(MachineEnd::Stopped),
            Err(error @ (WireError::TooLarge | WireError::Malformed(_))) => {
                self.answer(Reply::Failed(errors::reply(ErrorKind::Invalid, &error)));
                return None;
            }
        };
        if !self.state.accepts(&request) {
            let message = format!("a {} machine does not take this request", self.state_name());
            self.answer(Reply::Failed(ErrorReply { kind: ErrorKind::State, message }));
            return None;
        }
        match self.carry_out(request, descriptors) {
            Ok(reply) => self.answer(reply),
            Err(Refused { reply, end }) => {
                self.answer(Reply::Failed(reply));
                return end;
            }
        }
        (self.state == MachineState::Ended).then_some(MachineEnd::Stopped)
    }

    fn carry_out(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, Refused> {
        match request {
            Request::Boot(config) => self.boot(config, fds)?,
            Request::Attach(device) => return self.attach(device, fds),
            Request::Detach(window) => self.detach(window)?,
            Request::Pause => {
                self.machine.iter().for_each(Machine::pause);
                self.state = MachineState::Paused;
            }
            Request::Resume => {
                self.machine.iter_mut().for_each(Machine::resume);
                self.state = MachineState::Running;
            }
            Request::Save { state } => self.save(state, fds)?,
            Request::Stop => self.state = MachineState::Ended,
            Request::Status => return Ok(Reply::Status(self.status())),
        }
        Ok(Reply::Done)
    }

    fn boot(&mut self, config: BootConfig, fds: Vec<OwnedFd>) -> Result<(), Refused> {
        let prepared = Prepared::new(config, fds)
            .map_err(|error| Refused::from(errors::reply(errors::kind(&error), &error)))?;
        let mut machine = prepared.jail(&self.notices.sender()).map_err(|error| {
            let reply = errors::reply(errors::kind(&error), &error);
            let end = Some(failed(reply.message.clone()));
            Refused { reply, end }
        })?;
        machine.resume();
        self.machine = Some(machine);
        self.state = MachineState::Running;
        Ok(())
    }

    fn attach(&mut self, config: DeviceConfig, fds: Vec<OwnedFd>) -> Result<Reply, Refused> {
        let Some(machine) = &self.machine else { return Err(no_machine().into()) };
        let window = machine.hot_attach(config, fds);
        let window = window.map_err(|error| errors::reply(errors::machine_kind(&error), &error))?;
        Ok(Reply::Attached(window))
    }

    fn save(&mut self, state: FdSlot, fds: Vec<OwnedFd>) -> Result<(), Refused> {
        let Some(machine) = &self.machine else { return Err(no_machine().into()) };
        let file = Descriptors::new(fds).take(state);
        let file = file.map_err(|error| errors::reply(ErrorKind::Invalid, &error))?;
        let saved = machine.save(file);
        saved.map_err(|error| errors::reply(errors::save_kind(&error), &error))?;
        self.state = MachineState::Ended;
        Ok(())
    }

    fn detach(&mut self, window: Window) -> Result<(), Refused> {
        let Some(machine) = &self.machine else { return Err(no_machine().into()) };
        let detached = machine.detach(window);
        detached.map_err(|error| errors::reply(errors::machine_kind(&error), &error).into())
    }

    fn status(&self) -> MachineStatus {
        let windows = self.machine.as_ref().map(Machine::windows).unwrap_or_default();
        MachineStatus { state: self.state, windows }
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            MachineState::New => "new",
            MachineState::Running => "running",
            MachineState::Paused => "paused",
            MachineState::Ended => "ended",
        }
    }

    fn answer(&self, reply: Reply) {
        self.tell(&FromVmm::Reply(reply));
    }

    fn report(&self, event: Event) {
        self.tell(&FromVmm::Event(event));
    }

    fn tell(&self, message: &FromVmm) {
        // A client that is gone is noticed by the next receive, which ends the machine.
        let _ = self.channel.send(message, &[]);
    }
}

/// What can be received without waiting.
struct Ready {
    notices: bool,
    requests: bool,
}

/// A request that was not carried out, and the machine's end if that is its consequence.
struct Refused {
    reply: ErrorReply,
    end: Option<MachineEnd>,
}

impl From<ErrorReply> for Refused {
    fn from(reply: ErrorReply) -> Self {
        Self { reply, end: None }
    }
}

fn failed(reason: String) -> MachineEnd {
    MachineEnd::Failed { reason }
}

fn no_machine() -> ErrorReply {
    ErrorReply { kind: ErrorKind::State, message: "there is no machine".to_owned() }
}

/// Microseconds from `start` to `at`.
fn micros(at: Instant, start: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
