//! `mounts` of a configuration (pure): sources on the host become paths below the shared
//! directory, and are collected to be shown there. What a source needs else, because it is a
//! device or memory, only a look at the host tells: see [`storage`](crate::storage).

use std::path::PathBuf;

use api::image_volume::{self, ImageVolume};
use api::{ContainerId, Error};
use host::mounts::IdMaps;
use oci_spec::runtime::{LinuxIdMapping, Mount};
use syscalls::user_namespace::IdRange;

use super::Document;

/// A path of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Index of its entry in `mounts`.
    pub mount: usize,
    /// The host's file, directory or device; a relative path starts at the bundle.
    pub source: PathBuf,
    /// Where the container sees it.
    pub destination: PathBuf,
    /// Whether the mounts below it are seen as well.
    pub recursive: bool,
    /// What the machine may only read.
    pub read_only: ReadOnly,
    /// Whether mounts that the host makes below it later are seen (`HostToContainer`).
    pub follows: bool,
    /// Owners that its files are shown with; none: their own.
    pub ids: Option<IdMaps>,
}

/// An image that the container sees, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenImage {
    /// Index of its entry in `mounts`.
    pub mount: usize,
    /// Where the container sees it.
    pub destination: PathBuf,
    /// What is seen.
    pub volume: ImageVolume,
}

/// How much of a bind mount can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Nothing.
    Nothing,
    /// The mount itself, not those below it.
    Itself,
    /// All of it.
    All,
}

/// Filesystems without a device, whose source says nothing.
const VIRTUAL: [&str; 8] =
    ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "ramfs", "cgroup", "cgroup2"];

/// Filesystems of a device.
const OF_DEVICES: [&str; 14] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "erofs", "squashfs", "f2fs", "vfat", "exfat", "ntfs3",
    "iso9660", "udf", "fuseblk",
];

/// Rewrites the sources of bind mounts for `container`; what the host has to show there. Mounts of
/// images become bind mounts, whose sources are known later.
///
/// # Errors
/// [`Error::Invalid`] for mounts that shall propagate to the host, for filesystems of the host's
/// devices, and for ids mapped in part.
pub(super) fn translate(
    spec: &mut Document,
    container: &ContainerId,
) -> Result<(Vec<Bind>, Vec<SeenImage>), Error> {
    let of_container =
        id_maps(&spec.list("/linux/uidMappings")?, &spec.list("/linux/gidMappings")?)?;
    let (mut binds, mut images) = (Vec::new(), Vec::new());
    spec.retain("/mounts", |index, mount: &mut Mount| {
        if mount.typ().as_deref() == Some(image_volume::TYPE) {
            images.push(image(index, mount)?);
            return Ok(true);
        }
        if let Some(bind) = bind(index, mount, of_container.as_ref())? {
            let source = format!("{}/{container}/mounts/{index}", agent_api::SHARE_DIR);
            mount.set_source(Some(source.into()));
            binds.push(bind);
        }
        Ok(true)
    })?;
    Ok((binds, images))
}

/// Takes an image out of its mount, which is a bind mount then.
fn image(index: usize, mount: &mut Mount) -> Result<SeenImage, Error> {
    let volume = mount.options_mut().as_mut().map(ImageVolume::take).unwrap_or_default();
    let destination = mount.destination().clone();
    let writable =
        !mount.options().iter().flatten().any(|option| option == "ro" || option == "rro");
    if writable || volume.layers.iter().any(|layer| !layer.is_absolute()) {
        let failed = image_volume::FAILED;
        let reason = "it has to be read-only, and its layers absolute paths";
        return Err(Error::Invalid(format!("{failed} at {}: {reason}", destination.display())));
    }
    mount.set_typ(Some("bind".to_owned()));
    Ok(SeenImage { mount: index, destination, volume })
}

fn bind(index: usize, mount: &Mount, of_container: Option<&IdMaps>) -> Result<Option<Bind>, Error> {
    let has = |name: &str| mount.options().iter().flatten().any(|option| option == name);
    let bind = mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind");
    if !bind {
        return of_no_device(mount).map(|()| None);
    }
    let Some(source) = mount.source() else { return Ok(None) };
    let destination = mount.destination();
    if has("rshared") || has("shared") {
        return Err(Error::Invalid(format!(
            "bind mount at {destination:?}: mounts made in a machine can't propagate to the host \
             (Bidirectional, rshared); HostToContainer (rslave) and none can be had"
        )));
    }
    let own = |list: &Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    let ids = match id_maps(&own(mount.uid_mappings()), &own(mount.gid_mappings()))? {
        None if has("idmap") || has("ridmap") => of_container.cloned(),
        own => own,
    };
    let read_only = match (has("rro"), has("ro")) {
        (true, _) => ReadOnly::All,
        (false, true) => ReadOnly::Itself,
        (false, false) => ReadOnly::Nothing,
    };
    Ok(Some(Bind {
        mount: index,
        source: source.clone(),
        destination: destination.clone(),
        recursive: has("rbind"),
        read_only,
        follows: has("rslave") || has("slave"),
        ids,
    }))
}

