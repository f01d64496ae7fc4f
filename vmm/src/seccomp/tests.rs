use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use super::*;

const CONTROL: ThreadKind = ThreadKind::Control { to_be_saved: false };

/// All filters by name.
fn all() -> Vec<(&'static str, &'static [sock_filter])> {
    let others = [
        ("control", filters::CONTROL),
        ("vcpu", filters::VCPU),
        ("control to be saved", filters::CONTROL_TO_BE_SAVED),
        ("vcpu to be saved", filters::VCPU_TO_BE_SAVED),
    ];
    others.into_iter().chain(filters::DEVICES.iter().copied()).collect()
}

#[test]
fn every_device_has_a_filter_and_every_filter_a_device() {
    use virtio::{blk, console, fs, net, rng, vsock};
    let threads =
        [blk::THREAD, console::THREAD, fs::THREAD, net::THREAD, rng::THREAD, vsock::THREAD];
    let mut filters: Vec<_> = filters::DEVICES.iter().map(|(name, _)| *name).collect();
    filters.sort_unstable();
    assert_eq!(threads.map(|thread| thread.name).to_vec(), filters);
    let stranger = virtio::worker::ThreadKind { name: "vio-new", ..rng::THREAD };
    assert!(install(ThreadKind::Worker(stranger)).is_err());
}

/// What a program has loaded.
#[derive(Clone)]
enum Loaded {
    Known(u32),
    /// Part of an argument.
    Argument(String),
}

/// Follows the ways of a filter for one system call.
struct Ways<'a> {
    filter: &'a [sock_filter],
    call: u32,
    /// The conditions of each way that ends in "allow".
    allowed: Vec<String>,
}

