//! The cgroup hierarchy: unified (version 2) with the controllers that limit a machine.

use std::path::Path;

use super::Check;

const TOPIC: &str = "cgroup";
const ROOT: &str = "/sys/fs/cgroup";
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn check() -> Check {
    // This file is at the root of a version 2 hierarchy and nowhere in version 1.
    evaluate(std::fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).ok().as_deref())
}

fn evaluate(controllers: Option<&str>) -> Check {
    let Some(controllers) = controllers else {
        return Check::warning(
            TOPIC,
            format!("{ROOT} is not cgroup version 2: the host can't limit machines"),
            "Boot with the unified hierarchy: add `systemd.unified_cgroup_hierarchy=1` to the \
             kernel's command line, or mount cgroup2 there.",
        );
    };
    let present: Vec<_> = controllers.split_whitespace().collect();
    let missing: Vec<_> = NEEDED.into_iter().filter(|name| !present.contains(name)).collect();
    if missing.is_empty() {
        return Check::ok(TOPIC, format!("version 2 with {}", present.join(", ")));
    }
    Check::warning(
        TOPIC,
        format!("version 2 without the controllers {}", missing.join(", ")),
        "Take them away from version 1 mounts, or enable them on the kernel's command line.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn unified_hierarchy_with_its_controllers_passes() {
        assert_eq!(evaluate(Some("cpuset cpu io memory pids\n")).status, Status::Ok);
        let part = evaluate(Some("cpuset io pids"));
        assert_eq!(part.status, Status::Warning);
        assert!(part.found.ends_with("cpu, memory"), "{}", part.found);
        assert!(evaluate(None).found.contains("not cgroup version 2"));
    }
}
