//! A KVM machine with one vCPU for the tiny guest of [`super::guest`].
//!
//! No devices and no interrupt controller: every port write and halt comes back to
//! [`ProbeMachine::run`].

#![allow(unsafe_code, reason = "KVM is told the address of the guest's memory")]

use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

use super::guest::{self, Test};

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Page table entry bits: present, writable.
const PAGE_PRESENT_WRITABLE: u64 = 0b11;
/// Page directory entry bit: maps 2 MiB.
const PAGE_LARGE: u64 = 1 << 7;
/// RFLAGS with only its reserved bit.
const RFLAGS: u64 = 0b10;
/// Three pages outside guest memory that KVM keeps for itself on old Intel processors.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// A step of building the machine that the host refused.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    /// An ioctl failed.
    #[error("{step}: {source}")]
    Kvm {
        /// What was being done.
        step: &'static str,
        /// The system's answer.
        source: kvm_ioctls::Error,
    },
    /// Guest memory could not be had or written.
    #[error("{step}: {reason}")]
    Memory {
        /// What was being done.
        step: &'static str,
        /// The library's answer.
        reason: String,
    },
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every result was right.
    Passed,
    /// The instructions ran but computed something else.
    WrongResult,
    /// The guest took an exception with this vector.
    Trap(u8),
    /// KVM gave up: it has no way to execute the instruction.
    NotEmulated,
    /// The vCPU was stopped because the probe's time was over.
    OutOfTime,
    /// Any other exit, by name.
    Stopped(String),
    /// The processor does not offer the instruction, so it was not tried.
    NotOffered,
}

/// The machine, ready to run tests one after the other.
#[derive(Debug)]
pub(crate) struct ProbeMachine {
    vcpu: VcpuFd,
    start: kvm_sregs,
    offered: Offered,
    // The guest's memory and the machine must outlive the vCPU's last run.
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

#[derive(Debug, Clone, Copy)]
struct Offered {
    popcnt: bool,
    cmpxchg16b: bool,
    xsave: bool,
}

impl ProbeMachine {
    /// Makes the machine and puts the guest into it. The first error ends the attempt.
    pub(crate) fn build(kvm: &Kvm) -> Result<Self, BuildError> {
        let vm = kvm.create_vm().map_err(failed("creating a machine"))?;
        if kvm.check_extension(Cap::SetTssAddr) {
            vm.set_tss_address(TSS_ADDRESS).map_err(failed("setting the TSS address"))?;
        }
        let memory = load_guest()?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: guest::MEMORY_SIZE as u64,
            userspace_addr: host_address(&memory)?,
        };
        // SAFETY: the region is the whole of `memory`, which is kept beside the machine and
        // unmapped only after the vCPU is gone.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed("giving it memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(failed("creating a vCPU"))?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("reading the processor features"))?;
        vcpu.set_cpuid2(&cpuid).map_err(failed("setting the processor features"))?;
        let features = cpuid.as_slice().iter().find(|e| e.function == 1).map_or(0, |e| e.ecx);
        let offered = Offered {
            popcnt: features & (1 << 23) != 0,
            cmpxchg16b: features & (1 << 13) != 0,
            xsave: features & (1 << 26) != 0,
        };
        let start = long_mode(vcpu.get_sregs().map_err(failed("reading registers"))?, offered);
        Ok(Self { vcpu, start, offered, _vm: vm, _memory: memory })
    }