impl Ways<'_> {
    fn follow(&mut self, mut next: usize, mut loaded: Loaded, met: &[(String, u32)]) {
        loop {
            let sock_filter { code, jt, jf, k } = self.filter[next];
            next += 1;
            let jump = |taken| usize::from(if taken { jt } else { jf });
            match (code, &loaded) {
                (0x06, _) => return self.end(k, met),
                (0x05, _) => next += k as usize,
                (0x20, _) => loaded = self.load(k),
                (0x54, Loaded::Known(value)) => loaded = Loaded::Known(value & k),
                (0x54, Loaded::Argument(name)) => {
                    loaded = Loaded::Argument(format!("{name} & {k:#x}"));
                }
                (0x15, Loaded::Known(value)) => next += jump(*value == k),
                (0x25, Loaded::Known(value)) => next += jump(*value > k),
                (0x35, Loaded::Known(value)) => next += jump(*value >= k),
                (0x15, Loaded::Argument(name)) => {
                    let known = met.iter().find(|(before, _)| before == name);
                    let possible = known.is_none_or(|(_, value)| *value == k);
                    let met = [met, &[(name.clone(), k)]].concat();
                    possible.then(|| self.follow(next + jump(true), loaded.clone(), &met));
                    next += jump(false);
                }
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    /// A field of `struct seccomp_data`.
    fn load(&self, offset: u32) -> Loaded {
        match offset {
            0 => Loaded::Known(self.call),
            4 => Loaded::Known(0xc000_003e),
            _ if offset.is_multiple_of(8) => {
                Loaded::Argument(format!("argument {}", offset / 8 - 2))
            }
            _ => Loaded::Argument(format!("upper half of argument {}", offset / 8 - 2)),
        }
    }

    fn end(&mut self, verdict: u32, met: &[(String, u32)]) {
        let condition = |(name, value): &(String, u32)| match *value {
            filters::OWN_PROCESS => format!("{name} = own process"),
            value => format!("{name} = {value}"),
        };
        if verdict == libc::SECCOMP_RET_ALLOW {
            self.allowed.push(met.iter().map(condition).collect::<Vec<_>>().join(", "));
        }
    }
}

/// Names and numbers of the system calls that the rules name.
fn calls() -> BTreeMap<String, u32> {
    let mut calls = BTreeMap::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("seccomp");
    let folders = ["", "devices", "boot-devices", "to-be-saved"].map(|folder| top.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    for file in files.map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let rules: Vec<serde_json::Value> =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for rule in rules {
            let name = rule["syscall"].as_str().unwrap().to_owned();
            calls.entry(name.clone()).or_insert_with(|| number(&name));
        }
    }
    calls
}

/// The number of a system call, from a filter of nothing but it.
fn number(name: &str) -> u32 {
    let filter = serde_json::json!({ "it": {
        "mismatch_action": "kill_process", "match_action": "allow",
        "filter": [ { "syscall": name } ],
    } });
    let arch = seccompiler::TargetArch::x86_64;
    let text = filter.to_string();
    let programs = seccompiler::compile_from_json(text.as_bytes(), arch).unwrap();
    let program = &programs["it"];
    let load = program.iter().position(|line| (line.code, line.k) == (0x20, 0)).unwrap();
    program[load..].iter().find(|line| line.code == 0x15).unwrap().k
}

/// A line for each way in which a filter allows a call.
fn lines(filter: &[sock_filter], call: &str, number: u32) -> String {
    let mut ways = Ways { filter, call: number, allowed: Vec::new() };
    ways.follow(0, Loaded::Known(0), &[]);
    ways.allowed.sort();
    ways.allowed.dedup();
    let line = |way: &String| match way.as_str() {
        "" => format!("{call}\n"),
        way => format!("{call}: {way}\n"),
    };
    ways.allowed.iter().map(line).collect()
}

/// A machine that is to be saved may do more: look at its own state.
#[test]
fn saving_adds_reading_to_the_filters_and_nothing_else() {
    let added = |plain: &'static [sock_filter], more: &'static [sock_filter]| {
        let mut added = Vec::new();
        for (call, number) in calls() {
            let (plain, more) = (lines(plain, &call, number), lines(more, &call, number));
            let known: Vec<_> = plain.lines().collect();
            assert!(known.iter().all(|line| more.lines().any(|one| one == *line)), "{call}");
            added.extend(more.lines().filter(|one| !known.contains(one)).map(str::to_owned));
        }
        added
    };
    let vcpu = added(filters::VCPU, filters::VCPU_TO_BE_SAVED);
    let control = added(filters::CONTROL, filters::CONTROL_TO_BE_SAVED);
    assert_eq!((vcpu.len(), control.len()), (11, 2), "{vcpu:?} {control:?}");
    // KVM's calls that read are those whose number says that the kernel writes (_IOR, _IOWR), and
    // the one that returns the counter's rate.
    for line in vcpu.iter().chain(&control) {
        let number: u64 = line.strip_prefix("ioctl: argument 1 = ").unwrap().parse().unwrap();
        assert!(number >> 31 == 1 || number == 0xaea3, "{line}");
    }
}

/// What each filter allows, whatever its file and the compiler say. `BLESS=1` writes it anew.
#[test]
fn filters_allow_what_the_golden_list_says() {
    let calls = calls();
    let mut text = String::new();
    for (name, filter) in all() {
        writeln!(text, "[{name}]").unwrap();
        calls.iter().for_each(|(call, &number)| text.push_str(&lines(filter, call, number)));
        text.push('\n');
    }
    // No number but those of the rules.
    for (name, filter) in all() {
        for call in (0..1024).filter(|call| !calls.values().any(|known| known == call)) {
            let mut ways = Ways { filter, call, allowed: Vec::new() };
            ways.follow(0, Loaded::Known(0), &[]);
            assert!(ways.allowed.is_empty(), "{name} allows call {call}");
        }
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/golden.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap();
    assert!(kept == text, "look at the difference and run with BLESS=1:\n{text}");
}

/// The control thread lives as long as the guest, and shares its memory with all others.
#[test]
fn the_control_thread_has_nothing_that_is_needed_at_boot_only() {
    let names = [libc::SYS_openat, libc::SYS_open, libc::SYS_mknodat, libc::SYS_unlinkat];
    let owners = [libc::SYS_setresuid, libc::SYS_fchownat, libc::SYS_setxattr, libc::SYS_accept4];
    for call in names.into_iter().chain(owners) {
        assert!(!allows(filters::CONTROL, call, [0; 4]), "{call}");
    }
}

#[test]
fn rules_are_as_narrow_as_they_say() {
    let refused = |call, args| all().iter().all(|(_, filter)| !allows(filter, call, args));
    // FUTEX_LOCK_PI, FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI
    assert!([6, 4, 12, 6 | 128].iter().all(|&op| refused(libc::SYS_futex, [0, op, 0, 0])));
    // MADV_REMOVE
    assert!(refused(libc::SYS_madvise, [0, 4096, 9, 0]));
    // A file, private and shared; a fixed address.
    assert!([1, 2, 0x32].iter().all(|&flags| refused(libc::SYS_mmap, [0, 4096, 3, flags])));
    // SECCOMP_FILTER_FLAG_NEW_LISTENER
    assert!(refused(libc::SYS_seccomp, [1, 8, 0, 0]));
    // F_SETFL of O_ASYNC
    assert!(refused(libc::SYS_fcntl, [0, 4, 0x2000 | 0x800, 0]));
    // A process; a thread in another namespace.
    assert!(
        [17, 4_001_536 | 1 << 29].iter().all(|&flags| refused(libc::SYS_clone, [flags, 0, 0, 0]))
    );
}

/// Whether `filter` allows a call, by running its program (`Documentation/networking/filter`).
fn allows(filter: &[sock_filter], call: libc::c_long, args: [u32; 4]) -> bool {
    // struct seccomp_data: number, architecture, instruction pointer, arguments.
    let mut data = [0_u32; 16];
    (data[0], data[1]) = (u32::try_from(call).unwrap(), 0xc000_003e);
    for (index, arg) in args.into_iter().enumerate() {
        data[4 + 2 * index] = arg;
    }
    let (mut accumulator, mut next) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = filter[next];
        let jump = |taken| usize::from(if taken { jt } else { jf });
        next += 1 + match code {
            0x05 => k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            _ => 0,
        };
        match code {
            0x06 => return k == libc::SECCOMP_RET_ALLOW,
            0x20 => accumulator = data[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 | 0x15 | 0x25 | 0x35 => {}
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// A VMM is root: its signals would reach the host's processes.
#[test]
fn no_thread_of_the_guest_can_signal_anybody() {
    for (name, filter) in all() {
        assert!(allows(filter, libc::SYS_close, [3, 0, 0, 0]));
        if !name.starts_with("control") {
            for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill] {
                assert!((0..=64).all(|signal| !allows(filter, call, [1, 1, signal, 0])));
            }
        }
        // F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal, sent on input and output.
        assert!([8, 10, 15].iter().all(|&way| !allows(filter, libc::SYS_fcntl, [3, way, 1, 0])));
    }
}

#[test]
fn the_control_thread_can_signal_its_own_process_only() {
    let own = std::process::id();
    let filter = of_this_process(filters::CONTROL);
    let may = |process, signal| allows(&filter, libc::SYS_tgkill, [process, 1, signal, 0]);
    assert!(may(own, 34));
    assert!((0..=64).filter(|&signal| signal != 34).all(|signal| !may(own, signal)));
    assert!([0, 1, own + 1, u32::MAX, filters::OWN_PROCESS].iter().all(|&other| !may(other, 34)));
}

#[test]
fn control_thread_can_make_threads() {
    let thread = std::thread::spawn(|| {
        install(CONTROL).unwrap();
        std::thread::spawn(|| install(ThreadKind::Worker(virtio::rng::THREAD)).is_ok()).join()
    });
    assert!(thread.join().unwrap().unwrap());
}

#[test]
fn control_thread_can_examine_a_block_device() {
    let thread = std::thread::spawn(|| {
        let file = tempfile::tempfile().unwrap();
        install(CONTROL).unwrap();
        rustix::fs::ioctl_blksszget(&file).unwrap_err()
    });
    // A call that is not allowed ends the process and not just the test.
    assert_eq!(thread.join().unwrap(), rustix::io::Errno::NOTTY);
}

#[test]
fn control_thread_can_make_a_network_device_of_anything() {
    let thread = std::thread::spawn(|| {
        let file = tempfile::tempfile().unwrap();
        install(CONTROL).unwrap();
        let refused = crate::devices::tap::check(&file).is_err();
        let calls = crate::devices::tap::CALLS;
        refused
            && (calls.set_offloads)(&file, 0).is_err()
            && (calls.set_queue)(&file, false).is_err()
            && (calls.set_backend)(&file, 0, None).is_err()
    });
    assert!(thread.join().unwrap());
}

#[test]
fn thread_can_still_allocate_lock_and_end() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        install(ThreadKind::Vcpu { to_be_saved: false }).unwrap();
        sender.send(vec![1_u8; 1 << 20]).unwrap();
        let mut byte = [0];
        std::io::empty().read(&mut byte).unwrap()
    });
    assert_eq!(receiver.recv().unwrap().len(), 1 << 20);
    assert_eq!(thread.join().unwrap(), 0);
}
