//! vCPU threads: one per vCPU, made at boot. Those of offline CPUs wait inside KVM for their
//! first start-up interrupt and cost their stack's first page.
//!
//! All threads obey one [`Gate`]. Whoever changes its phase kicks every thread out of the
//! guest; a thread looks at the gate only then:
//!
//! ```text
//! control thread              vCPU thread
//!   phase = Paused              KVM_RUN
//!   immediate_exit = 1
//!   signal ──────────────────►  KVM_RUN fails with EINTR (or at once on its next entry)
//!                               immediate_exit = 0
//!                               looks at the phase, parks
//!   waits for all to park ◄───  parked
//! ```
//!
//! In a machine that is to be saved, parked threads say on demand what the state of their vCPU is.

mod gate;
mod run_page;
mod state;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_api::MachineEnd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::bus::Bus;
use crate::jail;
use crate::notice::{Notice, NoticeSender};
use crate::seccomp::ThreadKind;
use gate::{Gate, Phase, Task};
use run_page::RunPage;

pub(crate) use state::{Extent, StateError, VcpuState, share_tsc, xsave_words};

/// A vCPU's stack: its deepest path is a device's reset below an MMIO exit.
const STACK: usize = 128 << 10;

/// Both address spaces as a vCPU reaches them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buses {
    /// I/O ports.
    pub(crate) ports: Bus,
    /// Memory.
    pub(crate) memory: Bus,
}

/// All vCPU threads of a machine.
#[derive(Debug)]
pub(crate) struct Vcpus {
    gate: Arc<Gate>,
    threads: Vec<VcpuThread>,
}

#[derive(Debug)]
struct VcpuThread {
    run_page: Arc<RunPage>,
    handle: JoinHandle<()>,
    answers: Receiver<Answer>,
}

/// What a thread says when it is told to save: the first vCPU's state, nothing of the others.
type Answer = Result<Option<Box<VcpuState>>, StateError>;

impl Vcpus {
    /// Starts a thread for each vCPU. None enters the guest before [`Vcpus::resume`]. `extent` is
    /// what is saved in a machine that is to be saved.
    ///
    /// # Errors
    /// If the host refuses a thread or a mapping.
    pub(crate) fn start(
        vcpus: Vec<VcpuFd>,
        buses: &Buses,
        notices: &NoticeSender,
        extent: Option<&Extent>,
    ) -> io::Result<Self> {
        register_signal_handler(SIGRTMIN(), kicked)?;
        let gate = Arc::new(Gate::new(vcpus.len()));
        let mut threads = Vec::new();
        for (index, fd) in (0..).zip(vcpus) {
            let (says, answers) = channel();
            let saver = extent.map(|extent| Saver { index, extent: extent.clone(), says });
            let run_page = Arc::new(RunPage::map(&fd)?);
            let vcpu = Vcpu {
                fd,
                run_page: Arc::clone(&run_page),
                buses: buses.clone(),
                gate: Arc::clone(&gate),
                notices: notices.clone(),
                saver,
            };
            let handle = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .stack_size(STACK)
                .spawn(move || vcpu.main())?;
            threads.push(VcpuThread { run_page, handle, answers });
        }
        Ok(Self { gate, threads })
    }

    /// Lets all vCPUs run.
    pub(crate) fn resume(&self) {
        self.gate.set(Phase::Running);
    }

    /// Stops all vCPUs and waits until none is in the guest.
    pub(crate) fn pause(&self) {
        self.gate.set(Phase::Paused);
        self.kick();
        self.gate.wait_parked();
    }

    /// The state of the first vCPU of a paused machine. The vCPUs stay paused.
    ///
    /// # Errors
    /// [`StateError`], also if another vCPU has been started.
    pub(crate) fn save(&self) -> Result<VcpuState, StateError> {
        self.gate.set(Phase::Saving);
        let answers: Vec<_> = (0..).zip(&self.threads).map(VcpuThread::answer).collect();
        self.gate.set(Phase::Paused);
        let mut states = answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
        states.next().map(|state| *state).ok_or(StateError::Gone(0))
    }

    /// Ends all threads and waits for them.
    pub(crate) fn end(self) {
        self.gate.set(Phase::Ending);
        self.kick();
        for thread in self.threads {
            // A thread that panicked is as gone as one that returned.
            let _ = thread.handle.join();
        }
    }

    fn kick(&self) {
        for thread in &self.threads {
            thread.run_page.request_exit();
            // Fails only for a thread that has ended, which needs no kick.
            let _ = thread.handle.kill(SIGRTMIN());
        }
    }
}

