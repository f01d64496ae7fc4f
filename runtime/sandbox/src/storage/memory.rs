//! Memory that a pod's containers share: `/dev/shm`, and kubelet's memory volumes (`emptyDir` with
//! medium `Memory`). On the host both are a tmpfs that is bound into every container. In a machine
//! a tmpfs of the guest takes its place, of the same size, once for the pod. What is in it counts
//! as memory of the containers that wrote it. It costs no way to the host.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Error;
use host::mounts::table::{self, Mounted};
use machine::guest::{GuestDirectory, GuestMount};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount};

use super::{Site, Volumes, is_empty_dir};
use crate::blocking::blocking;
use crate::spec::document::joined;
use crate::spec::{Bind, Document};

/// Magic number of tmpfs (linux/magic.h).
const TMPFS: u64 = 0x0102_1994;

/// Magic number of hugetlbfs.
const HUGETLBFS: u64 = 0x9584_58f6;

/// Where every container has its shared memory.
const SHM: &str = "/dev/shm";

/// Memory of the pod.
#[derive(Debug, PartialEq, Eq)]
struct Memory {
    /// What the guest has to mount, if it has not.
    mount: GuestMount,
    /// Where in the guest the container's part of it is.
    path: String,
}

/// Makes the guest's memory for a bind mount of the host's; where it is in the guest. None if
/// the source is something else.
///
/// # Errors
/// The host can't be looked at, or the guest can't mount it.
pub(super) async fn show(
    bind: &Bind,
    source: &Path,
    site: Site<'_>,
) -> Result<Option<String>, Error> {
    let (source, destination) = (source.to_owned(), bind.destination.clone());
    let doing = format!("looking at the volume {}", source.display());
    let (what, volumes) = (doing.clone(), Arc::clone(site.volumes));
    let look =
        move || look(&source, &destination, &volumes).map_err(|error| Error::failed(&what, &error));
    let memory = blocking(&doing, look).await?;
    let Some(memory) = memory else { return Ok(None) };
    site.live.guest.mount(&memory.mount).await?;
    Ok(Some(memory.path))
}

/// Whether a configuration as the caller wrote it joins an IPC namespace: then the container shares
/// its memory as well (pure).
///
/// # Errors
/// [`Error::Invalid`] when its namespaces are none.
pub(crate) fn is_shared(host_spec: &Document) -> Result<bool, Error> {
    let namespaces: Vec<LinuxNamespace> = host_spec.list("/linux/namespaces")?;
    let mut ipc = namespaces.iter().filter(|one| one.typ() == LinuxNamespaceType::Ipc);
    Ok(ipc.any(|namespace| joined(namespace).is_some()))
}

/// Lets a container that shares the pod's IPC namespace share its memory as well, where nothing
/// of the host is bound for that (containerd's Sandbox API).
///
/// # Errors
/// The guest can't mount it.
pub(super) async fn share_shm(spec: &mut Document, site: Site<'_>) -> Result<(), Error> {
    let Some((index, options)) = own_shm(spec)?.filter(|_| site.shares_memory) else {
        return Ok(());
    };
    let path = format!("{}/memory/shm", agent_api::STATE_DIR);
    let memory = GuestMount {
        mount_point: path.clone(),
        fstype: "tmpfs".to_owned(),
        options,
        directories: Vec::new(),
    };
    site.live.guest.mount(&memory).await?;
    let flags = memory.options.into_iter().filter(|option| !option.contains('='));
    let options: Vec<String> = flags.chain(["bind".to_owned()]).collect();
    spec.edit(&format!("/mounts/{index}"), |mount: &mut Mount| {
        mount.set_typ(Some("bind".into())).set_source(Some(path.into())).set_options(Some(options));
    })
}

/// The index and the options of a tmpfs at `/dev/shm` (pure).
fn own_shm(spec: &Document) -> Result<Option<(usize, Vec<String>)>, Error> {
    let mounts: Vec<Mount> = spec.list("/mounts")?;
    let at_shm = |mount: &Mount| {
        mount.destination() == Path::new(SHM) && mount.typ().as_deref() == Some("tmpfs")
    };
    // A later mount hides an earlier one.
    let found = mounts.iter().rposition(at_shm);
    Ok(found.map(|index| (index, mounts[index].options().clone().unwrap_or_default())))
}

fn look(source: &Path, destination: &Path, volumes: &Volumes) -> io::Result<Option<Memory>> {
    let filesystem = rustix::fs::statfs(source)?;
    let metadata = source.metadata()?;
    match u64::try_from(filesystem.f_type) {
        Ok(TMPFS) if metadata.is_dir() => {}
        Ok(HUGETLBFS) => {
            return Err(io::Error::other("the guest has no huge pages for a volume"));
        }
        _ => return Ok(None),
    }
    let device = metadata.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let shm = destination == Path::new(SHM);
    let source = source.canonicalize()?;
    let Some((top, inside)) = place(&table::read()?, device, &source, shm) else { return Ok(None) };
    volumes.keep(device, &top)?;
    let root = top.metadata()?;
    let bytes = filesystem.f_blocks.saturating_mul(filesystem.f_bsize.try_into().unwrap_or(0));
    let mount_point = format!("{}/memory/{}-{}", agent_api::STATE_DIR, device.0, device.1);
    let mut options = vec![
        format!("mode={:o}", root.mode() & 0o7777),
        format!("uid={}", root.uid()),
        format!("gid={}", root.gid()),
        "nosuid".to_owned(),
        "nodev".to_owned(),
    ];
    // A tmpfs without a limit shows no size.
    if bytes > 0 {
        options.push(format!("size={bytes}"));
    }
    let mut directories = Vec::new();
    let mut path = mount_point.clone();
    if let Some(inside) = inside.to_str().filter(|inside| !inside.is_empty()) {
        path = format!("{mount_point}/{inside}");
        directories.push(GuestDirectory {
            path: inside.to_owned(),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
        });
    }
    let fstype = "tmpfs".to_owned();
    Ok(Some(Memory { mount: GuestMount { mount_point, fstype, options, directories }, path }))
}

