//! The tiny guest of the probe: its machine code and where things lie in its memory.
//!
//! The guest has 64 KiB of memory, identity-mapped by one 2 MiB page. It runs in 64-bit mode at
//! privilege level 0 from its first instruction. For each [`Test`] the host enters it at the entry
//! that the table at the start of the code names. A test ends with one byte written to
//! [`DONE_PORT`]; an exception writes its vector to [`TRAP_PORT`].
//!
//! The host also calls the speed loop as an ordinary function, so both sides execute the very same
//! bytes.

#![allow(unsafe_code, reason = "the guest's machine code is assembled here and read as bytes")]

use std::arch::global_asm;

/// Bytes of guest memory.
pub(crate) const MEMORY_SIZE: usize = 0x1_0000;
/// Descriptor table: null, 64-bit code, data.
pub(crate) const GDT: u64 = 0x1000;
/// Interrupt gates for the vectors 0 to 31.
pub(crate) const IDT: u64 = 0x2000;
/// Page tables: one PML4 entry, one PDPT entry, one 2 MiB page.
pub(crate) const PML4: u64 = 0x3000;
/// Page directory pointer table.
pub(crate) const PDPT: u64 = 0x4000;
/// Page directory.
pub(crate) const PAGE_DIRECTORY: u64 = 0x5000;
/// Scratch memory of the tests: zero at the start, 64-byte aligned for XSAVE.
pub(crate) const SCRATCH: u64 = 0x6000;
/// Where the code is copied to; at most two pages.
pub(crate) const CODE: u64 = 0x8000;
/// Top of the stack, which grows down to 0xa000.
pub(crate) const STACK_TOP: u64 = 0xc000;

/// Port that takes the result of a test: [`PASSED`] or anything else for a wrong result.
pub(crate) const DONE_PORT: u16 = 0x50;
/// Port that takes the vector of an exception.
pub(crate) const TRAP_PORT: u16 = 0x51;
/// Byte that a test writes to [`DONE_PORT`] when every result was right.
pub(crate) const PASSED: u8 = 1;

/// Instructions executed by one turn of the speed loop.
pub(crate) const LOOP_INSTRUCTIONS: u64 = 8;

/// Bytes between two exception entries.
pub(crate) const TRAP_STRIDE: u64 = 16;

const VECTORS: usize = 32;

/// What the guest can be asked to execute, in the order of the table in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Test {
    /// The speed loop; the number of turns is in RDI.
    Speed,
    /// CPUID.
    Cpuid,
    /// RDMSR, WRMSR and SWAPGS.
    Msr,
    /// Reload of CR3 and INVLPG.
    PageTable,
    /// INT3 through the interrupt table and back with IRETQ.
    Breakpoint,
    /// POPCNT.
    Popcnt,
    /// LOCK CMPXCHG16B.
    Cmpxchg16b,
    /// XGETBV, XSETBV, XSAVE and XRSTOR.
    Xsave,
}

const TESTS: usize = 8;

impl Test {
    /// Every test but the speed loop, in the order in which the probe runs them.
    pub(crate) const INSTRUCTIONS: [Self; TESTS - 1] = [
        Self::Cpuid,
        Self::Msr,
        Self::PageTable,
        Self::Breakpoint,
        Self::Popcnt,
        Self::Cmpxchg16b,
        Self::Xsave,
    ];

    /// The instructions as a reader of a report knows them.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Speed => "ordinary instructions",
            Self::Cpuid => "cpuid",
            Self::Msr => "rdmsr/wrmsr",
            Self::PageTable => "mov cr3/invlpg",
            Self::Breakpoint => "int3",
            Self::Popcnt => "popcnt",
            Self::Cmpxchg16b => "cmpxchg16b",
            Self::Xsave => "xsave",
        }
    }
}