impl VcpuThread {
    /// What the thread of vCPU `index` says. One that has ended, or can't save, says nothing.
    fn answer((index, thread): (u8, &Self)) -> Answer {
        thread.answers.recv().unwrap_or(Err(StateError::Gone(index)))
    }
}

/// How a vCPU says what its state is.
struct Saver {
    index: u8,
    extent: Extent,
    says: Sender<Answer>,
}

impl Saver {
    fn save(&self, vcpu: &VcpuFd) {
        let answer = match self.index {
            0 => VcpuState::save(vcpu, &self.extent).map(Box::new).map(Some),
            index => state::check_unstarted(vcpu, index).map(|()| None),
        };
        // Nobody waits for an answer only if the machine is about to end.
        let _ = self.says.send(answer);
    }
}

/// Interrupts system calls and otherwise does nothing.
extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// One vCPU as its thread owns it.
struct Vcpu {
    fd: VcpuFd,
    run_page: Arc<RunPage>,
    buses: Buses,
    gate: Arc<Gate>,
    notices: NoticeSender,
    /// In a machine that is to be saved only.
    saver: Option<Saver>,
}

impl Vcpu {
    fn main(mut self) {
        let kind = ThreadKind::Vcpu { to_be_saved: self.saver.is_some() };
        if let Err(error) = jail::restrict_thread(kind) {
            let reason = format!("restrict vCPU thread: {error}");
            self.notices.send(Notice::End(MachineEnd::Failed { reason }));
        } else if let Some(end) = self.serve() {
            self.notices.send(Notice::End(end));
        }
        self.gate.leave();
    }

    /// Runs the guest whenever the gate is open, until it closes for good or the guest ends.
    fn serve(&mut self) -> Option<MachineEnd> {
        let mut saves = 0;
        loop {
            match self.gate.pass(&mut saves) {
                Task::Run => {}
                Task::Save => {
                    self.saver.iter().for_each(|saver| saver.save(&self.fd));
                    continue;
                }
                Task::End => return None,
            }
            self.tell_of_pause();
            if let ControlFlow::Break(end) = self.run_until_kicked() {
                return Some(end);
            }
            self.run_page.forget_exit();
        }
    }

    /// Tells the guest's watchdogs that it may have stood still. A guest that has not switched
    /// kvm-clock on has none that could be told, and KVM refuses.
    fn tell_of_pause(&self) {
        let _ = self.fd.kvmclock_ctrl();
    }

    /// Runs the guest; continues when somebody wants this thread to look at the gate.
    fn run_until_kicked(&mut self) -> ControlFlow<MachineEnd> {
        loop {
            match self.fd.run() {
                Ok(exit) => match handle(exit, &self.buses) {
                    Handled::Done => {}
                    Handled::End(end) => return ControlFlow::Break(end),
                    Handled::InternalError => {
                        let suberror = run_page::suberror(&mut self.fd);
                        return ControlFlow::Break(MachineEnd::KvmInternalError { suberror });
                    }
                },
                Err(error) if error.errno() == libc::EINTR => return ControlFlow::Continue(()),
                // The vCPU was woken by its first start-up interrupt.
                Err(error) if error.errno() == libc::EAGAIN => {}
                Err(error) => return failed(format!("run vCPU: {error}")),
            }
        }
    }
}

fn failed(reason: String) -> ControlFlow<MachineEnd> {
    ControlFlow::Break(MachineEnd::Failed { reason })
}

/// What came of an exit.
enum Handled {
    Done,
    End(MachineEnd),
    InternalError,
}

/// Serves one exit from the guest.
fn handle(exit: VcpuExit<'_>, buses: &Buses) -> Handled {
    let written = match exit {
        VcpuExit::MmioWrite(address, data) => buses.memory.write(address, data),
        VcpuExit::MmioRead(address, data) => {
            buses.memory.read(address, data);
            ControlFlow::Continue(())
        }
        VcpuExit::IoOut(port, data) => buses.ports.write(port.into(), data),
        VcpuExit::IoIn(port, data) => {
            buses.ports.read(port.into(), data);
            ControlFlow::Continue(())
        }
        VcpuExit::Intr => ControlFlow::Continue(()),
        VcpuExit::Shutdown => ControlFlow::Break(MachineEnd::TripleFault),
        VcpuExit::InternalError => return Handled::InternalError,
        VcpuExit::FailEntry(reason, cpu) => {
            failed(format!("host CPU {cpu} could not enter the guest, hardware reason {reason:#x}"))
        }
        other => failed(format!("vCPU stopped for an unexpected reason: {other:?}")),
    };
    match written {
        ControlFlow::Continue(()) => Handled::Done,
        ControlFlow::Break(end) => Handled::End(end),
    }
}
