use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::StatVfsMountFlags;

use super::super::{Options, table};
use super::*;
use crate::spawn::{ChildEnd, Program, Watched};

/// A directory of the host with a scaffold of a share, and a volume `data` with a mount in it.
struct Ground {
    dir: tempfile::TempDir,
    share: Share,
    seen: OwnedFd,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["scaffold/web/rootfs", "data/sub", "data/later", "outside"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        rustix::mount::mount("tmpfs", dir.path().join("data/sub"), "tmpfs", flags(), c"").unwrap();
        std::fs::write(dir.path().join("data/sub/file"), "").unwrap();
        let share = Share::new(&dir.path().join("scaffold")).unwrap();
        share.admit(Path::new("web")).unwrap();
        let seen = share.directory().unwrap();
        Self { dir, share, seen }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a machine sees.
    fn seen(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.seen.as_raw_fd())).join(name)
    }

    fn show(&self, source: &str, options: &[&str]) {
        let options: Vec<String> = options.iter().map(|&text| text.to_owned()).collect();
        let tree = Tree::of(&self.path(source), &Options::parse(&options)).unwrap();
        self.share.attach(tree, Path::new("web/rootfs")).unwrap();
    }

    fn mounted_on_the_host(&self) -> usize {
        let table = table::read().unwrap();
        table.iter().filter(|mounted| mounted.point.starts_with(self.dir.path())).count()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _gone_before = unmount(self.path("data/sub"), UnmountFlags::DETACH);
    }
}

fn flags() -> rustix::mount::MountFlags {
    rustix::mount::MountFlags::empty()
}

/// Mounting needs root, as all of this crate's work does; the tests run as it.
#[test]
fn machine_sees_what_the_host_does_not_and_nothing_is_left_of_it() {
    let ground = Ground::new();
    ground.show("data", &["rbind", "ro"]);
    assert!(ground.seen("web/rootfs/sub/file").exists());
    assert_eq!(ground.mounted_on_the_host(), 1);
    assert!(!ground.path("scaffold/web/rootfs/sub").exists());
    ground.share.detach(Path::new("web")).unwrap();
    assert!(!ground.seen("web/rootfs/sub").exists() && ground.seen("web/rootfs").exists());
    ground.share.detach(Path::new("web")).unwrap();
    ground.share.detach(Path::new("nobody")).unwrap();
    assert!(ground.path("data/sub/file").exists());
}

#[test]
fn read_only_is_one_mount_or_all_and_devices_are_none() {
    let ground = Ground::new();
    let writes = |place: &str| std::fs::write(ground.seen(place).join("new"), "").is_ok();
    let harmless = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
    ground.show("data", &["rbind", "ro"]);
    assert_eq!((writes("web/rootfs"), writes("web/rootfs/sub")), (false, true));
    for place in ["web/rootfs", "web/rootfs/sub"] {
        let flags = rustix::fs::statvfs(ground.seen(place)).unwrap().f_flag;
        assert!(flags.contains(harmless), "{place}: {flags:?}");
    }
    let all = Options { all_read_only: true, recursive: true, ..Options::parse(&[]) };
    let tree = Tree::of(&ground.path("data"), &all).unwrap();
    ground.share.attach(tree, Path::new("web/rootfs")).unwrap();
    assert_eq!((writes("web/rootfs"), writes("web/rootfs/sub")), (false, false));
    assert!(std::fs::write(ground.path("data/new"), "").is_ok());
}

#[test]
fn host_can_unmount_and_remove_below_a_volume_and_its_later_mounts_are_not_seen() {
    let ground = Ground::new();
    ground.show("data", &["rbind"]);
    ground.share.seal().unwrap();
    unmount(ground.path("data/sub"), UnmountFlags::empty()).unwrap();
    std::fs::remove_dir(ground.path("data/sub")).unwrap();
    rustix::mount::mount("tmpfs", ground.path("data/later"), "tmpfs", flags(), c"").unwrap();
    std::fs::write(ground.path("data/later/file"), "").unwrap();
    assert!(ground.seen("web/rootfs/later").exists());
    assert!(!ground.seen("web/rootfs/later/file").exists());
    // What is shown from now on has it, whether or not mounts of this host propagate.
    ground.show("data", &["rbind"]);
    assert!(ground.seen("web/rootfs/later/file").exists());
    unmount(ground.path("data/later"), UnmountFlags::empty()).unwrap();
}

