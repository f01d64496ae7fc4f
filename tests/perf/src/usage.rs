//! What a process takes, as the kernel accounts it (proc(5)). Sizes are in MiB.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// The kernel's unit of CPU in `stat`, on x86-64: so many a second (time(7)).
const TICKS: u64 = 100;

/// A server's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server(pub(crate) u32);

/// A process's proportional set size by what it is behind, in MiB.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) all: f64,
    /// Its program as it is in the file: code and constants, which the kernel can drop.
    pub(crate) program: f64,
    /// What of its program was written to: relocations, variables. Nobody shares it.
    pub(crate) written: f64,
    /// Other files.
    pub(crate) files: f64,
    /// `[heap]`.
    pub(crate) heap: f64,
    /// Other memory without a file: what an allocator maps, threads' stacks.
    pub(crate) anonymous: f64,
    /// The first thread's stack.
    pub(crate) stack: f64,
}

impl Server {
    fn directory(self) -> PathBuf {
        Path::new("/proc").join(self.0.to_string())
    }

    fn read(self, name: &str) -> Result<String> {
        let path = self.directory().join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// CPU that it took so far, with its threads that have ended and the children that it waited
    /// for. The kernel tells it in hundredths of a second.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        cpu(&stat).with_context(|| format!("no times in {stat:?}"))
    }

    /// Most resident memory since its start, or since [`Self::forget_peak`].
    pub(crate) fn peak(self) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(kib).with_context(|| format!("no peak of process {}", self.0))
    }

    /// Makes what is resident now the peak.
    pub(crate) fn forget_peak(self) -> Result<()> {
        let path = self.directory().join("clear_refs");
        std::fs::write(&path, "5").with_context(|| format!("writing {}", path.display()))
    }

    /// Its memory now.
    pub(crate) fn memory(self) -> Result<Memory> {
        let exe = self.directory().join("exe");
        let program = std::fs::read_link(exe).context("finding a server's program")?;
        Ok(memory(&self.read("smaps")?, &program.to_string_lossy()))
    }
}

/// The sum of utime, stime, cutime and cstime. The command before them may have any character.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    // Field 14 of the line is the 12th behind the command.
    let times = fields.get(11..15)?.iter().map(|time| time.parse::<u64>());
    let ticks: u64 = times.collect::<Result<Vec<_>, _>>().ok()?.iter().sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// MiB of the text behind a key of `status` and `smaps`.
fn kib(text: &str) -> Option<f64> {
    let kib: u32 = text.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

fn memory(smaps: &str, program: &str) -> Memory {
    let mut sums: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    let mut name = String::new();
    for line in smaps.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let column = match key {
            "Pss:" => 0,
            "Anonymous:" => 1,
            _ if key.ends_with(':') => continue,
            // A mapping's head: addresses, rights, offset, device, inode, name.
            _ => {
                value.split_whitespace().nth(4).unwrap_or_default().clone_into(&mut name);
                continue;
            }
        };
        sums.entry(name.clone()).or_default()[column] += kib(value).unwrap_or_default();
    }
    let mut memory = Memory::default();
    for (name, [all, own]) in sums {
        memory.all += all;
        if name == program {
            memory.written += own;
            memory.program += all - own;
            continue;
        }
        *match name.as_str() {
            "[heap]" => &mut memory.heap,
            "[stack]" => &mut memory.stack,
            file if file.starts_with('/') => &mut memory.files,
            _ => &mut memory.anonymous,
        } += all;
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_all_threads_and_children() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 9 9 9 100 20 3 1 20 0 4 0 88";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1240)));
        assert_eq!(cpu("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_told_by_what_is_behind_it() {
        let smaps = "\
7f0000000000-7f0010000000 r-xp 00000000 00:01 5    /usr/bin/server
Pss:                1024 kB
Anonymous:             0 kB
7f1000000000-7f1000100000 rw-p 00000000 fe:00 9    /usr/bin/server
Pss:                 512 kB
Anonymous:           256 kB
7f2000000000-7f2000021000 rw-p 00000000 00:00 0
Pss:                2048 kB
Anonymous:          2048 kB
7f3000000000-7f3000021000 rw-p 00000000 00:00 0    [heap]
Pss:                4096 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]
Pss:                 512 kB
7f4000000000-7f4000021000 r--p 00000000 fe:00 3    /etc/ld.so.cache
Pss:                 256 kB
";
        let expected = Memory {
            all: 8.25,
            program: 1.25,
            written: 0.25,
            files: 0.25,
            heap: 4.0,
            anonymous: 2.0,
            stack: 0.5,
        };
        assert_eq!(memory(smaps, "/usr/bin/server"), expected);
    }

    #[test]
    fn of_this_process_all_is_known() {
        let own = Server(std::process::id());
        own.forget_peak().unwrap();
        let memory = own.memory().unwrap();
        assert!(memory.program > 0.0 && memory.all < own.peak().unwrap() * 2.0, "{memory:?}");
    }
}
