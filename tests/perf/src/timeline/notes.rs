//! The shim's notes of a sandbox: lines `NANOSECONDS STEP`, of the monotonic clock.

use anyhow::{Context, Result};

use super::{Asked, By, Kind, Phase, phases};

/// A step: when, its name, and what else the line says.
type Step<'a> = (i64, &'a str, &'a str);

fn step(line: &str) -> Option<Step<'_>> {
    let (at, rest) = line.split_once(' ')?;
    let (name, more) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((at.parse().ok()?, name, more))
}

/// The steps of a start. containerd makes the network before it executes the shim; our own server
/// makes it while the machine boots.
pub(super) fn steps(kind: Kind, asked: &Asked, notes: &str) -> Result<Vec<Phase>> {
    let steps = notes.lines().map(|line| step(line).with_context(|| format!("note {line:?}")));
    let steps: Vec<_> = steps.collect::<Result<_>>()?;
    let find = |name: &str| {
        let found = steps.iter().find(|step| step.1 == name).copied();
        found.with_context(|| format!("the shim has not noted step {name:?}"))
    };
    let at = |name: &str| find(name).map(|step| step.0);
    let (ready, _, boot_us) = find("ready")?;
    let boot_us: i64 = boot_us.parse().context("the boot's time")?;
    let configured = at("configured")?;
    let [before, network] = match kind {
        Kind::Cuddyd => ["recorded, shim executed", "network (CNI), also in the guest"],
        Kind::Containerd | Kind::Runc => {
            ["network (CNI), shim executed", "guest's network configured"]
        }
    };
    let ends = [
        (before, By::Server, at("start")?),
        ("shim's daemon serves", By::Host, at("shim")?),
        ("pod accepted", By::Host, at("boot")?),
        ("VMM executed, machine made", By::Host, ready - boot_us * 1000),
        ("kernel and agent boot", By::Guest, ready),
        ("guest configured", By::Guest, configured),
        // There is none in a pod without network.
        (network, By::Guest, at("network").unwrap_or(configured)),
        ("pod answered", By::Server, asked.pod_runs),
        ("container created", By::Server, asked.created),
        ("task requested", By::Server, at("create")?),
        ("root filesystem, volumes", By::Host, at("rootfs")?),
        ("container made in the guest", By::Guest, at("created")?),
        ("process started", By::Guest, at("started")?),
        ("start answered", By::Server, asked.runs),
    ];
    Ok(phases(asked.request, &ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked =
        Asked { request: 1_000_000, pod_runs: 9_000_000, created: 10_000_000, runs: 15_000_000 };

    #[test]
    fn notes_become_phases_without_gaps() {
        let notes = "1500000 start\n2000000 shim\n2500000 boot\n7000000 ready 3500\n\
                     8000000 configured\n11000000 create\n12000000 rootfs\n13000000 created\n\
                     14000000 started\n";
        let phases = steps(Kind::Containerd, &ASKED, notes).unwrap();
        assert_eq!((phases[1].begin, phases[1].end), (0.0005, 0.001));
        let boot = phases.iter().find(|phase| phase.what.contains("boot")).unwrap();
        assert_eq!((boot.begin, boot.end), (0.0025, 0.006));
        assert!(phases.windows(2).all(|pair| pair[0].end == pair[1].begin));
        assert_eq!(phases.last().unwrap().end, 0.014);
    }

    #[test]
    fn a_step_that_is_missing_is_named() {
        let error = steps(Kind::Containerd, &ASKED, "2000000 ready 1\n3 boot\n").unwrap_err();
        assert!(error.to_string().contains("\"configured\""), "{error}");
    }
}
