//! containerd: there, of a version that Cuddy knows, running.

use super::Check;
use super::containerd_process::Containerd;

const TOPIC: &str = "containerd";

/// Releases that Cuddy is made for: 1.6, 1.7 and 2.0 to 2.4.
const SUPPORTED: [(u32, u32); 7] = [(1, 6), (1, 7), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)];

pub(super) fn check(found: &Containerd) -> Check {
    let Some(binary) = &found.binary else {
        return Check::warning(
            TOPIC,
            "not found",
            "Install containerd 1.6, 1.7 or 2.0 to 2.4 (Debian: `apt install containerd`).",
        );
    };
    let Some(version) = &found.version else {
        return Check::warning(
            TOPIC,
            format!("{} does not tell its version", binary.display()),
            "See what `containerd --version` says.",
        );
    };
    evaluate(version, found.running)
}

fn evaluate(version: &str, running: bool) -> Check {
    let state = if running { "running" } else { "not running" };
    match release(version) {
        None => Check::warning(
            TOPIC,
            format!("unknown version: {version}"),
            "Cuddy is made for containerd 1.6, 1.7 and 2.0 to 2.4.",
        ),
        Some((major, minor)) if !SUPPORTED.contains(&(major, minor)) => Check::warning(
            TOPIC,
            format!("version {major}.{minor}, which Cuddy was not made for, {state}"),
            "Install containerd 1.6, 1.7 or 2.0 to 2.4.",
        ),
        Some(_) if !running => Check::warning(
            TOPIC,
            format!("version {}, not running", number(version)),
            "Start it: `systemctl start containerd`.",
        ),
        Some(_) => Check::ok(TOPIC, format!("version {}, running", number(version))),
    }
}

/// The version's own word in `containerd --version`: the third.
fn number(version: &str) -> &str {
    version.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v')
}

/// Major and minor number in the output of `containerd --version`.
pub(super) fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = number(version).split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const DEBIAN: &str = "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4";
    const UPSTREAM: &str = "containerd github.com/containerd/containerd/v2 v2.3.4 abcdef0123";
    const DOCKER: &str = "containerd containerd.io 1.6.33 d2d58213f83a351ca8f528a95fbd145f5654e957";

    #[test]
    fn versions_of_every_packager_are_read() {
        assert_eq!(release(DEBIAN), Some((1, 7)));
        assert_eq!(release(UPSTREAM), Some((2, 3)));
        assert_eq!(release(DOCKER), Some((1, 6)));
        assert_eq!(release("containerd x development"), None);
    }

    #[test]
    fn a_version_before_its_release_is_of_that_release() {
        let beta = "containerd github.com/containerd/containerd/v2 v2.4.0-beta.0 abcdef0123";
        assert_eq!(release(beta), Some((2, 4)));
        assert_eq!(evaluate(beta, true).status, Status::Ok);
        let newer = evaluate(&beta.replace("2.4.0", "2.5.0"), true);
        assert!(newer.found.contains("2.5, which Cuddy was not made for"), "{}", newer.found);
    }

    #[test]
    fn only_supported_and_running_is_ok() {
        assert_eq!(evaluate(DEBIAN, true), Check::ok(TOPIC, "version 1.7.24~ds1, running"));
        assert!(evaluate(DEBIAN, false).action.unwrap().contains("Start it"));
        let old = evaluate("containerd containerd.io 1.4.13 9cc61520", true);
        assert_eq!(old.status, Status::Warning);
        assert!(old.found.contains("1.4"));
        assert_eq!(evaluate("containerd x y", true).status, Status::Warning);
        assert!(check(&Containerd::default()).found.contains("not found"));
    }
}
