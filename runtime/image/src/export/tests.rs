//! What is exported is imported again, and is the same.

use std::io::Cursor;

use serde_json::json;
use tar_core::builder::EntryBuilder;
use tar_core::{EntryType, SparseEntry};
use tempfile::TempDir;

use super::*;
use crate::archive::import_stream;
use crate::tests::tar;

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path()).unwrap();
    store.uses_known().unwrap();
    (directory, store)
}

fn entry(kind: EntryType, path: &[u8]) -> EntryBuilder {
    let mut entry = EntryBuilder::new_ustar();
    entry.path(path).entry_type(kind).mode(0o644).unwrap().size(0).unwrap();
    entry
}

struct Layer(Vec<u8>);

impl Layer {
    fn put(&mut self, mut entry: EntryBuilder, content: &[u8]) -> &mut Self {
        self.0.extend(entry.finish_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(&mut self, path: &[u8], content: &[u8]) -> &mut Self {
        let mut entry = entry(EntryType::Regular, path);
        entry.size(content.len() as u64).unwrap();
        self.put(entry, content)
    }

    fn link(&mut self, kind: EntryType, path: &[u8], target: &[u8]) -> &mut Self {
        let mut entry = entry(kind, path);
        entry.link_name(target);
        self.put(entry, b"")
    }
}

/// A layer with all that one can have.
fn everything() -> Vec<u8> {
    let mut layer = Layer(Vec::new());
    let long = [b"d".repeat(200), b"e".repeat(250), b"n".repeat(255)].join(&b'/');
    layer.file(b"z/first", &[1; 9000]).file(b"a/second", b"2").file(b"empty", b"");
    layer.file(&long, b"long").file(b"\xff\xfe not text\n", b"x").file(b"opaque/.wh..wh..opq", b"");
    layer.file(b"opaque/kept", b"k").file(b"gone/.wh.file", b"").file(b".wh.more", b"");
    layer.link(EntryType::Link, b"a/again", b"z/first").link(EntryType::Link, b"b", b"empty");
    layer.link(EntryType::Symlink, b"link", b"../../etc/passwd");
    layer.link(EntryType::Symlink, b"longer", &b"t/".repeat(1600));
    for (kind, path) in [(EntryType::Char, b"tty"), (EntryType::Block, b"sda")] {
        let mut device = entry(kind, path);
        device.device(4000, 1_000_000).unwrap();
        layer.put(device, b"");
    }
    layer.put(entry(EntryType::Fifo, b"pipe"), b"");
    let mut owned = entry(EntryType::Regular, b"owned");
    owned.mode(0o6711).unwrap().uid(4_000_000_000).unwrap().gid(7).unwrap();
    owned.add_pax("mtime", "-1.25").add_pax("SCHILY.xattr.user.x", b"\0\n=");
    owned
        .add_pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02")
        .add_pax("SCHILY.xattr.user.e", "");
    layer.put(owned, b"");
    let mut late = entry(EntryType::Directory, b"late/");
    late.add_pax("mtime", "99999999999.000000001");
    layer.put(late, b"");
    let holes = [(4096, 4096), (40_960, 5)];
    let map = holes.map(|(offset, length)| SparseEntry { offset, length });
    let mut sparse = entry(EntryType::Regular, b"holes");
    sparse.size(4101).unwrap().sparse(&map, 100_000);
    layer.put(sparse, &[3; 4101]);
    let mut hole = entry(EntryType::Regular, b"hole");
    hole.sparse(&[SparseEntry { offset: 1 << 40, length: 0 }], 1 << 40);
    layer.put(hole, b"");
    layer.0.resize(layer.0.len() + 1024, 0);
    layer.0
}

/// What `docker save` makes of an image with these layers.
fn archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let (config, history) = (json!({"User": "me"}), json!([{"created_by": "hand"}]));
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs,
        "config": config, "history": history})
    .to_string();
    let paths: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let manifest = json!([{"Config": "c", "RepoTags": [name], "Layers": paths}]).to_string();
    let mut files = vec![("c", config.as_bytes()), ("manifest.json", manifest.as_bytes())];
    files.extend(paths.iter().zip(layers).map(|(path, layer)| (path.as_str(), layer.as_slice())));
    tar(&files)
}

fn exported(store: &Store, names: &[&str], format: Format) -> (Vec<u8>, Vec<Exported>) {
    let wanted: Vec<_> = names.iter().map(|name| Wanted::find(store, name).unwrap()).collect();
    let mut bytes = Vec::new();
    let exported = export(store, &wanted, format, &mut bytes).unwrap();
    (bytes, exported)
}

