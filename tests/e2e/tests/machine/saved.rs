//! Machines that are saved, and machines that go on where a saved one was.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use vmm_api::{
    BlockConfig, DeviceConfig, ErrorKind, ErrorReply, Event, FdSlot, KernelDigest, MachineEnd,
    Reply, Request,
};

use super::client::{Boot, DEADLINE, Output, Vmm, installed, refusal, vmlinux};
use super::guest::{disk, image};
use super::kernels;
use super::ready::{RPC_PORT, connect};

const MIB: u64 = 128;

/// A guest that says that it lives until a second disk shows up, which has the guest's name. Then
/// it uses its disks, memory, timers and second CPU.
const SCRIPT: &str = "mount -t tmpfs none /mnt
busybox=$(md5sum < /bin/busybox)
tick=0
echo template is ready
while [ ! -e /dev/vdb ]; do
    unbind LNRO0005:03 2>/dev/null
    bind LNRO0005:03 2>/dev/null
    read uptime rest < /proc/uptime
    tick=$((tick + 1))
    echo tick $tick at $uptime
    sleep 0.1
done
name=$(head -c 5 /dev/vdb)
dmesg | grep -q 'crng reseeded due to virtual machine fork' && echo $name knows that it is a clone
echo name $name after $tick
echo 3 > /proc/sys/vm/drop_caches
[ \"$busybox\" = \"$(md5sum < /bin/busybox)\" ] && echo $name reads its disk
echo $name > /mnt/name
dd if=/dev/zero of=/mnt/large bs=64k count=256 2>/dev/null
echo 1 > /sys/devices/system/cpu/cpu1/online
echo $name has CPUs $(cat /sys/devices/system/cpu/online)
cat /mnt/name | dd of=/dev/vdb bs=512 seek=1 conv=sync,fsync 2>/dev/null
dmesg | grep -i -e unstable -e lockup -e stall -e 'WARNING: CPU'
echo $name wrote $(cat /mnt/name)
while :; do sleep 0.1; read uptime rest < /proc/uptime; echo late $name $uptime; done";

/// What is left of a machine that was saved.
struct Template {
    state: Vec<u8>,
    memory: File,
    kernel: KernelDigest,
    root: OwnedFd,
    /// What the guest had written to its console.
    text: String,
}

pub(crate) fn kernel() -> KernelDigest {
    KernelDigest::of(File::from(vmlinux())).unwrap()
}

pub(crate) fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Pauses and saves a machine, and waits for its end.
fn save(vmm: &mut Vmm) -> Vec<u8> {
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    let state = tempfile::tempfile().unwrap();
    let fds = [OwnedFd::from(state.try_clone().unwrap())];
    assert_eq!(vmm.ask(&Request::Save { state: FdSlot(0) }, &fds), Reply::Done);
    let (end, status) = vmm.end();
    assert_eq!((end, status.success()), (MachineEnd::Stopped, true));
    whole(&state)
}

/// A machine whose first process runs [`SCRIPT`], as it is when it says that it is ready.
fn template() -> Template {
    let (output, root) = (Output::new(), image(SCRIPT));
    let boot = Boot::new(vmlinux(), MIB)
        .vcpus(2)
        .savable()
        .device(|boot| disk(boot, root.try_clone().unwrap(), true))
        .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
        .device(|_| DeviceConfig::Rng);
    let mut vmm = Vmm::boot(&boot);
    output.wait_for("tick 3 ");
    let state = save(&mut vmm);
    Template { state, memory: boot.memory(), kernel: kernel(), root, text: output.text() }
}

impl Template {
    /// A machine from this one, with its host sides.
    fn clone(&self, output: &Output) -> Boot {
        let (state, memory) = (file(&self.state), self.memory.try_clone().unwrap());
        Boot::saved(state.into(), self.kernel, MIB, memory.into())
            .vcpus(2)
            .device(|boot| disk(boot, self.root.try_clone().unwrap(), true))
            .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
            .device(|_| DeviceConfig::Rng)
    }

    /// The same with one more disk, which says the machine's name.
    fn named(&self, name: &str, output: &Output) -> (Boot, File) {
        let own = file(name.as_bytes());
        own.set_len(1 << 20).unwrap();
        let fd = OwnedFd::from(own.try_clone().unwrap());
        (self.clone(output).device(|boot| disk(boot, fd, false)), own)
    }

    /// What a request with a change is refused for. The process then takes the right one.
    fn refused(&self, change: impl FnOnce(&mut Boot)) -> ErrorReply {
        let (mut vmm, output) = (Vmm::start(), Output::new());
        let mut wrong = self.clone(&output);
        change(&mut wrong);
        let error = refusal(vmm.try_boot(&wrong));
        assert_eq!(vmm.try_boot(&self.clone(&output)), Reply::Done, "after {error}");
        output.wait_for("tick ");
        error
    }
}

/// Number and time of a tick, the time in hundredths of a second.
fn tick(line: &str) -> Option<(u32, u64)> {
    let (number, at) = line.trim().strip_prefix("tick ")?.split_once(" at ")?;
    let (seconds, hundredths) = at.split_once('.')?;
    let time = seconds.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?;
    Some((number.parse().ok()?, time))
}

fn ticks(text: &str) -> Vec<(u32, u64)> {
    text.lines().filter_map(tick).collect()
}

#[test]
fn clones_go_on_where_the_template_was_and_each_for_itself() {
    let template = template();
    let before = whole(&template.memory);
    // The time in which nothing is there is what the guest must not see.
    let away = Duration::from_secs(5);
    std::thread::sleep(away);
    let outputs = [Output::new(), Output::new()];
    let (first, first_disk) = template.named("first", &outputs[0]);
    let (other, other_disk) = template.named("other", &outputs[1]);
    let mut machines = [Vmm::boot(&first), Vmm::boot(&other)];
    for vmm in &mut machines {
        let Event::GuestReady { since_exec_us, since_boot_us } = vmm.event() else {
            panic!("a machine that was ready is not")
        };
        println!("restored {since_exec_us} us after exec");
        assert!(since_boot_us < since_exec_us);
    }
    for (output, name) in outputs.iter().zip(["first", "other"]) {
        let text = output.wait_for(&format!("{name} wrote {name}"));
        assert!(text.contains(&format!("{name} knows that it is a clone")), "{text}");
        assert!(text.contains(&format!("{name} reads its disk")), "{text}");
        assert!(text.contains(&format!("{name} has CPUs 0-1")), "{text}");
        for complaint in ["unstable", "lockup", "stall", "WARNING"] {
            assert!(!text.contains(complaint), "{complaint}: {text}");
        }
        output.wait_for(&format!("late {name}"));
        goes_on(&template.text, &text, away);
    }
    for (disk, name) in [(first_disk, b"first\n"), (other_disk, b"other\n")] {
        let mut bytes = [0; 6];
        disk.read_exact_at(&mut bytes, 512).unwrap();
        assert_eq!(&bytes, name);
    }
    drop(machines);
    assert!(whole(&template.memory) == before, "the template has changed");
}

/// Ticks go on with the next number, and without the time that the machine was away.
fn goes_on(before: &str, after: &str, away: Duration) {
    let (before, after) = (ticks(before), ticks(after));
    let all: Vec<_> = before.iter().chain(&after).collect();
    assert!(!after.is_empty(), "no tick after the restore");
    for pair in all.windows(2) {
        let ((number, at), (next, then)) = (pair[0], pair[1]);
        assert_eq!(*next, number + 1, "{before:?} {after:?}");
        let jump = then.checked_sub(*at).expect("time runs backwards");
        assert!(u128::from(jump) * 10 < away.as_millis(), "{before:?} {after:?}");
    }
}

/// Lost timers show in a few of a hundred restores, and then for ever.
#[test]
fn timers_run_in_every_clone() {
    let template = template();
    let last = ticks(&template.text).last().unwrap().0;
    for round in 0..10 {
        let output = Output::new();
        let started = Instant::now();
        let mut vmm = Vmm::boot(&template.clone(&output));
        output.wait_for(&format!("tick {} ", last + 3));
        println!("round {round}: three ticks after {:?}", started.elapsed());
        assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
        assert_eq!(vmm.end().0, MachineEnd::Stopped);
    }
}

/// The product's own guest, with a socket to its agent.
#[test]
fn the_agent_of_a_clone_answers() {
    let directory = tempfile::tempdir().unwrap();
    let pod = |boot: Boot, socket: &Path, output: &Output| {
        let path = installed("CUDDY_ROOTFS", "/opt/cuddy/share/cuddy/rootfs.erofs");
        let rootfs = File::open(path).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        boot.vcpus(2)
            .device(|boot| {
                let file = boot.slot(rootfs.into());
                DeviceConfig::Block(BlockConfig::new(file, true, "").unwrap())
            })
            .device(|boot| DeviceConfig::Vsock { listener: boot.slot(listener.into()) })
            .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
            .device(|_| DeviceConfig::Rng)
    };
    let output = Output::new();
    let boot = Boot::new(vmlinux(), 256).savable();
    let boot = pod(boot, &directory.path().join("template"), &output);
    let mut vmm = Vmm::boot(&boot);
    let ready = vmm.event();
    let Event::GuestReady { since_exec_us: cold, .. } = ready else {
        panic!("{ready:?}: {}", output.text())
    };
    let client = connect(&directory.path().join("template"), RPC_PORT);
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    let fds = [OwnedFd::from(tempfile::tempfile().unwrap())];
    let error = vmm.refused(&Request::Save { state: FdSlot(0) }, &fds);
    assert!(error.message.contains("a connection is open"), "{error}");
    assert_eq!(vmm.ask(&Request::Resume, &[]), Reply::Done);
    drop(client);
    let state = save_when_quiet(&mut vmm);

    for name in ["one", "two"] {
        let (output, socket) = (Output::new(), directory.path().join(name));
        let memory = boot.memory().into();
        let boot = Boot::saved(file(&state).into(), kernel(), 256, memory);
        let mut vmm = Vmm::boot(&pod(boot, &socket, &output));
        let Event::GuestReady { since_exec_us, .. } = vmm.event() else { panic!("not ready") };
        let mut client = connect(&socket, RPC_PORT);
        let mut answer = String::new();
        BufReader::new(&client).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("OK "), "{answer:?}");
        println!(
            "{name}: answers {:?} after exec; ready {since_exec_us} us, cold {cold} us",
            vmm.started.elapsed()
        );
        client.write_all(b"no ttrpc").unwrap();
        drop(client);
        let mut refused = Vec::new();
        connect(&socket, 9).read_to_end(&mut refused).unwrap();
        assert_eq!(refused, b"");
        assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
        assert_eq!(vmm.end().0, MachineEnd::Stopped);
    }
}

