//! The host's hierarchies of cgroups (cgroups(7)). Version 2 has one for all controllers. In version
//! 1 each controller has one, or shares one with others. Where both are mounted (a hybrid host), a
//! controller is in one of them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use api::Error;

use crate::mounts::table::{self, Mounted};

/// Where hierarchies are mounted: version 2 at it, those of version 1 in it.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Which cgroups a process is in: one line for each hierarchy.
const OWN: &str = "/proc/self/cgroup";

/// Controllers that limit a machine or count what it uses, by their names in version 1. Version 2
/// counts time on CPUs by `cpu`.
const NEEDED: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

/// By which systemd finds the processes of its units, where it does not do so by version 2.
const SYSTEMD: &str = "name=systemd";

/// A hierarchy that a machine's processes have to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub top: PathBuf,
    /// This process's own cgroup in it, where it goes back to from a pod's.
    pub home: PathBuf,
    /// In version 1: its controllers, or its name. None in version 2.
    names: Vec<String>,
}

impl Hierarchy {
    /// One of version 2.
    pub fn unified(top: PathBuf, home: PathBuf) -> Self {
        Self { top, home, names: Vec::new() }
    }

    /// All that the host has for the limits of a machine, and systemd's. None on a host without
    /// cgroups.
    ///
    /// # Errors
    /// [`Error::Failed`] when the kernel does not tell.
    pub fn all() -> Result<Vec<Self>, Error> {
        let own = own()?;
        // Mostly so. A node's table of mounts is long, and each pod's start would read it.
        let usual = rustix::fs::statfs(ROOT).is_ok_and(|facts| facts.f_type == CGROUP2_MAGIC);
        if usual {
            let top = PathBuf::from(ROOT);
            let home = home(&top, Path::new("/"), own_path(&own, ""));
            return Ok(vec![Self::unified(top, home)]);
        }
        let table = table::read()
            .map_err(|error| Error::failed(&format!("reading {}", table::PATH), &error))?;
        Ok(find(&table, &own))
    }