#[test]
fn sealed_share_has_no_other_mounts_and_takes_more() {
    let ground = Ground::new();
    let mounts = |thread: rustix::thread::Pid| {
        let path = format!("/proc/self/task/{}/mountinfo", thread.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap().lines().count()
    };
    let thread = ground.share.run(|| Ok(rustix::thread::gettid())).unwrap();
    assert!(mounts(thread) > 3);
    ground.share.seal().unwrap();
    assert_eq!(mounts(thread), 3);
    ground.show("data", &["rbind"]);
    assert!(ground.seen("web/rootfs/sub/file").exists());
    assert_eq!(mounts(thread), 5);
    ground.share.detach(Path::new("web")).unwrap();
    assert_eq!(mounts(thread), 2);
    ground.share.clear().unwrap();
    assert_eq!(mounts(thread), 1);
}

#[tokio::test]
async fn machine_is_alone_in_its_process_namespace() {
    let ground = Ground::new();
    let stderr = std::fs::File::open("/dev/null").unwrap().into();
    // It writes to its output until it is ended.
    let program = Program::new(Path::new("/usr/bin/yes"), &stderr, &[]).unwrap();
    let process =
        Watched::started(ground.share.start(move || Ok(program.start(None)?)).unwrap()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    let numbers: Vec<_> = numbers.split_whitespace().collect();
    assert_eq!(numbers.last(), Some(&"1"), "{status}");
    assert!(numbers.contains(&process.pid().to_string().as_str()), "{status}");
    // What the share's thread does from now on is done as before.
    ground.show("data", &["rbind"]);
    assert!(ground.seen("web/rootfs/sub/file").exists());
    process.kill();
    assert_eq!(process.wait().await.unwrap(), ChildEnd::Signal(9));
}

#[test]
fn what_is_renamed_elsewhere_meanwhile_stops_no_mount() {
    let ground = Ground::new();
    ground.show("data", &[]);
    let root = Path::new("web/rootfs");
    let elsewhere = tempfile::tempdir().unwrap();
    let names = ["one", "other"].map(|name| elsewhere.path().join(name));
    std::fs::create_dir(&names[0]).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&names[0], &names[1]).unwrap();
                std::fs::rename(&names[1], &names[0]).unwrap();
            }
        });
        let found = (0..2000).try_for_each(|_| {
            let tree = Tree::of(&ground.path("data"), &Options::parse(&[]))?;
            ground.share.attach_inside(tree, root, "../later")?;
            ground.share.detach(&root.join("later"))
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        found.unwrap();
    });
}

#[test]
fn links_of_an_image_lead_no_mount_out_of_the_root() {
    let ground = Ground::new();
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, ground.path("data").join(name)).unwrap();
    };
    link("../../../later", "up");
    link(ground.path("outside").to_str().unwrap(), "absolute");
    ground.show("data", &[]);
    let root = Path::new("web/rootfs");
    let tree = || Tree::of(&ground.path("data"), &Options::parse(&[])).unwrap();
    for target in ["later", "/later", "up", "../later"] {
        ground.share.attach_inside(tree(), root, target).unwrap();
        assert!(ground.seen("web/rootfs/later/later").exists(), "{target}");
        ground.share.detach(&root.join("later")).unwrap();
        assert!(!ground.seen("web/rootfs/later/later").exists(), "{target}");
    }
    assert!(ground.share.attach_inside(tree(), root, "absolute").is_err());
    ground.share.attach_inside(tree(), root, "").unwrap();
    // Without a way to say what may be followed, nothing is.
    assert!(ground.share.attach(tree(), &root.join("up")).is_err());
}

#[test]
fn overlay_of_many_layers_is_made_and_seen() {
    let ground = Ground::new();
    let mut layers = Vec::new();
    for number in 0..100 {
        let name = format!("data/in-a-directory-of-a-long-name/{number}/fs");
        std::fs::create_dir_all(ground.path(&name)).unwrap();
        std::fs::write(ground.path(&name).join(number.to_string()), "").unwrap();
        layers.push(ground.path(&name).display().to_string());
    }
    let mount = api::request::Mount {
        fstype: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![format!("lowerdir={}", layers.join(":"))],
        ..Default::default()
    };
    let back = std::env::current_dir().unwrap();
    let tree = Tree::mounted(&mount, &ground.path("scaffold")).unwrap();
    assert_eq!(std::env::current_dir().unwrap(), back);
    ground.share.attach(tree, Path::new("web/rootfs")).unwrap();
    assert!((0..100).all(|number| ground.seen("web/rootfs").join(number.to_string()).exists()));
}
