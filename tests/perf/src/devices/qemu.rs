//! The measured guest under QEMU's `microvm`, with `virtiofsd` for the share.
//!
//! Alike are kernel, its command line, root filesystem, memory (a shared file in memory), and one
//! CPU with all the host's features. Disks go by way of the host's page cache, with 256 requests of
//! 254 segments. The share has 512 requests, and its server has one thread. That lets the guest
//! keep what it has read while a file is open, obeys O_DIRECT and is trusted to drop set-user-ID
//! bits. Packets have the same offloads in queues of 256, one pair, and one MTU. What QEMU does
//! otherwise than Cuddy is its design. It has disks in the main loop with a pool of threads, or
//! with an I/O thread and `io_uring` ([`Form::IoThread`]). Cuddy has a thread for each device.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::cuddy::{MAC, MEMORY_MIB, MORE};
use super::host::{Host, Network};
use super::{Broken, Files, Form, Numbers};
use crate::boot::{ALIKE, CMDLINE, MICROVM};
use crate::process::Process;

/// Where Debian installs the server of shares.
const VIRTIOFSD: &str = "/usr/libexec/virtiofsd";

/// Runs the guest and answers its numbers.
pub(super) fn run(files: &Files, host: &Host, form: Form, end: Instant) -> Result<Numbers> {
    let console = host.file("qemu.log");
    let network = Network::new()?;
    let socket = host.file("virtiofsd.sock");
    if socket.exists() {
        std::fs::remove_file(&socket).context("removing the last virtiofsd's socket")?;
    }
    let mut server = share(host, &socket)?;
    let ends = Ends { network: &network, console: &console, socket: &socket };
    let mut qemu = machine(files, host, form, &ends)?;
    let status = qemu.wait(end).context("waiting for QEMU").context(Broken)?;
    ensure!(status.success(), "QEMU ended with {status}");
    // It ends with QEMU's connection.
    server.wait(end).context("waiting for virtiofsd")?;
    host.numbers(&console)
}

fn share(host: &Host, socket: &Path) -> Result<Process> {
    let listener = UnixListener::bind(socket).context("listening for QEMU")?;
    let mut command = Command::new(VIRTIOFSD);
    command
        .args(["--fd=3", "--sandbox=chroot", "--cache=auto", "--log-level=error"])
        .args(["--allow-direct-io", "--killpriv-v2"])
        .arg("--shared-dir")
        .arg(host.share())
        .stdin(Stdio::null());
    let server = host::spawn::spawn(command, &[listener.into()])
        .with_context(|| format!("executing {VIRTIOFSD}; is it installed?"))?;
    Ok(Process(server))
}

/// What the machine's devices lead to on the host.
struct Ends<'a> {
    network: &'a Network,
    /// File of the console's output.
    console: &'a Path,
    /// Socket of the share's server.
    socket: &'a Path,
}

fn machine(files: &Files, host: &Host, form: Form, ends: &Ends<'_>) -> Result<Process> {
    let Ends { network, console, socket } = ends;
    let mut fds: Vec<OwnedFd> = vec![network.tap.try_clone()?.into()];
    let mut netdev = "tap,id=net,fd=3".to_owned();
    if form == Form::Vhost {
        let vhost: File = OpenOptions::new().read(true).write(true).open("/dev/vhost-net")?;
        fds.push(vhost.into());
        netdev.push_str(",vhost=on,vhostfd=4");
    }
    let show = |path: &Path| path.display().to_string();
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    let machine = format!("{MICROVM},memory-backend=memory");
    let memory = format!("memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on");
    let append = format!("{CMDLINE} {MORE}");
    let (ring, thread) = match form {
        Form::IoThread => (",aio=io_uring", ",iothread=disk"),
        Form::Plain | Form::Vhost => ("", ""),
    };
    let root = format!("if=none,id=root,file={},format=raw,readonly=on", show(&host.root()));
    let data = format!("if=none,id=data,file={},format=raw{ring}", show(&host.disk()));
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", &machine, "-smp", "1", "-m", &format!("{MEMORY_MIB}M")])
        .args(ALIKE)
        .args(["-object", &memory, "-object", "iothread,id=disk"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-kernel", &show(&files.kernel), "-append", &append])
        .args(["-drive", &root, "-device", "virtio-blk-device,drive=root"])
        .args(["-drive", &data, "-device", &format!("virtio-blk-device,drive=data{thread}")])
        .args(["-device", "virtio-serial-device"])
        .args(["-chardev", &format!("file,id=console,path={}", show(console))])
        .args(["-device", "virtconsole,chardev=console"])
        .args(["-chardev", &format!("socket,id=share,path={}", show(socket))])
        .args(["-device", "vhost-user-fs-device,chardev=share,tag=share,queue-size=512"])
        .args(["-netdev", &netdev])
        .args(["-device", &format!("virtio-net-device,netdev=net,mac={mac},host_mtu=1500")])
        .stdin(Stdio::null());
    let qemu = host::spawn::spawn(command, &fds)
        .context("executing qemu-system-x86_64; is it installed?")?;
    Ok(Process(qemu))
}