/// Saves a machine once its last connection is gone, of which only the guest knows when.
pub(crate) fn save_when_quiet(vmm: &mut Vmm) -> Vec<u8> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
        let state = tempfile::tempfile().unwrap();
        let fds = [OwnedFd::from(state.try_clone().unwrap())];
        match vmm.ask(&Request::Save { state: FdSlot(0) }, &fds) {
            Reply::Done => {
                assert_eq!(vmm.end().0, MachineEnd::Stopped);
                return whole(&state);
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        assert_eq!(vmm.ask(&Request::Resume, &[]), Reply::Done);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_not_the_saved_machine_is_refused_by_name() {
    let template = template();
    let error = template.refused(|boot| boot.raw.vcpus = 3);
    assert!(error.message.contains("number of vCPUs is 2, asked for is 3"), "{error}");
    assert_eq!(error.kind, ErrorKind::Invalid);
    let error = template.refused(|boot| boot.raw.extra_cmdline = "quiet".to_owned());
    assert!(error.message.contains("kernel command line"), "{error}");

    let other = KernelDigest::of(&kernels::elf(&[0xf4; 4096])[..]).unwrap();
    let output = Output::new();
    let mut wrong = Vmm::start();
    let asked = Template { kernel: other, ..template };
    let error = refusal(wrong.try_boot(&asked.clone(&output)));
    assert!(error.message.contains(&other.to_string()), "{error}");
    let template = Template { kernel: kernel(), ..asked };

    for at in [0, 9, 20, 45, 60, template.state.len() / 2, template.state.len() - 1] {
        let mut state = template.state.clone();
        state[at] ^= 0x20;
        let fd = OwnedFd::from(file(&state));
        let error = template.refused(|boot| boot.replace_first(fd));
        assert_eq!(error.kind, ErrorKind::Invalid, "byte {at}: {error}");
    }
    let cut = OwnedFd::from(file(&template.state[..1000]));
    let error = template.refused(|boot| boot.replace_first(cut));
    assert!(error.message.contains("cut off"), "{error}");
}

#[test]
fn a_machine_that_can_not_be_saved_goes_on() {
    let output = Output::new();
    let own = OwnedFd::from(file(&[0; 4096]));
    let boot = Boot::new(vmlinux(), MIB)
        .vcpus(2)
        .savable()
        .device(|boot| disk(boot, image(&SCRIPT.replace("vdb", "vdc")), true))
        .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
        .device(|boot| disk(boot, own, false));
    let mut vmm = Vmm::boot(&boot);
    output.wait_for("tick 3 ");
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    let fds = || [OwnedFd::from(tempfile::tempfile().unwrap())];
    let error = vmm.refused(&Request::Save { state: FdSlot(0) }, &fds());
    assert!(error.message.contains("window 2: vio-blk: what is on a writable disk"), "{error}");
    assert_eq!(vmm.ask(&Request::Resume, &[]), Reply::Done);
    let seen = ticks(&output.text()).last().unwrap().0;
    output.wait_for(&format!("tick {} ", seen + 3));
    // Nor may it be asked for while it runs.
    let error = vmm.refused(&Request::Save { state: FdSlot(0) }, &fds());
    assert_eq!(error.kind, ErrorKind::State);
}

#[test]
fn machines_that_were_not_built_for_it_are_not_saved() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::spin(), 64));
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    let fds = [OwnedFd::from(tempfile::tempfile().unwrap())];
    let error = vmm.refused(&Request::Save { state: FdSlot(0) }, &fds);
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("not built to be saved"), "{error}");
    let serial = Output::new();
    let boot = Boot::new(kernels::spin(), 64).serial(&serial).savable();
    let error = refusal(Vmm::start().try_boot(&boot));
    assert!(error.message.contains("early serial console"), "{error}");
}
