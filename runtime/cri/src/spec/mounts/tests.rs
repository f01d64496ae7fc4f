use protocol::cri::{ImageSpec, MountPropagation};

use super::*;
use crate::spec::input::{ImagePlace, ImageVolume, Propagation, Source};
use crate::spec::tests::Case;

fn asked(host_path: &str, container_path: &str) -> Asked {
    Asked {
        host_path: host_path.to_owned(),
        container_path: container_path.to_owned(),
        ..Asked::default()
    }
}

fn made(case: &Case, access: Access) -> Result<(Vec<Mount>, Option<&'static str>), String> {
    let input = case.input();
    let image = case.image.config().clone().unwrap_or_default();
    of_container(&input, &image, access, None).map_err(|error| error.to_string())
}

/// `place source options`, of the last ones.
fn lines(case: &Case, count: usize) -> Vec<String> {
    let (mounts, _) = made(case, Access::default()).unwrap();
    mounts[mounts.len() - count..].iter().map(line).collect()
}

fn line(mount: &Mount) -> String {
    let source = mount.source().as_ref().unwrap().display();
    let options = mount.options().as_ref().unwrap().join(",");
    format!("{} {source} {options}", mount.destination().display())
}

fn one(mount: Asked) -> Result<String, String> {
    let mut case = Case::new(Runtime::Runc);
    case.container.mounts = vec![mount];
    made(&case, Access::default()).map(|(mounts, _)| line(mounts.last().unwrap()))
}

#[test]
fn every_container_has_the_standard_mounts() {
    let case = Case::new(Runtime::Machine);
    let (mounts, root) = made(&case, Access::default()).unwrap();
    let places: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
    let expected =
        ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    assert_eq!((places.as_slice(), root), (&expected[..], None));
    let (ro, rw) = ("nosuid,noexec,nodev,ro", "nosuid,noexec,nodev,rw");
    assert_eq!(line(&mounts[5]), format!("/sys sysfs {ro}"));
    assert_eq!(line(&mounts[6]), "/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,ro");
    let privileged = Access { privileged: true, ..Access::default() };
    let (mounts, _) = made(&case, privileged).unwrap();
    assert_eq!(line(&mounts[5]), format!("/sys sysfs {rw}"));
    assert_eq!(line(&mounts[6]), "/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,rw");
    let (mounts, _) = made(&Case::new(Runtime::Runc), privileged).unwrap();
    assert!(line(&mounts[6]).ends_with("relatime,rw,nsdelegate"), "{}", line(&mounts[6]));
    let foreign = Access { foreign_network: true, ..Access::default() };
    let (mounts, _) = made(&case, foreign).unwrap();
    assert_eq!(line(&mounts[5]), "/sys /sys rbind,rro,nosuid,nodev,noexec");
    let mut writable = Case::new(Runtime::Machine);
    writable.handler.cgroup_writable = true;
    let (mounts, _) = made(&writable, Access::default()).unwrap();
    assert!(line(&mounts[6]).ends_with(",rw"));
}

#[test]
fn files_of_the_pod_give_way_to_the_containers_own() {
    let mut case = Case::new(Runtime::Runc);
    case.paths = PodPaths {
        hostname: Some("/pod/hostname".into()),
        hosts: Some("/pod/hosts".into()),
        resolv_conf: Some("/pod/resolv.conf".into()),
        shm: Some("/pod/shm".into()),
    };
    case.container.mounts = vec![asked("/k/hosts", "/etc//hosts/")];
    assert_eq!(
        lines(&case, 4),
        [
            "/etc/hosts /k/hosts rbind,rprivate,rw",
            "/etc/hostname /pod/hostname rbind,rprivate,rw",
            "/etc/resolv.conf /pod/resolv.conf rbind,rprivate,rw",
            "/dev/shm /pod/shm rbind,rprivate,rw",
        ]
    );
    let node = Access { node_ipc: true, read_only_root: true, ..Access::default() };
    let (mounts, _) = made(&case, node).unwrap();
    assert_eq!(line(mounts.last().unwrap()), "/dev/shm /dev/shm rbind,rprivate,rw");
    assert!(mounts.iter().any(|mount| line(mount).ends_with("resolv.conf rbind,rprivate,ro")));
    assert_eq!(mounts.iter().filter(|mount| mount.destination().ends_with("shm")).count(), 1);
}

#[test]
fn mounts_above_come_before_mounts_below() {
    let mut case = Case::new(Runtime::Runc);
    case.container.mounts =
        vec![asked("/1", "/a/b/c"), asked("/2", "/z"), asked("/3", "/a"), asked("/4", "/dev")];
    let (mounts, _) = made(&case, Access::default()).unwrap();
    let places: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
    // Nothing of ours is left below a /dev that is not ours.
    assert_eq!(places, ["/proc", "/sys", "/sys/fs/cgroup", "/z", "/a", "/dev", "/a/b/c"]);
}

