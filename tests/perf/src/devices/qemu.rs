//! The measured guest under QEMU's `microvm`, with `virtiofsd` for the share.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cuddy::{MAC, MEMORY_MIB};
use super::host::{Host, Network};
use super::{Files, Numbers, Packets};

/// Where Debian installs the server of shares.
const VIRTIOFSD: &str = "/usr/libexec/virtiofsd";

/// Runs the guest and answers its numbers.
pub(super) fn run(files: &Files, host: &Host, packets: Packets) -> Result<Numbers> {
    let console = host.file("qemu.log");
    let network = Network::new()?;
    let socket = host.file("virtiofsd.sock");
    let mut server = share(host, &socket)?;
    let run = machine(files, host, packets, (&network, &console, &socket));
    // It ends with QEMU's connection, if there was one.
    if run.is_err() {
        server.kill().context("ending virtiofsd")?;
    }
    server.wait().context("waiting for virtiofsd")?;
    run?;
    host.numbers(&console)
}

fn share(host: &Host, socket: &Path) -> Result<Child> {
    let listener = UnixListener::bind(socket).context("listening for QEMU")?;
    let mut command = Command::new(VIRTIOFSD);
    command
        .args(["--fd=3", "--sandbox=chroot", "--cache=auto", "--log-level=error"])
        .arg("--shared-dir")
        .arg(host.share())
        .stdin(Stdio::null());
    sandbox::spawn::spawn(command, &[listener.into()])
        .with_context(|| format!("executing {VIRTIOFSD}; is it installed?"))
}

fn machine(
    files: &Files,
    host: &Host,
    packets: Packets,
    (network, console, socket): (&Network, &Path, &Path),
) -> Result<()> {
    let mut fds: Vec<OwnedFd> = vec![network.tap.try_clone()?.into()];
    let mut netdev = "tap,id=net,fd=3".to_owned();
    if packets == Packets::Vhost {
        let vhost: File = OpenOptions::new().read(true).write(true).open("/dev/vhost-net")?;
        fds.push(vhost.into());
        netdev.push_str(",vhost=on,vhostfd=4");
    }
    let show = |path: &Path| path.display().to_string();
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    let machine =
        "microvm,accel=kvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off,memory-backend=memory";
    let memory = format!("memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on");
    let append = "console=hvc0 root=/dev/vda ro rootfstype=erofs panic=-1 quiet";
    let root = format!("if=none,id=root,file={},format=raw,readonly=on", show(&host.root()));
    let data = format!("if=none,id=data,file={},format=raw", show(&host.disk()));
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", machine, "-cpu", "host", "-smp", "1", "-m", &format!("{MEMORY_MIB}M")])
        .args(["-object", &memory])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-kernel", &show(&files.kernel), "-append", append])
        .args(["-drive", &root, "-device", "virtio-blk-device,drive=root"])
        .args(["-drive", &data, "-device", "virtio-blk-device,drive=data"])
        .args(["-device", "virtio-serial-device"])
        .args(["-chardev", &format!("file,id=console,path={}", show(console))])
        .args(["-device", "virtconsole,chardev=console"])
        .args(["-chardev", &format!("socket,id=share,path={}", show(socket))])
        .args(["-device", "vhost-user-fs-device,chardev=share,tag=share"])
        .args(["-netdev", &netdev])
        .args(["-device", &format!("virtio-net-device,netdev=net,mac={mac}")])
        .stdin(Stdio::null());
    let mut qemu = sandbox::spawn::spawn(command, &fds)
        .context("executing qemu-system-x86_64; is it installed?")?;
    let status = qemu.wait().context("waiting for QEMU")?;
    ensure!(status.success(), "QEMU ended with {status}");
    Ok(())
}
