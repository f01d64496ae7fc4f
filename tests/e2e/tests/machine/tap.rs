//! A tap in a network namespace of the calling thread's own, as a shim makes it beside a pod's
//! interface.
#![allow(unsafe_code, reason = "there are no safe calls to make a tap or leave a namespace")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::process::Command;

use rustix::thread::UnshareFlags;

/// Address of the host's end, with its network.
const HOST: &str = "10.9.0.1/24";

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// Runs `test` on a thread in a network namespace of its own, which ends with the thread.
pub(crate) fn apart(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the flag that would make it unsafe, FILES, is not given.
            let left = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
            left.expect("leave the network namespace (are you root?)");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A tap with `queues` queues, up, with the address 10.9.0.1.
pub(crate) fn new(name: &str, queues: usize) -> Vec<File> {
    let files = (0..queues).map(|_| queue(name, queues > 1)).collect();
    ip(&["addr", "add", HOST, "dev", name]);
    ip(&["link", "set", name, "up"]);
    files
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip is missing: iproute2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn queue(name: &str, several: bool) -> File {
    let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let tap = tap.expect("/dev/net/tun is missing: load the tun module");
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if several {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags.try_into().unwrap() };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = i8::try_from(from).unwrap();
    }
    // SAFETY: the kernel reads and writes an ifreq, and there is one.
    let made = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "make a tap: {}", std::io::Error::last_os_error());
    let header: libc::c_int = 12;
    // SAFETY: the kernel reads an int, and there is one.
    let set = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header) };
    assert_eq!(set, 0, "set a tap's header: {}", std::io::Error::last_os_error());
    tap
}
