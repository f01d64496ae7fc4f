//! Mounts are real, in a mount namespace that ends with its test.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use erofs::{Meta, Mtime, Options, Writer, Xattrs};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::MountPropagationFlags;

use super::*;

/// Runs a test in a mount namespace of its own.
fn apart(test: impl FnOnce(&Ground) + Send) {
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            test(&Ground::new());
        });
        apart.join().unwrap();
    });
}

struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["layers", "upper"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A layer's file.
    fn layer(&self, name: &str, fill: impl FnOnce(&mut Writer<std::fs::File>)) -> PathBuf {
        let path = self.path(&format!("{name}.erofs"));
        let file = std::fs::File::options().create_new(true).read(true).write(true).open(&path);
        let mut writer = Writer::new(file.unwrap(), Options::default()).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        path
    }
}

fn meta(mode: u16) -> Meta {
    let mtime = Mtime { seconds: 0, nanoseconds: 0 };
    Meta { mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::default() }
}

fn file(writer: &mut Writer<std::fs::File>, path: &str, text: &[u8]) {
    let mut file = writer.file(path.as_bytes(), meta(0o644), text.len() as u64).unwrap();
    file.write_all(text).unwrap();
    file.finish().unwrap();
}

#[test]
fn layers_lie_over_each_other_and_hide_what_they_say() {
    apart(|ground| {
        let lower = ground.layer("lower", |writer| {
            writer.directory(b"d", meta(0o755)).unwrap();
            file(writer, "d/old", b"old");
            file(writer, "gone", b"gone");
            file(writer, "same", b"lower");
        });
        let upper = ground.layer("upper", |writer| {
            writer.directory(b"d", meta(0o755)).unwrap();
            writer.opaque(b"d").unwrap();
            writer.whiteout(b"gone").unwrap();
            file(writer, "same", b"upper");
        });
        let layers = Layers::new(ground.path("layers"));
        let mounted: Vec<_> = [&lower, &upper].map(|file| layers.mount(file).unwrap()).to_vec();
        let root = ground.path("root");
        mount_root(&mounted, &ground.path("upper"), &root).unwrap();
        assert_eq!(std::fs::read(root.join("same")).unwrap(), b"upper");
        assert!(!root.join("gone").exists() && !root.join("d/old").exists());
        std::fs::write(root.join("new"), "written").unwrap();
        assert_eq!(std::fs::read(ground.path("upper/upper/new")).unwrap(), b"written");
        // What nobody names goes, and what is mounted over it stays.
        layers.keep(&[]).unwrap();
        assert_eq!(std::fs::read_dir(ground.path("layers")).unwrap().count(), 0);
        assert_eq!(std::fs::read(root.join("same")).unwrap(), b"upper");
        for _ in 0..2 {
            unmount(&root).unwrap();
        }
        assert!(!root.join("same").exists());
    });
}

#[test]
fn layer_is_mounted_once() {
    apart(|ground| {
        let layer = ground.layer("one", |writer| file(writer, "f", b"text"));
        let layers = Layers::new(ground.path("layers"));
        let at = layers.mount(&layer).unwrap();
        assert_eq!(layers.mount(&layer).unwrap(), at);
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let own = mounts.lines().filter(|line| line.contains(at.to_str().unwrap()));
        assert_eq!(own.count(), 1);
        layers.keep(std::slice::from_ref(&layer)).unwrap();
        assert_eq!(std::fs::read(at.join("f")).unwrap(), b"text");
        layers.keep(&[]).unwrap();
        assert!(!at.exists());
    });
}

#[test]
fn image_without_layers_is_an_empty_directory() {
    apart(|ground| {
        let layers = Layers::new(ground.path("layers"));
        let root = ground.path("root");
        mount_root(&[layers.empty().unwrap()], &ground.path("upper"), &root).unwrap();
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o755);
        unmount(&root).unwrap();
    });
}

