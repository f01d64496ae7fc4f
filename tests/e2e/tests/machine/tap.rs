//! A tap in a network namespace of the calling thread's own, as a shim makes it beside a pod's
//! interface.
#![allow(unsafe_code, reason = "there is no safe call to leave a namespace")]

use std::fs::File;
use std::process::Command;

use rustix::thread::UnshareFlags;

/// Address of the host's end, with its network.
const HOST: &str = "10.9.0.1/24";

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
    let files = (0..queues)
        .map(|_| syscalls::tap::queue(name, queues > 1).expect("make a tap (is tun loaded?)"))
        .collect();
    ip(&["addr", "add", HOST, "dev", name]);
    ip(&["link", "set", name, "up"]);
    files
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip is missing: iproute2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
