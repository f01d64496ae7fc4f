//! What a vCPU says about itself: what this host's KVM supports, with the edits of a table.
//!
//! Leaves are those of the Intel SDM volume 2 ("CPUID") and of AMD's APM volume 3, appendix E.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// One of the four result registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Bits of one register that every vCPU gets cleared, then set, and why.
struct Edit {
    leaf: u32,
    register: Register,
    clear: u32,
    set: u32,
    #[allow(dead_code, reason = "a table with reasons: the compiler makes sure none is missing")]
    reason: &'static str,
}

const ALL: u32 = u32::MAX;

/// The same edits for all subleaves of a leaf. Bits that KVM does not support are only set
/// where KVM documents that it emulates them with an in-kernel interrupt controller.
const EDITS: &[Edit] = &[
    Edit {
        leaf: 0x1,
        register: Register::Ecx,
        clear: 1 << 3 | 1 << 5 | 1 << 15, // MONITOR, VMX, PDCM
        set: 0,
        reason: "idle through HLT is what tells the host; nested virtualisation and \
                 performance counters widen what a guest can attack",
    },
    Edit {
        leaf: 0x1,
        register: Register::Ecx,
        clear: 0,
        set: 1 << 21 | 1 << 24 | 1 << 31, // x2APIC, TSC deadline timer, hypervisor
        reason: "KVM's local APIC has both, and they need no exit or calibration; the last \
                 makes Linux look for KVM's own leaves",
    },
    Edit {
        leaf: 0x5,
        register: Register::Edx,
        clear: ALL,
        set: 0,
        reason: "states of MONITOR/MWAIT, which is not offered",
    },
    Edit {
        leaf: 0x6,
        register: Register::Eax,
        clear: ALL,
        set: 1 << 2, // ARAT
        reason: "the host owns power and heat; the local APIC's timer never stops",
    },
    Edit {
        leaf: 0x6,
        register: Register::Ecx,
        clear: ALL,
        set: 0,
        reason: "no APERF/MPERF and no energy hints",
    },
    Edit {
        leaf: 0x7,
        register: Register::Ebx,
        clear: 1 << 2 | 1 << 25, // SGX, Processor Trace
        set: 0,
        reason: "neither is set up by this VMM",
    },
    Edit {
        leaf: 0xa,
        register: Register::Eax,
        clear: ALL,
        set: 0,
        reason: "no Intel performance counters: a side channel, and probing them costs exits",
    },
    Edit {
        leaf: 0x8000_0001,
        register: Register::Ecx,
        // SVM, skinit, LWP, core/NB/L2 performance counters, MWAITX
        clear: 1 << 2 | 1 << 12 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29,
        set: 0,
        reason: "no nested virtualisation, no counters, idle through HLT, as on Intel",
    },
    Edit {
        leaf: 0x8000_000a,
        register: Register::Edx,
        clear: ALL,
        set: 0,
        reason: "features of SVM, which is not offered",
    },
    Edit {
        leaf: 0x8000_0022,
        register: Register::Eax,
        clear: ALL,
        set: 0,
        reason: "no AMD performance counters of version 2 either",
    },
];

/// Leaves that are left out: they describe the host's topology in a way that the common
/// leaves, which this module writes, would contradict.
const REMOVED: &[u32] = &[
    0xb,         // replaced below
    0x1f,        // Intel's second version of 0xb; Linux falls back to 0xb
    0x8000_0026, // AMD's version of 0x1f; likewise
];

/// The place of one vCPU among `count`: one socket, one thread per core, and the APIC id is
/// the vCPU's number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Number of the vCPU, below `count`.
    pub(crate) index: u8,
    /// Number of vCPUs of the machine.
    pub(crate) count: u8,
}

impl Place {
    /// Number of bits of an APIC id that number the cores of the socket.
    fn core_bits(self) -> u32 {
        u32::from(self.count).next_power_of_two().trailing_zeros()
    }
}

/// The entries of one vCPU from those that KVM supports; `None` only if the result were past
/// KVM's limit.
pub(crate) fn of_vcpu(supported: &CpuId, place: Place) -> Option<CpuId> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !REMOVED.contains(&entry.function))
        .copied()
        .collect();
    for entry in &mut entries {
        apply_edits(entry);
        describe_place(entry, place);
    }
    entries.extend(extended_topology(place));
    CpuId::from_entries(&entries).ok()
}

fn apply_edits(entry: &mut kvm_cpuid_entry2) {
    for edit in EDITS.iter().filter(|edit| edit.leaf == entry.function) {
        let value = match edit.register {
            Register::Eax => &mut entry.eax,
            Register::Ebx => &mut entry.ebx,
            Register::Ecx => &mut entry.ecx,
            Register::Edx => &mut entry.edx,
        };
        *value = *value & !edit.clear | edit.set;
    }
}