#[test]
fn many_layers_fit() {
    apart(|ground| {
        let layers = Layers::new(ground.path("layers"));
        let all = (0..127).map(|number| {
            let name = format!("{number:064}");
            let text = number.to_string();
            layers.mount(&ground.layer(&name, |writer| file(writer, "f", text.as_bytes()))).unwrap()
        });
        let all: Vec<_> = all.collect();
        let root = ground.path("root");
        mount_root(&all, &ground.path("upper"), &root).unwrap();
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"126");
        unmount(&root).unwrap();
        layers.keep(&[]).unwrap();
    });
}

/// As on kernels that mount no file.
#[test]
fn layer_is_mounted_by_a_device_as_well() {
    apart(|ground| {
        let layer = ground.layer("one", |writer| file(writer, "f", b"text"));
        let at = ground.path("layers");
        layers::by_device(&layer, &at).unwrap();
        assert_eq!(std::fs::read(at.join("f")).unwrap(), b"text");
        assert!(std::fs::write(at.join("f"), "x").is_err());
        unmount(&at).unwrap();
    });
}

#[test]
fn image_is_seen_and_not_written() {
    apart(|ground| {
        let layer = |name: &str| {
            ground.layer(name, |writer| {
                writer.directory(b"d", meta(0o755)).unwrap();
                file(writer, &format!("d/{name}"), name.as_bytes());
                writer.symlink(b"up", b"../../../d", meta(0o777)).unwrap();
                writer.symlink(b"out", b"/etc", meta(0o777)).unwrap();
            })
        };
        let layers = Layers::new(ground.path("layers"));
        let mounted: Vec<_> =
            ["one", "two"].map(|name| layers.mount(&layer(name)).unwrap()).to_vec();
        for count in 0..=2 {
            let view = ground.path(&format!("view{count}"));
            mount_view(&mounted[..count], &view).unwrap();
            let names = ["one", "two"].iter().filter(|name| view.join("d").join(name).exists());
            assert_eq!(names.count(), count);
            if count > 0 {
                is_read_only_and_bounded(&view);
            }
            assert_eq!(directory_below(&view, ".").unwrap(), view);
            unmount(&view).unwrap();
        }
    });
}

fn is_read_only_and_bounded(view: &Path) {
    let error = std::fs::write(view.join("d/new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    for path in ["d", "up", "./up/../d/."] {
        assert_eq!(directory_below(view, path).unwrap(), view.join("d"), "{path}");
    }
    for path in ["out", "d/one", "missing", "d/../../../etc"] {
        directory_below(view, path).unwrap_err();
    }
}

#[test]
fn file_of_an_image_is_never_one_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::fs::write(root.join("passwd"), "inside").unwrap();
    let read = |path: &str| read_below(&root, path, 16);
    for target in ["/passwd", "../passwd", "../../../../passwd"] {
        let _last = std::fs::remove_file(root.join("etc/passwd"));
        symlink(target, root.join("etc/passwd")).unwrap();
        assert_eq!(read("etc/passwd").unwrap().unwrap(), b"inside", "{target}");
    }
    symlink("../../secret", root.join("etc/group")).unwrap();
    assert_eq!(read("etc/group").unwrap(), None);
    assert_eq!(read("missing/group").unwrap(), None);
    assert_eq!(read("passwd/group").unwrap(), None);
    assert!(read("etc").unwrap_err().to_string().contains("no file"));
    let fifo = root.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert!(read("fifo").unwrap_err().to_string().contains("no file"));
    std::fs::write(root.join("long"), [0; 17]).unwrap();
    assert!(read("long").unwrap_err().to_string().contains("over 16 bytes"));
}

#[test]
fn what_is_written_on_an_overlay_is_refused_with_the_way_out() {
    apart(|ground| {
        let (lower, root) = (ground.path("layers"), ground.path("root"));
        assert!(holds_overlays(&ground.path("not/there/yet")));
        mount_root(std::slice::from_ref(&lower), &ground.path("upper"), &root).unwrap();
        let inside = root.join("containers/a");
        assert!(!holds_overlays(&inside));
        std::fs::create_dir_all(&inside).unwrap();
        let refused = mount_root(&[lower], &inside, &ground.path("second")).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("put the daemon's `root`") && text.contains("containers/a"),
            "{text}"
        );
        unmount(&root).unwrap();
    });
}