/// Refuses the filesystem of a device: the configuration means a disk of the host, and the guest
/// would look among its own for one of that name.
fn of_no_device(mount: &Mount) -> Result<(), Error> {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let source = mount.source().clone().unwrap_or_default();
    let path = source.is_absolute() && !VIRTUAL.contains(&kind);
    if !path && !OF_DEVICES.contains(&kind) {
        return Ok(());
    }
    let destination = mount.destination();
    Err(Error::Invalid(format!(
        "mount of type {kind:?} of {source:?} at {destination:?}: a machine can't mount what is on \
         the host's disks; mount it on the host and bind it, or give the container the device"
    )))
}

/// `uidMappings` and `gidMappings` of a mount or of a container.
fn id_maps(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<Option<IdMaps>, Error> {
    let ranges = |list: &[LinuxIdMapping]| {
        let range = |range: &LinuxIdMapping| IdRange {
            inside: range.container_id(),
            outside: range.host_id(),
            size: range.size(),
        };
        list.iter().map(range).collect()
    };
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(IdMaps { uids: ranges(uids), gids: ranges(gids) })),
        _ => Err(Error::Invalid("uidMappings and gidMappings need each other".into())),
    }
}

/// What is shown with other owners already is not mapped once more.
pub(crate) fn forget_ids(mount: &mut Mount) {
    mount.set_uid_mappings(None).set_gid_mappings(None);
    if let Some(options) = mount.options_mut() {
        options.retain(|option| option != "idmap" && option != "ridmap");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What there is to show, and what the mounts have become.
    fn translated(spec: Value) -> Result<(Vec<Bind>, Value), Error> {
        let mut spec = Document::from(spec);
        let (binds, _) = translate(&mut spec, &ContainerId::new("web").unwrap())?;
        Ok((binds, spec.json("/mounts").clone()))
    }

    #[test]
    fn bind_sources_move_below_the_share_and_other_mounts_stay() {
        let spec = json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv/data",
                "options": ["rbind", "ro"]},
            {"destination": "/f", "type": "none", "source": "/etc/f", "options": ["bind"]},
            {"destination": "/r", "type": "bind", "source": "/srv/r",
                "options": ["rbind", "rro", "rslave"]},
        ]});
        let (found, mounts) = translated(spec).unwrap();
        assert_eq!(mounts[0]["source"], "proc");
        assert_eq!(mounts[1]["source"], "/run/cuddy/share/web/mounts/1");
        assert_eq!(mounts[1]["options"][1], "ro");
        assert_eq!(mounts[2]["source"], "/run/cuddy/share/web/mounts/2");
        let data = Bind {
            mount: 1,
            source: "/srv/data".into(),
            destination: "/data".into(),
            recursive: true,
            read_only: ReadOnly::Itself,
            follows: false,
            ids: None,
        };
        let file = Bind {
            mount: 2,
            source: "/etc/f".into(),
            destination: "/f".into(),
            recursive: false,
            read_only: ReadOnly::Nothing,
            follows: false,
            ids: None,
        };
        let all_of_it = Bind {
            mount: 3,
            source: "/srv/r".into(),
            destination: "/r".into(),
            recursive: true,
            read_only: ReadOnly::All,
            follows: true,
            ids: None,
        };
        assert_eq!(found, [data, file, all_of_it]);
    }

    #[test]
    fn what_can_not_leave_the_machine_is_refused_by_name() {
        let bind = |options: Value| {
            json!({"mounts": [
                {"destination": "/csi", "type": "bind", "source": "/x", "options": options},
            ]})
        };
        let error = translated(bind(json!(["rbind", "rshared"]))).unwrap_err().to_string();
        assert!(error.contains("/csi") && error.contains("Bidirectional"), "{error}");
        assert!(translated(bind(json!(["rbind", "rprivate"]))).is_ok());
    }

    #[test]
    fn filesystems_of_the_hosts_disks_are_refused_by_name() {
        let mount = |kind: &str, source: &str| {
            let entry = json!({"destination": "/data", "type": kind, "source": source});
            translated(json!({"mounts": [entry]})).map(|(binds, _)| binds)
        };
        for (kind, source) in [("ext4", "/dev/sdb"), ("xfs", "dev/sdb"), ("other", "//dev/sdb")] {
            let error = mount(kind, source).unwrap_err().to_string();
            assert!(error.contains(source) && error.contains("/data"), "{error}");
        }
        for (kind, source) in [("tmpfs", "/dev/shm"), ("overlay", "overlay"), ("proc", "proc")] {
            assert_eq!(mount(kind, source), Ok(Vec::new()));
        }
    }

    #[test]
    fn owners_are_those_of_the_mount_or_of_the_container() {
        let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 9}]);
        let bind = |extra: Value| {
            let mut entry = json!({"destination": "/d", "type": "bind", "source": "/x"});
            entry.as_object_mut().unwrap().append(&mut extra.as_object().unwrap().clone());
            let linux = json!({"uidMappings": map(7), "gidMappings": map(8)});
            let mut spec = Document::from(json!({"mounts": [entry], "linux": linux}));
            let found = translate(&mut spec, &ContainerId::new("web").unwrap());
            spec.edit("/mounts/0", forget_ids).unwrap();
            (found.map(|(found, _)| found[0].ids.clone()), spec.json("/mounts/0").clone())
        };
        let host = |ids: &Option<IdMaps>| {
            ids.as_ref().map(|ids| (ids.uids[0].outside, ids.gids[0].outside))
        };
        assert_eq!(bind(json!({})).0, Ok(None));
        let (own, entry) = bind(json!({"uidMappings": map(1), "gidMappings": map(2)}));
        assert_eq!(host(&own.unwrap()), Some((1, 2)));
        assert!(entry.get("uidMappings").is_none());
        let (shared, entry) = bind(json!({"options": ["rbind", "ridmap", "ro"]}));
        assert_eq!(host(&shared.unwrap()), Some((7, 8)));
        assert_eq!(entry["options"], json!(["rbind", "ro"]));
        assert!(bind(json!({"uidMappings": map(1)})).0.is_err());
    }

    #[test]
    fn image_becomes_a_bind_mount_and_is_told() {
        let volume = ImageVolume { layers: vec!["/l/1".into()], sub_path: "etc".into() };
        let seen = |options: &[String]| {
            let entry = json!({"destination": "/i", "type": "cuddy.image", "options": options});
            let mut spec = Document::from(json!({"mounts": [{"destination": "/proc"}, entry]}));
            let told = translate(&mut spec, &ContainerId::new("web").unwrap());
            told.map(|(binds, images)| (binds, images, spec.json("/mounts/1").clone()))
        };
        let mut options = vec!["rbind".to_owned(), "ro".to_owned()];
        options.extend(volume.options());
        let (binds, images, mount) = seen(&options).unwrap();
        let expected = SeenImage { mount: 1, destination: "/i".into(), volume };
        assert_eq!((binds, images), (vec![], vec![expected]));
        let bind = json!({"destination": "/i", "type": "bind", "options": ["rbind", "ro"]});
        assert_eq!(mount, bind);
        for wrong in [&["cuddy.layer=/l/1"][..], &["ro", "cuddy.layer=l"]] {
            let options: Vec<_> = wrong.iter().map(|&option| option.to_owned()).collect();
            let error = seen(&options).unwrap_err().to_string();
            assert!(error.contains("mounting the image volume at /i"), "{error}");
        }
    }

    #[test]
    fn what_nobody_knows_of_a_mount_stays() {
        let (binds, mounts) = translated(json!({"mounts": [
            {"destination": "/a", "type": "bind", "source": "/x", "options": ["bind", "new"],
                "newInTheNextVersion": {"a": null}},
            {"destination": "/b", "type": "tmpfs", "source": null, "options": null},
        ]}))
        .unwrap();
        assert_eq!(binds.len(), 1);
        let share = "/run/cuddy/share/web/mounts/0";
        let expected = json!([
            {"destination": "/a", "type": "bind", "source": share, "options": ["bind", "new"],
                "newInTheNextVersion": {"a": null}},
            {"destination": "/b", "type": "tmpfs", "source": null, "options": null},
        ]);
        assert_eq!(mounts, expected);
    }
}
