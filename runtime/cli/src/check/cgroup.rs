//! The cgroup hierarchies, with the controllers that limit a machine.

use std::collections::BTreeSet;

use host::cgroup::{self, Hierarchy, ROOT};

use super::Check;

const TOPIC: &str = "cgroup";
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn check() -> Check {
    let told = Hierarchy::all().and_then(|all| {
        let controllers = cgroup::controllers(&all)?;
        Ok((all, controllers))
    });
    match told {
        Ok((hierarchies, controllers)) => evaluate(&hierarchies, &controllers),
        Err(error) => Check::warning(TOPIC, error.to_string(), "Mount /proc."),
    }
}

fn evaluate(hierarchies: &[Hierarchy], controllers: &BTreeSet<String>) -> Check {
    let version = match (
        hierarchies.iter().any(Hierarchy::is_unified),
        hierarchies.iter().any(|hierarchy| !hierarchy.is_unified()),
    ) {
        (true, false) => "version 2",
        (false, true) => "version 1",
        (true, true) => "versions 1 and 2",
        (false, false) => {
            return Check::warning(
                TOPIC,
                "no cgroups are mounted: the host can't limit machines",
                format!("Mount them: mount -t cgroup2 cgroup2 {ROOT}"),
            );
        }
    };
    let missing: Vec<_> = NEEDED.into_iter().filter(|name| !controllers.contains(*name)).collect();
    if missing.is_empty() {
        let present: Vec<_> = controllers.iter().map(String::as_str).collect();
        return Check::ok(TOPIC, format!("{version} with {}", present.join(", ")));
    }
    Check::warning(
        TOPIC,
        format!("{version} without the controllers {}", missing.join(", ")),
        "Enable them on the kernel's command line, and mount those of version 1.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn controllers(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn hierarchy_with_its_controllers_passes() {
        let unified = [Hierarchy::unified(ROOT.into(), ROOT.into())];
        let whole = evaluate(&unified, &controllers("cpuset cpu io memory pids"));
        assert_eq!(whole.status, Status::Ok);
        assert_eq!(whole.found, "version 2 with cpu, cpuset, io, memory, pids");
        let part = evaluate(&unified, &controllers("cpuset io pids"));
        assert_eq!(part.status, Status::Warning);
        assert!(part.found.ends_with("cpu, memory"), "{}", part.found);
    }

    #[test]
    fn host_without_cgroups_is_told_what_to_mount() {
        let none = evaluate(&[], &controllers("cpu memory pids"));
        assert_eq!(none.status, Status::Warning);
        assert!(none.action.unwrap().contains(ROOT), "{}", none.found);
    }
}
