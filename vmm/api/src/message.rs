//! Requests, replies and events on the control socket.

use serde::{Deserialize, Serialize};

use crate::config::{BootConfig, DeviceConfig, FdSlot, Window};

/// What a shim asks of its VMM. Requests are answered one at a time, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Builds the machine, enters the jail and starts the first vCPU. Allowed once, as the
    /// first request. Answered [`Reply::Done`] when the vCPU runs. A machine from a saved state
    /// raises [`Event::GuestReady`] then: its agent was ready when it was saved.
    Boot(BootConfig),
    /// Puts a device into the first free window; answered [`Reply::Attached`]. The guest sees
    /// it once its driver is bound to the window's platform device.
    Attach(DeviceConfig),
    /// Empties a window that the guest has unbound; answered [`Reply::Done`].
    Detach(Window),
    /// Stops all vCPUs until [`Request::Resume`]. Pausing twice is not an error.
    Pause,
    /// Lets paused vCPUs run.
    Resume,
    /// Writes the state of a paused machine that was built to be saved, and ends it; answered
    /// [`Reply::Done`], then [`Event::Ended`] with [`MachineEnd::Stopped`]. With the machine's
    /// memory, which stays as it is once the process is gone, the state is all that
    /// [`Start::Saved`](crate::Start::Saved) needs. A machine that can't be saved stays paused.
    Save {
        /// Where the state goes: an empty file, open for writing.
        state: FdSlot,
    },
    /// Ends the machine at once, without the guest's help; answered [`Reply::Done`], then
    /// [`Event::Ended`] with [`MachineEnd::Stopped`], then the process exits.
    Stop,
    /// Answered [`Reply::Status`].
    Status,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The device sits in this window.
    Attached(Window),
    /// The machine as it is now.
    Status(MachineStatus),
    /// Nothing was changed, for this reason.
    Failed(ErrorReply),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorReply {
    /// What kind of failure it is, for programs.
    pub kind: ErrorKind,
    /// The whole chain of causes in one line, for people.
    pub message: String,
}

/// Kinds of failure that a client may treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request itself can't be right: bad kernel, file, descriptor or size.
    Invalid,
    /// The request does not fit the machine's state.
    State,
    /// All windows are taken.
    NoWindow,
    /// The host lacks something: KVM, memory, a system call.
    Host,
}

/// What the VMM reports by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The guest's agent serves its ports.
    GuestReady {
        /// Time since the VMM process was executed, in microseconds.
        since_exec_us: u64,
        /// Time since the first vCPU entered the guest, in microseconds.
        since_boot_us: u64,
    },
    /// The guest kernel panicked (pvpanic). [`Event::Ended`] follows.
    Panicked,
    /// A device stopped working for the first time; the guest sees it as needing a reset. What
    /// it does after that reset is not reported, because the guest could repeat it for ever.
    DeviceFailed {
        /// Where it sits.
        window: Window,
        /// Why, in one line.
        reason: String,
    },
    /// The machine is over; the process exits after this.
    Ended(MachineEnd),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum MachineEnd {
    /// The guest powered itself off (ACPI S5).
    #[error("the guest powered off")]
    PowerOff,
    /// The guest reset itself (ACPI reset register).
    #[error("the guest reset itself")]
    Reset,
    /// The guest kernel panicked.
    #[error("the guest kernel panicked")]
    Panic,
    /// A vCPU took a triple fault or otherwise shut down.
    #[error("the guest took a triple fault")]
    TripleFault,
    /// KVM could not go on.
    #[error("KVM internal error, suberror {suberror}")]
    KvmInternalError {
        /// `kvm_run.internal.suberror`, see KVM's api.rst.
        suberror: u32,
    },
    /// The client asked for it or closed the control socket.
    #[error("the machine was stopped")]
    Stopped,
    /// The VMM process died without a word. Never sent by a VMM: its client says so when the
    /// control socket closes before [`Event::Ended`].
    #[error("the VMM process was killed")]
    Killed,
    /// The VMM met an error that it can't survive.
    #[error("the VMM failed: {reason}")]
    Failed {
        /// The chain of causes in one line.
        reason: String,
    },
}

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// Not booted yet.
    New,
    /// vCPUs run.
    Running,
    /// vCPUs stand still.
    Paused,
    /// Over.
    Ended,
}

impl MachineState {
    /// Whether `request` fits this state.
    pub fn accepts(self, request: &Request) -> bool {
        match request {
            Request::Boot(_) => self == Self::New,
            Request::Attach(_) | Request::Detach(_) | Request::Pause | Request::Resume => {
                matches!(self, Self::Running | Self::Paused)
            }
            Request::Save { .. } => self == Self::Paused,
            Request::Stop | Request::Status => self != Self::Ended,
        }
    }
}

/// A machine as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Where it is in its life.
    pub state: MachineState,
    /// Windows that hold a device.
    pub windows: Vec<Window>,
}

/// Any message from a VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromVmm {
    /// The answer to the oldest open request.
    Reply(Reply),
    /// Something happened.
    Event(Event),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_is_accepted_only_by_a_new_machine() {
        let pause = Request::Pause;
        assert!(!MachineState::New.accepts(&pause));
        assert!(MachineState::Running.accepts(&pause));
        assert!(MachineState::Paused.accepts(&pause));
        assert!(!MachineState::Ended.accepts(&Request::Stop));
        assert!(MachineState::New.accepts(&Request::Stop));
    }

    #[test]
    fn save_is_accepted_only_by_a_paused_machine() {
        let save = Request::Save { state: FdSlot(0) };
        let states = [MachineState::New, MachineState::Running, MachineState::Ended];
        assert!(states.iter().all(|state| !state.accepts(&save)));
        assert!(MachineState::Paused.accepts(&save));
    }
}