fn files(store: &Store, id: &Digest) -> Vec<Vec<u8>> {
    let layers = store.hold(id).unwrap().layers();
    layers.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn image_that_comes_back_has_the_same_layers_byte_for_byte() {
    let (_kept, first) = store();
    let layers = [tar(&[("base", b"base")]), everything()];
    let image = &import_stream(&first, &*archive("x:1", &layers)).unwrap()[0];
    for format in [Format::Oci, Format::Docker] {
        let (bytes, told) = exported(&first, &["x:1"], format);
        assert!(exported(&first, &["x:1"], format).0 == bytes, "it is the same each time");
        let (_kept, second) = store();
        let back = &import_stream(&second, &*bytes).unwrap()[0];
        assert_eq!((&back.id, &back.tags), (&told[0].id, &image.tags));
        assert_eq!((&told[0].source, &back.user), (&image.id, &image.user));
        assert_ne!(back.id, image.id, "the archives of its layers are others");
        assert!(files(&second, &back.id) == files(&first, &image.id), "an EROFS file differs");
        let (again, told) = exported(&second, &["x:1"], format);
        assert!(again == bytes, "from now on nothing changes");
        assert_eq!(told[0].source, told[0].id);
    }
}

#[test]
fn what_was_replaced_within_a_layer_is_left_behind() {
    let (_kept, first) = store();
    let mut layer = Layer(Vec::new());
    layer.file(b"a", &[1; 50_000]).file(b"b", b"b").file(b"a", b"new");
    layer.0.resize(layer.0.len() + 1024, 0);
    import_stream(&first, &*archive("x:1", &[layer.0])).unwrap();
    let (bytes, told) = exported(&first, &["x:1"], Format::Oci);
    let (_kept, second) = store();
    let back = &import_stream(&second, &*bytes).unwrap()[0];
    assert!(back.layers[0].size < 50_000);
    assert_eq!(
        exported(&second, &["x:1"], Format::Oci),
        (bytes, vec![Exported { source: back.id.clone(), ..told[0].clone() }])
    );
}

#[test]
fn images_share_layers_and_are_called_as_they_were_asked_for() {
    let (_kept, first) = store();
    let shared = tar(&[("shared", b"s")]);
    let own = tar(&[("own", b"o")]);
    import_stream(&first, &*archive("x:1", std::slice::from_ref(&shared))).unwrap();
    let other = &import_stream(&first, &*archive("registry.test/y:2", &[shared, own])).unwrap()[0];
    let by_id = other.id.hex()[..12].to_owned();
    let (bytes, told) = exported(&first, &["x:1", "registry.test/y:2", &by_id], Format::Docker);
    let names: Vec<Vec<_>> =
        told.iter().map(|one| one.names.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(names, [vec!["docker.io/library/x:1"], vec!["registry.test/y:2"], vec![]]);
    assert_eq!(told[1].id, told[2].id);
    let blobs = bytes.windows(13).filter(|window| *window == b"blobs/sha256/" as &[u8]).count();
    assert!(blobs > 7);
    let (_kept, second) = store();
    let back = import_stream(&second, &*bytes).unwrap();
    let ids: Vec<_> = back.iter().map(|image| image.id.clone()).collect();
    assert!(told.iter().all(|one| ids.contains(&one.id)), "{ids:?}");
    assert_eq!(second.usage().inodes, 2, "the shared layer came once");
}

/// Docker before version 25 reads `manifest.json` alone.
#[test]
fn archive_of_docker_is_whole_without_its_index() {
    let (_kept, first) = store();
    import_stream(&first, &*archive("x:1", &[everything()])).unwrap();
    let (bytes, told) = exported(&first, &["x:1"], Format::Docker);
    let spoilt = bytes.windows(10).position(|window| window == b"index.json").unwrap();
    let mut old = bytes;
    let header = &mut old[spoilt..spoilt + 512];
    header[..1].copy_from_slice(b"o");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (_kept, second) = store();
    let back = &import_stream(&second, &*old).unwrap()[0];
    assert_eq!(back.id, told[0].id);
    assert_eq!(back.tags[0].to_string(), "docker.io/library/x:1");
}

#[test]
fn damaged_layer_is_named() {
    let (_kept, first) = store();
    let image = import_stream(&first, &*archive("x:1", &[everything()])).unwrap().remove(0);
    let path = first.layer_path(&image.layers[0].diff_id);
    std::fs::write(&path, b"no layer").unwrap();
    let wanted = [Wanted::find(&first, "x:1").unwrap()];
    let error = export(&first, &wanted, Format::Oci, Cursor::new(Vec::new())).unwrap_err();
    assert!(error.to_string().contains(image.layers[0].diff_id.as_str()), "{error}");
    assert!(Wanted::find(&first, "y:1").is_err());
}

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn reader_that_goes_ends_the_export() {
    let (_kept, first) = store();
    import_stream(&first, &*archive("x:1", &[everything()])).unwrap();
    let wanted = [Wanted::find(&first, "x:1").unwrap()];
    let error = export(&first, &wanted, Format::Oci, Closed).unwrap_err();
    assert!(matches!(error, ExportError::Write(_)), "{error:?}");
}
