//! `-v`: directories and files of the host in a container.

use std::path::{Path, PathBuf};

use protocol::cri::Mount;

/// Reads `HOST:CONTAINER` with `:ro` or `:rw` behind it. A path on the host that is not whole
/// begins at `here`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn volume(text: &str, here: &Path) -> Result<Mount, String> {
    let fields: Vec<_> = text.split(':').collect();
    let (host, container, options) = match fields.as_slice() {
        [host, container] => (*host, *container, ""),
        [host, container, options] => (*host, *container, *options),
        _ => return Err(format!("{text:?} is no volume such as /host:/container:ro")),
    };
    let readonly = match options {
        "" | "rw" => false,
        "ro" => true,
        _ => return Err(format!("{text:?}: a volume is \"ro\" or \"rw\", not {options:?}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{text:?}: {container:?} is no whole path in the container"));
    }
    if !host.contains('/') && host != "." && host != ".." {
        return Err(format!(
            "{text:?}: there are no named volumes; write ./{host} for a directory"
        ));
    }
    let host_path = path(&here.join(host)).ok_or_else(|| format!("{text:?} is not UTF-8"))?;
    let container_path = container.to_owned();
    Ok(Mount { host_path, container_path, readonly, ..Mount::default() })
}

/// A path without `.`; the daemon takes care of what is linked.
fn path(path: &Path) -> Option<String> {
    let clean: PathBuf = path.components().collect();
    clean.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_is_read_with_its_access() {
        let read = |text: &str| {
            let mount = volume(text, Path::new("/here")).unwrap();
            (mount.host_path, mount.container_path, mount.readonly)
        };
        assert_eq!(read("/a:/b"), ("/a".into(), "/b".into(), false));
        assert_eq!(read("./a/:/b:ro"), ("/here/a".into(), "/b".into(), true));
        assert_eq!(read(".:/b:rw"), ("/here".into(), "/b".into(), false));
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for (text, problem) in [
            ("/a", "no volume"),
            ("/a:/b:ro:x", "no volume"),
            ("/a:b", "no whole path"),
            ("data:/b", "no named volumes"),
            ("/a:/b:z", "not \"z\""),
        ] {
            let error = volume(text, Path::new("/")).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