    /// Runs a test; `turns` is for [`Test::Speed`] only. Returns how it ended and how long the
    /// vCPU ran. A signal ends the run with [`Outcome::OutOfTime`].
    pub(crate) fn run(&mut self, test: Test, turns: u64) -> (Outcome, Duration) {
        if !self.offered.has(test) {
            return (Outcome::NotOffered, Duration::ZERO);
        }
        let regs = kvm_regs {
            rip: guest::entry(test),
            rsp: guest::STACK_TOP,
            rdi: turns,
            rflags: RFLAGS,
            ..Default::default()
        };
        if let Err(e) = self.vcpu.set_sregs(&self.start).and_then(|()| self.vcpu.set_regs(&regs)) {
            return (Outcome::Stopped(format!("setting registers: {e}")), Duration::ZERO);
        }
        let begin = Instant::now();
        let outcome = match self.vcpu.run() {
            Ok(exit) => outcome(exit),
            Err(e) if e.errno() == libc::EINTR => Outcome::OutOfTime,
            Err(e) => Outcome::Stopped(e.to_string()),
        };
        (outcome, begin.elapsed())
    }
}

impl Offered {
    fn has(self, test: Test) -> bool {
        match test {
            Test::Popcnt => self.popcnt,
            Test::Cmpxchg16b => self.cmpxchg16b,
            Test::Xsave => self.xsave,
            _ => true,
        }
    }
}

fn outcome(exit: VcpuExit<'_>) -> Outcome {
    match exit {
        VcpuExit::IoOut(guest::DONE_PORT, [guest::PASSED]) => Outcome::Passed,
        VcpuExit::IoOut(guest::DONE_PORT, _) => Outcome::WrongResult,
        VcpuExit::IoOut(guest::TRAP_PORT, [vector]) => Outcome::Trap(*vector),
        VcpuExit::InternalError => Outcome::NotEmulated,
        VcpuExit::Intr => Outcome::OutOfTime,
        other => Outcome::Stopped(format!("{other:?}")),
    }
}

fn load_guest() -> Result<GuestMemoryMmap, BuildError> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), guest::MEMORY_SIZE)])
        .map_err(|e| BuildError::Memory { step: "mapping memory", reason: e.to_string() })?;
    let gates = guest::interrupt_gates();
    let tables = [
        (guest::GDT, guest::DESCRIPTORS.as_slice()),
        (guest::IDT, gates.as_slice()),
        (guest::PML4, &[guest::PDPT | PAGE_PRESENT_WRITABLE]),
        (guest::PDPT, &[guest::PAGE_DIRECTORY | PAGE_PRESENT_WRITABLE]),
        (guest::PAGE_DIRECTORY, &[PAGE_PRESENT_WRITABLE | PAGE_LARGE]),
    ];
    let write = |bytes: &[u8], address: u64| {
        memory
            .write_slice(bytes, GuestAddress(address))
            .map_err(|e| BuildError::Memory { step: "loading the guest", reason: e.to_string() })
    };
    for (address, words) in tables {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        write(&bytes, address)?;
    }
    write(guest::code(), guest::CODE)?;
    Ok(memory)
}

fn host_address(memory: &GuestMemoryMmap) -> Result<u64, BuildError> {
    memory
        .get_host_address(GuestAddress(0))
        .map(|pointer| pointer.addr() as u64)
        .map_err(|e| BuildError::Memory { step: "finding memory", reason: e.to_string() })
}

/// The state in which a 64-bit kernel runs, with the tables of [`load_guest`].
fn long_mode(mut sregs: kvm_sregs, offered: Offered) -> kvm_sregs {
    let segment = |selector, type_, l, db| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        l,
        db,
        g: 1,
        ..Default::default()
    };
    sregs.cs = segment(8, 0xb, 1, 0); // execute, read, accessed; 64-bit
    let data = segment(16, 0x3, 0, 1); // read, write, accessed
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = guest::GDT;
    sregs.gdt.limit = 3 * 8 - 1;
    sregs.idt.base = guest::IDT;
    sregs.idt.limit = 32 * 16 - 1;
    sregs.cr3 = guest::PML4;
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    if offered.xsave {
        sregs.cr4 |= CR4_OSXSAVE;
    }
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    sregs.efer = EFER_LME | EFER_LMA;
    sregs
}

fn failed(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> BuildError {
    move |source| BuildError::Kvm { step, source }
}
