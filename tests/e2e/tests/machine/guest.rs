//! A root filesystem whose first process is a shell script, made with the host's busybox.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use vmm_api::{BlockConfig, DeviceConfig};

use super::client::{Boot, Output, vmlinux};

/// What every script starts with. Words of the kernel's command line that it does not know
/// become the environment of the first process.
const PRELUDE: &str = "#!/bin/sh
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
bind() { echo $1 > /sys/bus/platform/drivers/virtio-mmio/bind; }
unbind() { echo $1 > /sys/bus/platform/drivers/virtio-mmio/unbind; }
";

const APPLETS: &[&str] = &[
    "sh", "mount", "umount", "echo", "cat", "sleep", "poweroff", "reboot", "dd", "grep", "head",
    "ls", "dmesg", "chown", "chmod", "mkdir", "mknod", "mv", "rm", "ln", "stat", "sync", "touch",
    "wc", "ip", "ping", "nc", "md5sum",
];

/// A root filesystem image whose first process runs `script`.
pub(crate) fn image(script: &str) -> OwnedFd {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for name in ["bin", "sbin", "dev", "proc", "sys", "mnt"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.expect("busybox is missing: install busybox-static");
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let init = root.join("sbin/init");
    fs::write(&init, format!("{PRELUDE}{script}\n")).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let image = directory.path().join("root.erofs");
    let made = Command::new("mkfs.erofs").arg("--quiet").args([&image, &root]).output();
    let made = made.expect("mkfs.erofs is missing: install erofs-utils");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::File::open(image).unwrap().into()
}

/// A Linux guest whose first process runs `script`, with its console on `output`.
pub(crate) fn linux(script: &str, mib: u64, output: &Output) -> Boot {
    Boot::new(vmlinux(), mib)
        .device(|boot| disk(boot, image(script), true))
        .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
}

pub(crate) fn disk(boot: &mut Boot, file: OwnedFd, read_only: bool) -> DeviceConfig {
    let slot = boot.slot(file);
    DeviceConfig::Block(BlockConfig::new(slot, read_only, "disk").unwrap())
}
