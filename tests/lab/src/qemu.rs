//! QEMU's command line for L1, and the few questions asked of it over QMP.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::agent;

/// The disk that L1 writes to, in the lab's directory.
pub const DISK: &str = "disk.raw";

/// Size and mode of L1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Number of CPUs; the deterministic mode always has one.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Deterministic mode: one nanosecond of L1 time is one executed instruction.
    pub icount: bool,
}

/// What becomes of QEMU when the driver's main thread ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// The kernel kills QEMU, however the driver ended.
    Driver,
    /// QEMU goes on until `lab down`.
    Detached,
}

/// What one L1 is made of. Relative paths are relative to the lab's directory.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The lab's directory, QEMU's working directory.
    pub directory: &'a Path,
    /// Cached image directory, from `build.sh`.
    pub image: &'a Path,
    /// CPUs and memory.
    pub shape: &'a Shape,
    /// Secret that the agent asks for.
    pub token: &'a str,
    /// Whether `payload.erofs` is attached.
    pub payload: bool,
    /// Disk with containerd's prepared state, from `seed.sh`.
    pub seed: Option<&'a Path>,
    /// Whether a virtio-fs server listens at `share.sock`.
    pub share: bool,
    /// Whether [`DISK`] is attached.
    pub disk: bool,
}

/// A started QEMU and the driver's ends of its channels.
#[derive(Debug)]
pub struct Started {
    /// QEMU itself.
    pub child: Child,
    /// QMP monitor.
    pub monitor: UnixStream,
    /// Other end of L1's virtio-serial port: carries [`agent::READY`], closed when QEMU ends.
    pub ready: UnixStream,
}

