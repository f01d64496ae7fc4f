//! Capabilities of a process: containerd's defaults, then what is added, then what is dropped.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use protocol::cri::LinuxContainerSecurityContext;

use super::error::shown;

/// All that Linux 6.12 has, by number.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What a container has if nobody says anything.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The sets of a container's first process, and a line for each name that means nothing. `last` is
/// the highest capability of the kernel that it will run on.
pub(super) fn capabilities(
    context: &LinuxContainerSecurityContext,
    last: usize,
) -> (LinuxCapabilities, Vec<String>) {
    let all = || ALL.iter().take(last.saturating_add(1)).copied();
    if context.privileged {
        return (sets(all().collect(), Capabilities::new()), Vec::new());
    }
    let asked = context.capabilities.clone().unwrap_or_default();
    let mut notes = Vec::new();
    let mut held: Capabilities = DEFAULT.into();
    if has_all(&asked.add_capabilities) {
        held = all().collect();
    }
    if has_all(&asked.drop_capabilities) {
        held.clear();
    }
    held.extend(named(&asked.add_capabilities, &mut notes));
    for dropped in named(&asked.drop_capabilities, &mut notes) {
        held.remove(&dropped);
    }
    let ambient = named(&asked.add_ambient_capabilities, &mut notes);
    let ambient = ambient.into_iter().filter(|capability| held.contains(capability)).collect();
    (sets(held, ambient), notes)
}

/// The sets of a process that has the defaults.
pub(super) fn defaults() -> LinuxCapabilities {
    sets(DEFAULT.into(), Capabilities::new())
}

/// Ambient capabilities have to be inheritable too.
fn sets(held: Capabilities, ambient: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone())).set_effective(Some(held.clone()));
    sets.set_permitted(Some(held));
    let ambient = Some(ambient).filter(|set| !set.is_empty());
    sets.set_inheritable(ambient.clone()).set_ambient(ambient);
    sets
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

/// The capabilities of these names, with or without `CAP_`, but `ALL`.
fn named(names: &[String], notes: &mut Vec<String>) -> Vec<Capability> {
    let mut found = Vec::new();
    for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        let short = name.to_ascii_uppercase();
        match short.strip_prefix("CAP_").unwrap_or(&short).parse() {
            Ok(capability) => found.push(capability),
            Err(_) => notes.push(format!("capability \"{}\" is unknown and ignored", shown(name))),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use protocol::cri::Capability as Asked;

    use super::*;

    fn made(add: &[&str], drop: &[&str], ambient: &[&str]) -> (LinuxCapabilities, Vec<String>) {
        let strings = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let asked = Asked {
            add_capabilities: strings(add),
            drop_capabilities: strings(drop),
            add_ambient_capabilities: strings(ambient),
        };
        let capabilities_ = Some(asked);
        let context = LinuxContainerSecurityContext {
            capabilities: capabilities_,
            ..LinuxContainerSecurityContext::default()
        };
        capabilities(&context, 40)
    }

    fn bounding(sets: &LinuxCapabilities) -> &Capabilities {
        sets.bounding().as_ref().unwrap()
    }

    #[test]
    fn each_is_at_its_number() {
        let mut names: Vec<_> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!((names[21].as_str(), names[40].as_str()), ("SYS_ADMIN", "CHECKPOINT_RESTORE"));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 41);
    }

    #[test]
    fn added_and_dropped_ones_change_the_defaults() {
        for (add, drop, count, with, without) in [
            (&[][..], &[][..], 14, "KILL", "SYS_ADMIN"),
            (&["SYS_ADMIN", "cap_net_admin"], &["KILL"], 15, "NET_ADMIN", "KILL"),
            (&["ALL"], &["chown"], 40, "SYS_ADMIN", "CHOWN"),
            (&["BPF"], &["all"], 1, "BPF", "KILL"),
            (&["ALL"], &["ALL"], 0, "", "KILL"),
            (&["KILL"], &["KILL"], 13, "CHOWN", "KILL"),
        ] {
            let (sets, notes) = made(add, drop, &[]);
            let held = bounding(&sets);
            assert_eq!((held.len(), notes.len()), (count, 0), "{add:?} {drop:?}");
            assert!(with.is_empty() || held.contains(&with.parse().unwrap()));
            assert!(!held.contains(&without.parse().unwrap()));
            assert_eq!((sets.effective(), sets.permitted()), (sets.bounding(), sets.bounding()));
            assert_eq!((sets.ambient(), sets.inheritable()), (&None, &None));
        }
    }

    #[test]
    fn ambient_ones_are_inheritable_and_held() {
        let (sets, _) = made(&["NET_ADMIN"], &[], &["NET_ADMIN", "SYS_ADMIN"]);
        let expected = Some(Capabilities::from([Capability::NetAdmin]));
        assert_eq!((sets.ambient(), sets.inheritable()), (&expected, &expected));
    }

    #[test]
    fn unknown_names_are_told_and_ignored() {
        let (sets, notes) = made(&["FLY", "ALL"], &["SWIM\n"], &[]);
        assert_eq!(bounding(&sets).len(), 41);
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("\"FLY\"") && !notes[1].contains('\n'), "{notes:?}");
    }

    #[test]
    fn privileged_ones_have_all_that_the_kernel_knows() {
        let context = LinuxContainerSecurityContext { privileged: true, ..Default::default() };
        for (last, count) in [(37, 38), (40, 41), (usize::MAX, 41)] {
            let (sets, _) = capabilities(&context, last);
            assert_eq!(bounding(&sets).len(), count);
        }
        assert_eq!(bounding(&defaults()).len(), 14);
    }
}