/// Writes the vCPU's place into the leaves that carry parts of it.
fn describe_place(entry: &mut kvm_cpuid_entry2, place: Place) {
    let id = u32::from(place.index);
    let count = u32::from(place.count);
    let several = u32::from(count > 1);
    match entry.function {
        0x1 => {
            // Initial APIC id, number of ids in the socket, and whether there are several.
            entry.ebx = entry.ebx & 0x0000_ffff | id << 24 | count << 16;
            entry.edx = entry.edx & !(1 << 28) | several << 28;
        }
        0x4 | 0x8000_001d => {
            // Caches of level 3 and up are shared by the socket, others by nobody. Intel also
            // counts the cores here.
            let level = entry.eax >> 5 & 0x7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14;
            if entry.function == 0x4 && level > 0 {
                entry.eax |= ((1 << place.core_bits()) - 1) << 26;
            }
        }
        0x8000_0001 => entry.ecx = entry.ecx & !(1 << 1) | several << 1, // CmpLegacy
        0x8000_0008 => entry.ecx = place.core_bits() << 12 | (count - 1),
        0x8000_001e => {
            entry.eax = id; // extended APIC id
            entry.ebx = id; // core id, one thread per core
            entry.ecx = 0; // node 0 of 1
        }
        _ => {}
    }
}

/// Leaf 0xb: a level of threads, one per core, and a level of cores.
fn extended_topology(place: Place) -> [kvm_cpuid_entry2; 2] {
    let level = |index: u32, shift: u32, count: u32, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        edx: place.index.into(),
        ..Default::default()
    };
    [level(0, 0, 1, 1), level(1, place.core_bits(), place.count.into(), 2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ecx, ..Default::default() }
    }

    fn of(entries: &[kvm_cpuid_entry2], place: Place) -> Vec<kvm_cpuid_entry2> {
        let supported = CpuId::from_entries(entries).unwrap();
        of_vcpu(&supported, place).unwrap().as_slice().to_vec()
    }

    #[test]
    fn apic_id_is_the_same_in_every_leaf() {
        let host = [leaf(0x1, 0, 0), leaf(0x1f, 7, 7), leaf(0x8000_001e, 9, 9)];
        let entries = of(&host, Place { index: 3, count: 5 });
        let find = |function| entries.iter().filter(move |entry| entry.function == function);
        assert_eq!(find(0x1).next().unwrap().ebx >> 24, 3);
        assert_eq!(find(0x1).next().unwrap().ebx >> 16 & 0xff, 5);
        assert!(find(0xb).all(|entry| entry.edx == 3));
        assert_eq!(find(0xb).count(), 2);
        assert_eq!(find(0xb).nth(1).unwrap().eax, 3);
        assert_eq!(find(0x1f).count(), 0);
        assert_eq!(find(0x8000_001e).next().unwrap().eax, 3);
    }

    #[test]
    fn single_vcpu_has_no_siblings() {
        let entries =
            of(&[leaf(0x1, 0, 0), leaf(0x8000_0008, 48, 0)], Place { index: 0, count: 1 });
        assert_eq!(entries[0].edx >> 28 & 1, 0);
        assert_eq!(entries[1].ecx, 0);
        assert_eq!(entries[3].ebx, 1);
    }

    #[test]
    fn nested_virtualisation_is_hidden_and_hypervisor_shown() {
        let entries =
            of(&[leaf(0x1, 0, ALL), leaf(0x8000_0001, 0, ALL)], Place { index: 0, count: 2 });
        assert_eq!(entries[0].ecx >> 5 & 1, 0);
        assert_eq!(entries[0].ecx >> 31, 1);
        assert_eq!(entries[1].ecx >> 2 & 1, 0);
    }

    #[test]
    fn no_performance_counter_is_shown_whatever_the_host_has() {
        let host = [leaf(0x1, 0, ALL), leaf(0xa, ALL, ALL), leaf(0x8000_0001, 0, ALL)];
        let host = host.into_iter().chain([leaf(0x8000_0022, ALL, ALL)]).collect::<Vec<_>>();
        let entries = of(&host, Place { index: 0, count: 1 });
        // The vendor's own numbers: Intel SDM 3B, 20.2; AMD APM 3, E.4.
        let shown = [
            ("perfmon capabilities", entries[0].ecx >> 15 & 1),
            ("version and number of Intel's", entries[1].eax),
            ("core counters", entries[2].ecx >> 23 & 1),
            ("northbridge counters", entries[2].ecx >> 24 & 1),
            ("L2 counters", entries[2].ecx >> 28 & 1),
            ("AMD's version 2", entries[3].eax),
        ];
        assert!(shown.iter().all(|(_, value)| *value == 0), "{shown:?}");
    }

    #[test]
    fn level_three_cache_is_shared_and_others_are_not() {
        let caches = [leaf(0x4, 1 << 5 | 0xfff << 14, 0), leaf(0x4, 3 << 5, 0)];
        let entries = of(&caches, Place { index: 0, count: 4 });
        assert_eq!(entries[0].eax >> 14 & 0xfff, 0);
        assert_eq!(entries[1].eax >> 14 & 0xfff, 3);
    }

    #[test]
    fn every_edit_has_a_reason() {
        assert!(EDITS.iter().all(|edit| edit.reason.len() > 10));
    }
}