/// Where the tmpfs `device` is mounted as a whole, and what of it `source` is; none if it is
/// not one that a pod's containers alone use (pure).
fn place(
    table: &[Mounted],
    device: (u32, u32),
    source: &Path,
    shm: bool,
) -> Option<(PathBuf, PathBuf)> {
    let mounts = || table.iter().filter(|mounted| mounted.device == device);
    let whole = mounts()
        .find(|mounted| mounted.root == Path::new("/") && (is_empty_dir(&mounted.point) || shm))?;
    let here = mounts().filter(|mounted| source.starts_with(&mounted.point));
    let here = here.max_by_key(|mounted| mounted.point.components().count())?;
    let rest = source.strip_prefix(&here.point).ok()?;
    let inside = here.root.join(rest);
    // Without the slash in front, and the one that joining nothing adds.
    let inside = inside.components().skip(1).collect();
    Some((whole.point.clone(), inside))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const VOLUME: &str = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/cache";
    const SUB: &str = "/var/lib/kubelet/pods/1/volume-subpaths/cache/web/0";

    fn mounts() -> Vec<Mounted> {
        let lines = [
            ((0, 40), "/", VOLUME),
            ((0, 40), "/sub/dir", SUB),
            ((0, 41), "/", "/var/lib/kubelet/pods/1/volumes/kubernetes.io~secret/key"),
            ((0, 42), "/", "/run/containerd/x/sandboxes/1/shm"),
        ];
        let mounted = |(device, root, point): (_, &str, &str)| Mounted {
            id: 0,
            device,
            root: root.into(),
            point: point.into(),
            kind: "tmpfs".to_owned(),
            options: "rw".to_owned(),
        };
        lines.into_iter().map(mounted).collect()
    }

    #[test]
    fn memory_volumes_and_parts_of_them_are_found() {
        let find = |device, source: &str| place(&mounts(), device, Path::new(source), false);
        assert_eq!(find((0, 40), VOLUME), Some((VOLUME.into(), "".into())));
        assert_eq!(find((0, 40), SUB), Some((VOLUME.into(), "sub/dir".into())));
        let below = format!("{SUB}/deeper");
        assert_eq!(find((0, 40), &below), Some((VOLUME.into(), "sub/dir/deeper".into())));
    }

    #[test]
    fn secrets_stay_the_hosts_and_shared_memory_does_not() {
        let secret = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~secret/key";
        assert_eq!(place(&mounts(), (0, 41), Path::new(secret), false), None);
        let shm = Path::new("/run/containerd/x/sandboxes/1/shm");
        assert_eq!(place(&mounts(), (0, 42), shm, false), None);
        assert_eq!(place(&mounts(), (0, 42), shm, true), Some((shm.into(), "".into())));
    }

    #[test]
    fn memory_is_shared_with_the_namespace() {
        let spec = |namespace: Value, kind: &str| {
            let mount = json!({"destination": SHM, "type": kind, "options": ["noexec", "size=1k"]});
            Document::from(json!({"mounts": [mount], "linux": {"namespaces": [namespace]}}))
        };
        let joined = json!({"type": "ipc", "path": "/proc/1/ns/ipc"});
        let shared = |namespace: Value| is_shared(&spec(namespace, "tmpfs")).unwrap();
        assert!(shared(joined.clone()));
        assert!(!shared(json!({"type": "ipc"})) && !shared(json!({"type": "ipc", "path": ""})));
        assert!(!shared(json!({"type": "pid", "path": "/proc/1/ns/pid"})));
        assert_eq!(is_shared(&Document::default()), Ok(false));
        let options = vec!["noexec".to_owned(), "size=1k".to_owned()];
        assert_eq!(own_shm(&spec(joined.clone(), "tmpfs")), Ok(Some((0, options))));
        assert_eq!(own_shm(&spec(joined, "bind")), Ok(None));
    }

    /// Mounts a tmpfs at `path`; its device number.
    fn tmpfs(path: &Path) -> u64 {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("test", path, "tmpfs", flags, None).unwrap();
        path.metadata().unwrap().dev()
    }

    #[test]
    fn number_of_a_volume_is_given_to_no_other_while_the_machine_lives() {
        let dir = tempfile::tempdir().unwrap();
        let unmount = || {
            rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
        };
        let volumes = Volumes::default();
        let first = tmpfs(dir.path());
        let memory = look(dir.path(), Path::new(SHM), &volumes).unwrap().unwrap();
        assert!(memory.path.starts_with(agent_api::STATE_DIR));
        unmount();
        let second = tmpfs(dir.path());
        unmount();
        assert_ne!(first, second);
    }

    #[test]
    fn disk_is_no_memory() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert_eq!(look(dir.path(), Path::new(SHM), &Volumes::default()).unwrap(), None);
    }
}