// Every entry of the table is the distance of a test from the table's start: the code runs
// wherever it is copied to. Intel syntax; `{name}` are the constants above.
global_asm!(
    ".pushsection .text.cuddy_probe, \"ax\", @progbits",
    ".balign 16",
    ".globl cuddy_probe_code",
    "cuddy_probe_code:",
    ".2byte 10f - cuddy_probe_code", // Test::Speed
    ".2byte 11f - cuddy_probe_code", // Test::Cpuid
    ".2byte 12f - cuddy_probe_code", // Test::Msr
    ".2byte 13f - cuddy_probe_code", // Test::PageTable
    ".2byte 14f - cuddy_probe_code", // Test::Breakpoint
    ".2byte 15f - cuddy_probe_code", // Test::Popcnt
    ".2byte 16f - cuddy_probe_code", // Test::Cmpxchg16b
    ".2byte 17f - cuddy_probe_code", // Test::Xsave
    ".2byte 40f - cuddy_probe_code", // the exception entries
    // --- Speed: RDI turns of the loop, then report.
    "10:",
    "call cuddy_probe_loop",
    "jmp 30f",
    // --- CPUID: leaf 0 must name at least leaf 1.
    "11:",
    "xor eax, eax",  // leaf 0
    "xor ecx, ecx",  // subleaf 0
    "cpuid",         // EAX = highest basic leaf
    "test eax, eax", // a processor without leaf 1 doesn't exist
    "jz 31f",
    "jmp 30f",
    // --- MSR: EFER rewritten with itself, KERNEL_GS_BASE written and read back.
    "12:",
    "mov ecx, 0xc0000080", // IA32_EFER
    "rdmsr",               // EDX:EAX = EFER
    "wrmsr",               // the same value again, as a resuming CPU does
    "mov ecx, 0xc0000102", // IA32_KERNEL_GS_BASE
    "mov eax, 0x12345678", // low half
    "xor edx, edx",        // high half: a canonical address
    "wrmsr",
    "swapgs",              // every kernel entry from user mode does this
    "swapgs",              // and back
    "xor eax, eax",        // forget, so that the read is real
    "rdmsr",               // EDX:EAX = KERNEL_GS_BASE
    "cmp eax, 0x12345678", // unchanged?
    "jne 31f",
    "jmp 30f",
    // --- Page table: what every context switch and unmap does.
    "13:",
    "mov rax, cr3",              // current root
    "mov cr3, rax",              // reload: drops the TLB
    "invlpg [{scratch}]",        // drop one translation
    "mov rcx, qword ptr [{scratch}]", // walk the tables again
    "mov rdx, cr0",              // control registers must be readable
    "test edx, edx",             // bit 31 (paging) is set: negative
    "jns 31f",
    "jmp 30f",
    // --- INT3: kernels patch themselves through it at boot.
    "14:",
    "xor r15d, r15d",      // cleared here, set by the handler
    "int3",                // vector 3, returns behind this byte
    "cmp r15d, 0x600d",    // did the handler run?
    "jne 31f",
    "jmp 30f",
    // --- POPCNT.
    "15:",
    "mov eax, 0xf0f0",     // eight bits set
    "popcnt ecx, eax",
    "cmp ecx, 8",
    "jne 31f",
    "jmp 30f",
    // --- CMPXCHG16B: the allocator's fast path.
    "16:",
    "mov qword ptr [{scratch}], 1",     // memory = 2:1
    "mov qword ptr [{scratch} + 8], 2",
    "mov eax, 1",                       // expected, low
    "mov edx, 2",                       // expected, high
    "mov ebx, 3",                       // new, low
    "mov ecx, 4",                       // new, high
    "lock cmpxchg16b [{scratch}]",      // equal, so memory = 4:3 and ZF = 1
    "jnz 31f",
    "cmp qword ptr [{scratch} + 8], 4", // high half stored?
    "jne 31f",
    "jmp 30f",
    // --- XSAVE: x87 and SSE state, as at every switch between tasks.
    "17:",
    "xor ecx, ecx",               // XCR0
    "xgetbv",                     // EDX:EAX = enabled states
    "or eax, 3",                  // x87 and SSE
    "xsetbv",
    "mov eax, 3",                 // save these two
    "xor edx, edx",
    "xsave64 [{scratch} + 0x100]",  // 576 bytes; the header was zero
    "mov eax, 3",
    "xrstor64 [{scratch} + 0x100]",
    "jmp 30f",
    // --- Report "passed" and stop. The host doesn't go on from here.
    "30:",
    "mov al, {passed}",
    "out {done}, al",
    "hlt",
    // --- Report "wrong result" and stop.
    "31:",
    "xor eax, eax",
    "out {done}, al",
    "hlt",
    // --- Exception entries, one every TRAP_STRIDE bytes. Vectors 0 to 2.
    ".balign 16",
    "40:",
    ".set cuddy_probe_vector, 0",
    ".rept 3",
    ".byte 0xb0, cuddy_probe_vector", // mov al, vector
    "out {trap}, al",
    "hlt",
    ".balign 16",
    ".set cuddy_probe_vector, cuddy_probe_vector + 1",
    ".endr",
    // Vector 3, INT3: leave a mark and return.
    "mov r15d, 0x600d",
    "iretq",
    ".balign 16",
    // Vectors 4 to 31.
    ".set cuddy_probe_vector, 4",
    ".rept 28",
    ".byte 0xb0, cuddy_probe_vector", // mov al, vector
    "out {trap}, al",
    "hlt",
    ".balign 16",
    ".set cuddy_probe_vector, cuddy_probe_vector + 1",
    ".endr",
    // --- The speed loop, a function of the System V calling convention: RDI turns (at least
    // one) of LOOP_INSTRUCTIONS instructions; RAX and RDX are clobbered.
    ".globl cuddy_probe_loop",
    "cuddy_probe_loop:",
    "xor eax, eax",
    "2:",
    "lea rax, [rax + rdi]", // 1: arithmetic
    "push rax",             // 2: store
    "pop rdx",              // 3: load
    "xor rax, rdx",         // 4
    "add rax, 3",           // 5
    "test rdx, rdx",        // 6
    "dec rdi",              // 7: one turn less
    "jnz 2b",               // 8
    "ret",
    ".globl cuddy_probe_end",
    "cuddy_probe_end:",
    ".popsection",
    scratch = const SCRATCH,
    passed = const PASSED,
    done = const DONE_PORT,
    trap = const TRAP_PORT,
);