    /// Whether it is of version 2.
    pub fn is_unified(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether it is the one that systemd has in version 1, which limits nothing.
    pub fn is_systemds(&self) -> bool {
        self.has(SYSTEMD)
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

/// `f_type` of version 2's filesystem (`CGROUP2_SUPER_MAGIC` of statfs(2)).
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// All controllers that the host has: those of version 1, and those of these hierarchies if they are
/// of version 2.
///
/// # Errors
/// [`Error::Failed`] when the kernel does not tell.
pub fn controllers(hierarchies: &[Hierarchy]) -> Result<BTreeSet<String>, Error> {
    let mut controllers = of_version_1(&own()?);
    for hierarchy in hierarchies.iter().filter(|hierarchy| hierarchy.is_unified()) {
        let text = std::fs::read_to_string(hierarchy.top.join("cgroup.controllers"));
        controllers.extend(text.unwrap_or_default().split_whitespace().map(str::to_owned));
    }
    Ok(controllers)
}

fn own() -> Result<String, Error> {
    std::fs::read_to_string(OWN).map_err(|error| Error::failed(&format!("reading {OWN}"), &error))
}

/// The controllers of all hierarchies of version 1, by [`OWN`] (pure).
fn of_version_1(own: &str) -> BTreeSet<String> {
    let lists = own.lines().filter_map(|line| line.split(':').nth(1));
    let names = lists.flat_map(|list| list.split(','));
    names.filter(|name| !name.is_empty() && !name.contains('=')).map(str::to_owned).collect()
}

/// The hierarchies that a machine needs, by the table of mounts and by [`OWN`] (pure).
fn find(table: &[Mounted], own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut missing = false;
    for name in NEEDED.into_iter().chain([SYSTEMD]) {
        if found.iter().any(|hierarchy| hierarchy.has(name)) {
            continue;
        }
        match best(table, |mount| mount.kind == "cgroup" && names(mount).any(|one| one == name)) {
            Some(mount) => {
                let names = names(mount).map(str::to_owned).collect();
                found.push(Hierarchy { names, ..of(mount, own_path(own, name)) });
            }
            None => missing |= name != SYSTEMD,
        }
    }
    // What version 1 has not is in version 2.
    if missing {
        let mount = best(table, |mount| mount.kind == "cgroup2");
        found.extend(mount.map(|mount| of(mount, own_path(own, ""))));
    }
    found
}

/// The whole hierarchy rather than a part of it, at its usual place rather than elsewhere.
fn best(table: &[Mounted], wanted: impl Fn(&Mounted) -> bool) -> Option<&Mounted> {
    let key = |mount: &&Mounted| (mount.root != Path::new("/"), !mount.point.starts_with(ROOT));
    table.iter().filter(|mount| wanted(mount)).min_by_key(key)
}

/// What a mount of version 1 is of.
fn names(mount: &Mounted) -> impl Iterator<Item = &str> {
    let known = |name: &&str| NEEDED.contains(name) || *name == SYSTEMD;
    mount.options.split(',').filter(known)
}

fn of(mount: &Mounted, own: &str) -> Hierarchy {
    Hierarchy::unified(mount.point.clone(), home(&mount.point, &mount.root, own))
}

/// This process's path in the hierarchy that has `name` in version 1, or is version 2's.
fn own_path<'own>(own: &'own str, name: &str) -> &'own str {
    let mut lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    lines.find(|(list, _)| list.split(',').any(|one| one == name)).map_or("/", |(_, path)| path)
}

/// The directory of the cgroup `own` where the part `root` of the hierarchy is mounted at `top`; the
/// top where it can't be seen.
fn home(top: &Path, root: &Path, own: &str) -> PathBuf {
    let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
    let mut parts = below.components().peekable();
    let seen = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    if seen { top.join(below) } else { top.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host's hierarchies, as `TOP HOME NAMES`.
    fn hierarchies(mounts: &str, own: &str) -> Vec<String> {
        let show = |hierarchy: &Hierarchy| {
            let Hierarchy { top, home, names } = hierarchy;
            format!("{} {} {}", top.display(), home.display(), names.join(","))
        };
        find(&table::parse(mounts.as_bytes()), own).iter().map(show).collect()
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    const LEGACY: &str = "\
        30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
        31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
        33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
        34 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
        35 30 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
        36 99 0:31 / /var/lib/a/rootfs/sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
    const OWN: &str = "\
        12:pids:/system.slice/a.service\n\
        9:cpu,cpuacct:/system.slice\n\
        5:memory:/system.slice/a.service\n\
        1:name=systemd:/system.slice/a.service\n\
        0::/system.slice/a.service\n";

    fn lines(text: &str) -> String {
        text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn unified_host_has_one() {
        let own = "0::/user.slice/a.scope\n";
        assert_eq!(hierarchies(V2, own), ["/sys/fs/cgroup /sys/fs/cgroup/user.slice/a.scope "]);
    }

    #[test]
    fn legacy_and_hybrid_hosts_have_one_for_each_mount() {
        let expected = [
            "/sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/system.slice cpu,cpuacct",
            "/sys/fs/cgroup/memory /sys/fs/cgroup/memory/system.slice/a.service memory",
            "/sys/fs/cgroup/pids /sys/fs/cgroup/pids/system.slice/a.service pids",
            "/sys/fs/cgroup/systemd /sys/fs/cgroup/systemd/system.slice/a.service name=systemd",
        ];
        let legacy = lines(LEGACY);
        assert_eq!(hierarchies(&legacy, OWN), expected);
        let more = "37 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(hierarchies(&format!("{legacy}\n{more}"), OWN), expected);
    }

    #[test]
    fn controller_that_version_1_has_not_is_in_version_2() {
        let hybrid = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            37 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let own = "5:memory:/\n0::/a\n";
        let expected = [
            "/sys/fs/cgroup/memory /sys/fs/cgroup/memory memory",
            "/sys/fs/cgroup/unified /sys/fs/cgroup/unified/a ",
        ];
        assert_eq!(hierarchies(hybrid, own), expected);
    }

    #[test]
    fn part_of_a_hierarchy_is_taken_where_there_is_nothing_else() {
        let part = "31 30 0:27 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let homes = [
            ("5:memory:/docker/a/b\n", "/sys/fs/cgroup/memory/b"),
            ("5:memory:/elsewhere\n", "/sys/fs/cgroup/memory"),
            ("5:memory:/docker/a/../../c\n", "/sys/fs/cgroup/memory"),
            ("", "/sys/fs/cgroup/memory"),
        ];
        for (own, home) in homes {
            assert_eq!(hierarchies(part, own), [format!("/sys/fs/cgroup/memory {home} memory")]);
        }
        let whole = "32 30 0:27 / /mnt/memory rw - cgroup cgroup rw,memory";
        let both = hierarchies(&format!("{part}\n{whole}"), "5:memory:/\n");
        assert_eq!(both, ["/mnt/memory /mnt/memory memory"]);
        assert!(hierarchies("", OWN).is_empty());
    }

    #[test]
    fn controllers_of_version_1_are_those_of_all_its_hierarchies() {
        let names: Vec<_> = of_version_1(OWN).into_iter().collect();
        assert_eq!(names, ["cpu", "cpuacct", "memory", "pids"]);
    }
}
