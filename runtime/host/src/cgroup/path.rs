//! Where a cgroup is below the top of a hierarchy, by what an OCI configuration says (pure).

use std::path::{Component, PathBuf};

/// The directory below the top of a hierarchy for a `cgroupsPath`: a path, or systemd's
/// `slice:prefix:name`, which stands for a scope in nested slices.
pub fn directory(text: &str) -> Option<PathBuf> {
    let path = match text.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] if is_systemds(text) => {
            let unit = match name.strip_suffix(".slice") {
                Some(_) => name.to_owned(),
                None if prefix.is_empty() => format!("{name}.scope"),
                None => format!("{prefix}-{name}.scope"),
            };
            slices(if slice.is_empty() { "system.slice" } else { slice })?.join(unit)
        }
        _ if text.contains(':') && !text.starts_with('/') => return None,
        _ => PathBuf::from(text.trim_start_matches('/')),
    };
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

/// Whether a `cgroupsPath` has systemd's form.
pub(super) fn is_systemds(text: &str) -> bool {
    text.split(':').count() == 3 && !text.contains('/')
}

/// `a-b.slice` → `a.slice/a-b.slice`, as systemd.slice(5) nests them.
fn slices(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<String> {
        directory(text).map(|path| path.display().to_string())
    }

    #[test]
    fn paths_of_both_drivers_are_understood() {
        assert_eq!(path("/kubepods/pod1/abc").unwrap(), "kubepods/pod1/abc");
        assert_eq!(path("k8s.io/abc").unwrap(), "k8s.io/abc");
        let scope = path("kubepods-besteffort-pod1_2.slice:cri-containerd:abc").unwrap();
        let slices = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice";
        assert_eq!(scope, format!("{slices}/cri-containerd-abc.scope"));
        assert_eq!(path(":crio:abc").unwrap(), "system.slice/crio-abc.scope");
        assert_eq!(path("-.slice::abc").unwrap(), "abc.scope");
        assert_eq!(path("a.slice:x:b.slice").unwrap(), "a.slice/b.slice");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in ["", "/", "/a/../../b", "..", "a--b.slice:c:d", "a:b:c", "a.slice:b:../c"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