unsafe extern "sysv64" {
    static cuddy_probe_code: u8;
    static cuddy_probe_end: u8;
    safe fn cuddy_probe_loop(turns: u64);
}

/// The machine code, to be copied to [`CODE`].
pub(crate) fn code() -> &'static [u8] {
    let start = &raw const cuddy_probe_code;
    let length = (&raw const cuddy_probe_end).addr() - start.addr();
    // SAFETY: both symbols delimit one section piece of this program's read-only code, which
    // lives as long as the program.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Runs the speed loop on the host, in this process. At least one turn.
pub(crate) fn run_loop_on_host(turns: u64) {
    cuddy_probe_loop(turns.max(1));
}

/// Guest address of a test.
pub(crate) fn entry(test: Test) -> u64 {
    CODE + table(test as usize)
}

/// Guest address of the code that takes an exception.
pub(crate) fn trap_entry(vector: u64) -> u64 {
    CODE + table(TESTS) + vector * TRAP_STRIDE
}

fn table(index: usize) -> u64 {
    let code = code();
    u64::from(u16::from_le_bytes([code[2 * index], code[2 * index + 1]]))
}

/// Descriptors of the guest: null, 64-bit code at selector 8, data at selector 16.
pub(crate) const DESCRIPTORS: [u64; 3] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// The interrupt table: 64-bit interrupt gates (present, ring 0) to the exception entries.
pub(crate) fn interrupt_gates() -> Vec<u64> {
    const SELECTOR_AND_TYPE: u64 = 0x0000_8e00_0008_0000;
    (0..VECTORS as u64)
        .flat_map(|vector| {
            let target = trap_entry(vector);
            [target & 0xffff | SELECTOR_AND_TYPE | (target & 0xffff_0000) << 32, target >> 32]
        })
        .collect()
}
