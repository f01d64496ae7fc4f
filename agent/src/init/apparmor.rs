//! `process.apparmorProfile`. The guest's kernel has no profile of its own. The host sends the
//! compiled policy that its own kernel has loaded, and this module loads it before it is used. The
//! kernel's `security/apparmor/apparmorfs.c` and `lsm.c` have the interface.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::detached::filesystem;
use crate::control::{Failure, Order};

/// The profile that confines nothing.
const UNCONFINED: &str = "unconfined";

/// A profile that the process is to have.
#[derive(Debug)]
pub(super) struct Confinement {
    profile: String,
    /// The guest's own /proc: that of a container can be anything.
    proc: OwnedFd,
}

/// Loads the order's policy into the kernel, while this process is still in the guest's own
/// namespaces.
pub(super) fn prepare(order: &Order) -> Result<Option<Confinement>, Failure> {
    let profile = &order.process.apparmor_profile;
    if profile.is_empty() || profile == UNCONFINED {
        return Ok(None);
    }
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::configuration(format_args!("apparmorProfile {profile:?}: {reason}"))
    };
    let policy = &order.spec.apparmor_policy;
    // An exec finds what its container has loaded.
    if !order.join && !policy.is_empty() {
        let policy = decode(policy).ok_or_else(|| failed(&"the policy is not hexadecimal"))?;
        load(&policy).map_err(|error| failed(&format_args!("load it into the guest: {error}")))?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).map_err(|error| failed(&error))?;
    Ok(Some(Confinement { profile: profile.clone(), proc }))
}

/// Adds the profiles of a compiled policy; those of the same names are replaced.
fn load(policy: &[u8]) -> std::io::Result<()> {
    // Mounted nowhere: nothing else in the guest uses it.
    let securityfs = filesystem("securityfs", None, &[])?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&securityfs, "apparmor/.replace", flags, Mode::empty())?;
    // The kernel takes a policy in one piece.
    let written = rustix::io::write(file, policy)?;
    if written == policy.len() { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) }
}

impl Confinement {
    /// Lets the next execve(2) of this process change to the profile.
    pub(super) fn confine(&self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            let profile = &self.profile;
            Failure::configuration(format_args!("apply apparmorProfile {profile:?}: {error}"))
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.proc, "self/attr/apparmor/exec", flags, Mode::empty());
        let mut file = std::fs::File::from(file.map_err(|error| match error {
            Errno::NOENT => failed(&"the guest's kernel has no AppArmor"),
            other => failed(&other),
        })?);
        let command = format!("exec {}", self.profile);
        match file.write_all(command.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(failed(&"no such profile is loaded"))
            }
            other => other.map_err(|error| failed(&error)),
        }
    }
}

fn decode(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn policies_travel_as_digits() {
        assert_eq!(decode("00ff7E"), Some(vec![0, 255, 126]));
        assert_eq!(decode(""), Some(vec![]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
