//! Names and numbers of system calls (arch/x86/entry/syscalls of Linux 6.12).

/// A system call table.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_…`, by which the kernel names it.
    pub(super) audit: u32,
    /// First number that belongs to another table (x32).
    pub(super) end: Option<u32>,
    /// Names with their numbers, sorted by name.
    calls: &'static [(&'static str, u32)],
}

/// 64-bit programs.
pub(super) static X86_64: Architecture = Architecture {
    audit: 0xc000_003e,
    end: Some(0x4000_0000),
    calls: &include!(concat!(env!("OUT_DIR"), "/x86_64.rs")),
};

/// 32-bit programs.
pub(super) static I386: Architecture = Architecture {
    audit: 0x4000_0003,
    end: None,
    calls: &include!(concat!(env!("OUT_DIR"), "/i386.rs")),
};

impl Architecture {
    /// The number of a system call.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let found = self.calls.binary_search_by_key(&name, |(known, _)| known).ok()?;
        Some(self.calls[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::{I386, X86_64};

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(X86_64.number("read"), Some(0));
        assert_eq!(X86_64.number("execveat"), u32::try_from(libc::SYS_execveat).ok());
        assert_eq!(X86_64.number("mseal"), Some(462));
        assert_eq!(X86_64.number("rea"), None);
        assert_eq!(I386.number("read"), Some(3));
        assert_eq!(I386.number("socketcall"), Some(102));
    }

    #[test]
    fn every_name_is_found() {
        for (name, number) in X86_64.calls.iter().chain(I386.calls) {
            let found = [X86_64.number(name), I386.number(name)];
            assert!(found.contains(&Some(*number)), "{name}");
        }
        assert!(X86_64.calls.len() > 370 && I386.calls.len() > 440);
    }
}