#[test]
fn access_and_propagation_are_as_asked() {
    let with = |change: fn(&mut Asked)| {
        let mut mount = asked("/h", "/c");
        change(&mut mount);
        one(mount)
    };
    let ok = |options: &str| Ok(format!("/c /h rbind,{options}"));
    let slave = i32::from(MountPropagation::PropagationHostToContainer);
    assert_eq!(slave, 1);
    assert_eq!(with(|_| ()), ok("rprivate,rw"));
    assert_eq!(with(|m| m.readonly = true), ok("rprivate,ro"));
    assert_eq!(with(|m| (m.readonly, m.recursive_read_only) = (true, true)), ok("rprivate,rro"));
    assert_eq!(with(|m| m.propagation = 1), ok("rslave,rw"));
    assert_eq!(with(|m| m.propagation = 2), ok("rshared,rw"));
    let options =
        |m: &mut Asked| m.mount_options = vec!["noexec".into(), "nosuid".into(), "noexec".into()];
    assert_eq!(with(options), ok("rprivate,rw,noexec,nosuid"));
    let error = |change: fn(&mut Asked)| with(change).unwrap_err();
    for (change, reason) in [
        ((|m| m.recursive_read_only = true) as fn(&mut Asked), "but not read-only"),
        (
            |m| (m.readonly, m.recursive_read_only, m.propagation) = (true, true, 1),
            "needs private propagation",
        ),
        (|m| m.propagation = 7, "propagation 7 is unknown"),
        (|m| m.mount_options = vec!["suid".into()], "\"suid\" is none of"),
        (|m| m.host_path = String::new(), "no absolute host path"),
        (|m| m.host_path = "h".into(), "no absolute host path"),
        (|m| m.container_path = "c".into(), "mount at \"c\": no absolute path"),
        (|m| m.container_path = "/x/..".into(), "no absolute path below the root"),
        (|m| m.container_path = "/\0".into(), "no absolute path"),
        (|m| m.uid_mappings = vec![IdMapping::default()], "need each other"),
    ] {
        assert!(error(change).contains(reason), "{}", error(change));
    }
}

#[test]
fn handler_without_recursive_read_only_says_so_in_the_kubelets_word() {
    let mut case = Case::new(Runtime::Runc);
    case.handler.recursive_read_only = false;
    let mount = Asked { readonly: true, recursive_read_only: true, ..asked("/h", "/c") };
    case.container.mounts = vec![mount];
    let error = made(&case, Access::default()).unwrap_err();
    assert!(error.starts_with("RROUnsupported: mount at \"/c\""), "{error}");
}

#[test]
fn source_is_what_was_found_and_must_propagate_by_itself() {
    let found = |propagation: i32, host: Propagation| {
        let mut case = Case::new(Runtime::Runc);
        case.container.mounts = vec![Asked { propagation, ..asked("/link", "/c") }];
        let source = Source { path: "/real".into(), propagation: host };
        case.found.sources.insert("/link".to_owned(), source);
        made(&case, Access::default()).map(|(mounts, root)| (line(mounts.last().unwrap()), root))
    };
    let ok = |word: &str, root| Ok((format!("/c /real rbind,{word},rw"), root));
    assert_eq!(found(0, Propagation::Private), ok("rprivate", None));
    assert_eq!(found(1, Propagation::Slave), ok("rslave", Some("rslave")));
    assert_eq!(found(2, Propagation::Shared), ok("rshared", Some("rshared")));
    for (asked, host, kind) in [
        (1, Propagation::Private, "shared or slave"),
        (2, Propagation::Slave, "shared"),
        (2, Propagation::Private, "shared"),
    ] {
        let error = found(asked, host).unwrap_err();
        assert!(error.ends_with(&format!("is not a {kind} mount")), "{error}");
    }
}

