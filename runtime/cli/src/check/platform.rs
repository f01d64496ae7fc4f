//! Whether this is Linux on x86-64, and new enough.

use super::Check;

/// Name of the topic; the report's case depends on it.
pub(super) const TOPIC: &str = "platform";

/// Oldest host kernel that Cuddy is meant for: cgroup v2 with all controllers, and pidfds
/// that can be polled.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn check() -> Check {
    let name = rustix::system::uname();
    evaluate(
        &name.sysname().to_string_lossy(),
        &name.machine().to_string_lossy(),
        &name.release().to_string_lossy(),
    )
}

fn evaluate(system: &str, machine: &str, release: &str) -> Check {
    let found = format!("{system} {release} on {machine}");
    if system != "Linux" || machine != "x86_64" {
        return Check::failed(TOPIC, found, "Use a Linux host with an x86-64 processor.");
    }
    match version(release) {
        Some(version) if version < OLDEST => Check::failed(
            TOPIC,
            found,
            format!("Upgrade the kernel to {}.{} or newer.", OLDEST.0, OLDEST.1),
        ),
        _ => Check::ok(TOPIC, found),
    }
}

/// Major and minor number at the start of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn only_new_linux_on_x86_64_passes() {
        for (system, machine, release, status) in [
            ("Linux", "x86_64", "6.12.41+deb13-cloud-amd64", Status::Ok),
            ("Linux", "x86_64", "5.10.0-33-amd64", Status::Ok),
            ("Linux", "x86_64", "5.4.0-200-generic", Status::Failed),
            ("Linux", "aarch64", "6.12.0", Status::Failed),
            ("FreeBSD", "x86_64", "14.1-RELEASE", Status::Failed),
        ] {
            assert_eq!(evaluate(system, machine, release).status, status, "{release}");
        }
    }
}
