//! Filesystems that the host must be able to mount for a pod's root filesystem.

use std::path::PathBuf;

use super::Check;

const TOPIC: &str = "overlayfs";

/// How overlayfs, the filesystem of containerd's default snapshotter, is had.
#[derive(Debug, PartialEq, Eq)]
enum Overlay {
    /// The running kernel knows it.
    Registered,
    /// A module for the running kernel is installed; mounting loads it.
    Loadable,
    Absent,
}

pub(super) fn check() -> Check {
    let registered = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let modules = PathBuf::from("/lib/modules").join(release).join("modules.dep");
    evaluate(&find(&registered, &std::fs::read_to_string(modules).unwrap_or_default()))
}

fn find(registered: &str, modules: &str) -> Overlay {
    let mut names = registered.lines().filter_map(|line| line.split_whitespace().last());
    if names.any(|name| name == "overlay") {
        return Overlay::Registered;
    }
    let mut files = modules.lines().filter_map(|line| line.split(':').next());
    if files.any(|file| file.contains("/overlay.ko")) { Overlay::Loadable } else { Overlay::Absent }
}

fn evaluate(overlay: &Overlay) -> Check {
    match overlay {
        Overlay::Registered => Check::ok(TOPIC, "in the running kernel"),
        Overlay::Loadable => Check::ok(TOPIC, "as a module, loaded on first use"),
        Overlay::Absent => Check::warning(
            TOPIC,
            "missing: containerd's default snapshotter can't work",
            "Install a kernel with CONFIG_OVERLAY_FS, or use another snapshotter.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT: &str = "nodev\tsysfs\n\text4\nnodev\toverlayx\n";

    #[test]
    fn overlay_is_found_where_it_is() {
        assert_eq!(find("nodev\tsysfs\nnodev\toverlay\n", ""), Overlay::Registered);
        assert_eq!(find(WITHOUT, "kernel/fs/overlayfs/overlay.ko.xz:\n"), Overlay::Loadable);
        assert_eq!(
            find(WITHOUT, "kernel/fs/ext4/ext4.ko: kernel/fs/overlay.ko\n"),
            Overlay::Absent
        );
        assert!(evaluate(&Overlay::Absent).action.is_some());
    }
}