#[test]
fn images_are_mounted_where_they_were_found() {
    let volume = |sub_path: &str, path: Result<&str, &str>| ImageVolume {
        image: "sha256:1".to_owned(),
        sub_path: sub_path.to_owned(),
        place: path.map(|path| ImagePlace::Host(path.into())).map_err(str::to_owned),
    };
    let mounted = |change: fn(&mut Asked)| {
        let image = ImageSpec { image: "sha256:1".to_owned(), ..ImageSpec::default() };
        let mut mount = Asked { image: Some(image), readonly: true, ..asked("", "/data") };
        change(&mut mount);
        let mut case = Case::new(Runtime::Machine);
        case.container.mounts = vec![mount];
        case.found.image_volumes = vec![
            volume("", Ok("/images/1")),
            volume("a/b", Ok("/images/1/a/b")),
            volume("f", Err("no directory")),
        ];
        made(&case, Access::default()).map(|(mounts, _)| line(mounts.last().unwrap()))
    };
    assert_eq!(mounted(|_| ()), Ok("/data /images/1 rbind,rprivate,ro".to_owned()));
    let part = mounted(|mount| mount.image_sub_path = "a/b".into());
    assert_eq!(part, Ok("/data /images/1/a/b rbind,rprivate,ro".to_owned()));
    for (change, reason) in [
        ((|m| m.image_sub_path = "f".into()) as fn(&mut Asked), "no directory"),
        (|m| m.image_sub_path = "x".into(), "the image is not on this node"),
        (|m| m.image_sub_path = "a/../..".into(), "is not below the image's root"),
        (|m| m.image_sub_path = "/a".into(), "is not below the image's root"),
        (|m| m.readonly = false, "it has to be read-only"),
        (|m| m.host_path = "/h".into(), "it has a host path as well"),
        (|m| m.image = Some(ImageSpec::default()), "no image is named"),
    ] {
        let error = mounted(change).unwrap_err();
        assert!(error.starts_with("ImageVolumeMountFailed: mount of image \""), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn machine_gets_the_layers_of_an_image_and_its_guest_the_sub_path() {
    let mut case = Case::new(Runtime::Machine);
    let image = Some(ImageSpec { image: "sha256:1".to_owned(), ..ImageSpec::default() });
    let image_sub_path = "a/b".to_owned();
    let mount = Asked { image, readonly: true, image_sub_path, ..asked("", "/data") };
    case.container.mounts = vec![mount];
    case.found.image_volumes = vec![ImageVolume {
        image: "sha256:1".to_owned(),
        sub_path: "a/b".to_owned(),
        place: Ok(ImagePlace::Layers(vec!["/l/1".into(), "/l/2".into()])),
    }];
    let (mounts, _) = made(&case, Access::default()).unwrap();
    let mount = mounts.last().unwrap();
    assert_eq!((mount.typ().as_deref(), mount.source()), (Some("cuddy.image"), &None));
    let mut options = mount.options().clone().unwrap();
    let told = api::image_volume::ImageVolume::take(&mut options);
    assert_eq!((told.layers.len(), told.sub_path.as_str()), (2, "a/b"));
    assert_eq!(options, ["rbind", "rprivate", "ro"]);
}

fn with_volumes(runtime: Runtime) -> Case {
    let mut case = Case::new(runtime);
    let mut config = Config::default();
    let volumes = ["/data", "var/lib/x", "/data/", "/own", "/"].map(str::to_owned).to_vec();
    config.set_volumes(Some(volumes));
    case.image.set_config(Some(config));
    case.container.mounts = vec![asked("/h", "/own/")];
    case
}

#[test]
fn volumes_of_the_image_are_what_nothing_else_is_mounted_at() {
    let mut case = with_volumes(Runtime::Runc);
    let image = case.image.config().clone().unwrap();
    assert_eq!(volumes_of_image(&image, &case.container), ["/data", "/var/lib/x"]);
    for (place, path) in [("/data", "/v/1"), ("/var/lib/x", "/v/2")] {
        case.found.volumes.insert(place.to_owned(), path.into());
    }
    let last = lines(&case, 3);
    assert_eq!(last[1..], ["/data /v/1 rbind,rprivate,rw", "/var/lib/x /v/2 rbind,rprivate,rw"]);
}

#[test]
fn volume_of_an_image_is_the_containers_root_unless_that_is_read_only() {
    let case = with_volumes(Runtime::Machine);
    let (mounts, _) = made(&case, Access::default()).unwrap();
    assert_eq!(mounts.len(), 8);
    let access = Access { read_only_root: true, ..Access::default() };
    let (mounts, _) = made(&case, access).unwrap();
    assert_eq!(line(&mounts[7]), "/data tmpfs rw,tmpcopyup");
    assert_eq!(line(&mounts[8]), "/var/lib/x tmpfs rw,tmpcopyup");
}

#[test]
fn owners_are_mapped_in_what_the_daemon_adds() {
    let mut case = Case::new(Runtime::Runc);
    case.paths.hosts = Some("/pod/hosts".into());
    case.paths.shm = Some("/pod/shm".into());
    let range = [IdMapping { host_id: 65536, container_id: 0, length: 9 }];
    let config = Config::default();
    let (mounts, _) =
        of_container(&case.input(), &config, Access::default(), Some((&range, &range))).unwrap();
    let mapped = |place: &str| {
        let mount = mounts.iter().find(|mount| mount.destination().ends_with(place)).unwrap();
        assert_eq!(mount.uid_mappings(), mount.gid_mappings());
        mount.uid_mappings().as_ref().map(|maps| maps[0].host_id())
    };
    assert_eq!((mapped("hosts"), mapped("shm")), (Some(65536), None));
}

#[test]
fn paths_are_cleaned_by_their_text() {
    for (path, expected) in [
        ("/a/./b//c/", Some("/a/b/c")),
        ("/a/../../b", Some("/b")),
        ("/", Some("/")),
        ("", None),
        ("a", None),
    ] {
        assert_eq!(absolute(path), expected.map(PathBuf::from));
    }
}