/// A command that the kernel kills when this process's calling thread ends, if so wanted.
/// The program is one of the image's `host/bin`, run by the image's own dynamic loader.
#[must_use]
pub fn command(image: &Path, program: &str, lifetime: Lifetime) -> Command {
    let libraries = image.join("host/lib");
    let loader = libraries.join("ld-linux-x86-64.so.2");
    let mut command = match lifetime {
        Lifetime::Detached => Command::new(loader),
        Lifetime::Driver => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(loader);
            command
        }
    };
    command.arg("--library-path").arg(libraries).arg(image.join("host/bin").join(program));
    // Not in the terminal's foreground group: an interrupt reaches the driver only.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Machine<'_> {
    /// Starts QEMU; its messages go to `qemu.log`, L1's console to `console.log`.
    ///
    /// # Errors
    /// The image has no QEMU, or files of the lab's directory cannot be made.
    pub fn start(&self, lifetime: Lifetime) -> io::Result<Started> {
        let (monitor, monitor_qemu) = UnixStream::pair()?;
        let (ready, ready_qemu) = UnixStream::pair()?;
        let channels = [OwnedFd::from(monitor_qemu), OwnedFd::from(ready_qemu)];
        let mut command = command(self.image, "qemu-system-x86_64", lifetime);
        command.arg("-L").arg(self.image.join("host/firmware"));
        command.args(self.machine()).args(self.drives()).args(self.devices(&channels));
        command.arg("-append").arg(self.kernel_line());
        command.current_dir(self.directory);
        command.stderr(std::fs::File::create(self.directory.join("qemu.log"))?);
        for channel in &channels {
            fcntl_setfd(channel, FdFlags::empty())?; // inherited by QEMU, closed here on return
        }
        Ok(Started { child: command.spawn()?, monitor, ready })
    }

    fn machine(&self) -> Vec<OsString> {
        let shape = self.shape;
        let (accel, cpus) = match shape.icount {
            true => ("tcg,thread=single,tb-size=1024", 1),
            false => ("tcg,thread=multi,tb-size=1024", shape.cpus),
        };
        let mut arguments = words("-machine q35,memory-backend=ram -cpu EPYC-Rome,+svm,+npt");
        arguments.extend(words(&format!("-accel {accel} -smp {cpus} -m {}", shape.memory)));
        arguments.extend(words(&format!(
            "-object memory-backend-memfd,id=ram,share=on,size={}M",
            shape.memory
        )));
        if shape.icount {
            arguments.extend(words("-icount shift=0,sleep=off"));
        }
        arguments.extend(words("-nodefaults -nographic -no-reboot -rtc base=utc"));
        arguments.extend(words("-initrd initrd.cpio -kernel"));
        arguments.push(self.image.join("vmlinuz").into());
        arguments
    }

    /// Disks, in the order in which L1 names them vda, vdb and so on; those after the first two
    /// with the kernel parameter that announces them. All but [`DISK`] are read-only.
    fn disks(&self) -> Vec<(PathBuf, &'static str)> {
        let mut disks =
            vec![(self.image.join("root.erofs"), ""), (self.image.join("modules.erofs"), "")];
        if self.payload {
            disks.push(("payload.erofs".into(), "payload"));
        }
        disks.extend(self.seed.map(|seed| (seed.to_owned(), "seed")));
        if self.disk {
            disks.push((DISK.into(), "disk"));
        }
        disks
    }

    fn drives(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for (index, (path, _)) in self.disks().iter().enumerate() {
            let form = if path == Path::new(DISK) { "discard=unmap" } else { "readonly=on" };
            let mut drive = OsString::from(format!("if=none,id=d{index},format=raw,{form},file="));
            drive.push(path.to_string_lossy().replace(',', ",,"));
            arguments.extend(["-drive".into(), drive]);
            arguments.extend(words(&format!("-device virtio-blk-pci,drive=d{index}")));
        }
        arguments
    }

    fn devices(&self, [monitor, ready]: &[OwnedFd; 2]) -> Vec<OsString> {
        let port = agent::PORT;
        let (monitor, ready) = (monitor.as_raw_fd(), ready.as_raw_fd());
        let mut arguments = words(&format!(
            "-chardev file,id=con,path=console.log -serial chardev:con \
             -chardev socket,id=qmp,fd={monitor} -mon chardev=qmp,mode=control \
             -netdev user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-:{port} \
             -device virtio-net-pci,netdev=n0,romfile= \
             -chardev socket,id=ready,fd={ready} -device virtio-serial-pci \
             -device virtserialport,chardev=ready,name=lab.0 -device virtio-rng-pci"
        ));
        if self.share {
            arguments.extend(words(
                "-chardev socket,id=share,path=share.sock \
                 -device vhost-user-fs-pci,chardev=share,tag=share",
            ));
        }
        arguments
    }

    fn kernel_line(&self) -> String {
        let mut line =
            String::from("console=ttyS0 reboot=t panic=-1 oops=panic quiet mitigations=off");
        line.push_str(&format!(" lab.token={}", self.token));
        for ((_, name), letter) in self.disks().iter().zip('a'..='z') {
            if !name.is_empty() {
                line.push_str(&format!(" lab.{name}=/dev/vd{letter}"));
            }
        }
        if self.share {
            line.push_str(" lab.share=share");
        }
        line
    }
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// Asks QEMU which port of 127.0.0.1 it forwards to the agent.
///
/// # Errors
/// QEMU ended, or its answer has no such port.
pub fn forwarded_port(monitor: &UnixStream) -> io::Result<u16> {
    let mut lines = BufReader::new(monitor).lines();
    let mut execute = |command: Value| -> io::Result<Value> {
        let mut writer = monitor;
        writeln!(writer, "{command}")?;
        for line in lines.by_ref() {
            let mut answer: Value = serde_json::from_str(&line?)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    execute(json!({ "execute": "qmp_capabilities" }))?;
    let table = execute(json!({
        "execute": "human-monitor-command",
        "arguments": { "command-line": "info usernet" },
    }))?;
    parse_forwarded_port(table.as_str().unwrap_or_default())
        .ok_or_else(|| io::Error::other(format!("no forwarded port in {table}")))
}

/// A line reads: `TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15  7070  0  0`.
fn parse_forwarded_port(table: &str) -> Option<u16> {
    let line = table.lines().find(|line| line.contains("HOST_FORWARD"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_the_host_side_one() {
        let table = "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  13       127.0.0.1 40123       10.0.2.15  7070     0     0\r\n";
        assert_eq!(parse_forwarded_port(table), Some(40123));
        assert_eq!(parse_forwarded_port("nothing"), None);
    }

    #[test]
    fn the_deterministic_mode_has_one_cpu() {
        let shape = Shape { cpus: 4, memory: 1024, icount: true };
        let machine = Machine {
            directory: Path::new("/lab"),
            image: Path::new("/image"),
            shape: &shape,
            token: "secret",
            payload: true,
            seed: Some(Path::new("/seed.erofs")),
            share: false,
            disk: true,
        };
        let arguments: Vec<_> =
            machine.machine().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = arguments.join(" ");
        assert!(line.contains("-smp 1 "), "{line}");
        assert!(line.contains("-icount shift=0,sleep=off"), "{line}");
        let line = machine.kernel_line();
        assert!(
            line.ends_with(
                "lab.token=secret lab.payload=/dev/vdc lab.seed=/dev/vdd lab.disk=/dev/vde"
            ),
            "{line}"
        );
        let drives: Vec<_> =
            machine.drives().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let written: Vec<_> = drives.iter().filter(|one| one.contains("file=")).collect();
        let written: Vec<_> = written.iter().filter(|one| !one.contains("readonly")).collect();
        assert_eq!(written.len(), 1, "{drives:?}");
        assert!(written[0].ends_with("file=disk.raw"), "{drives:?}");
    }
}
