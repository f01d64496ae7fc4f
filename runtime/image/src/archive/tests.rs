//! Archives as tools make them, and as nobody should.

use std::io::Read;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tar_core::EntryType;
use tempfile::TempDir;

use super::*;
use crate::tests::{gzip, tar, tar_of};

const REGULAR: EntryType = EntryType::Regular;

/// A layer of one file.
fn layer(seed: &str) -> Vec<u8> {
    tar(&[(seed, seed.repeat(5000).as_bytes())])
}

fn config(seed: &str, architecture: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"User": seed});
    json!({"architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs})
        .to_string()
        .into_bytes()
}

/// Files by their names, as an archive has them.
#[derive(Default, Clone)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn put(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.push((path.into(), content.into()));
    }

    /// Adds a blob; its descriptor.
    fn blob(&mut self, kind: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        self.put(format!("blobs/sha256/{}", digest.hex()), content);
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": digest, "size": content.len()})
    }

    /// Adds an image of a layout; the descriptor of its manifest.
    fn image(&mut self, seed: &str, architecture: &str) -> Value {
        let layers = [layer("shared"), layer(seed)];
        let config = self.blob("config.v1+json", &config(seed, architecture, &layers));
        let first = self.blob("layer.v1.tar+gzip", &gzip(&layers[0]));
        let second = self.blob("layer.v1.tar", &layers[1]);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [first, second]});
        self.blob("manifest.v1+json", manifest.to_string().as_bytes())
    }

    fn index(&mut self, manifests: &[Value]) {
        self.put("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.put("index.json", index.to_string());
    }

    fn tar(&self) -> Vec<u8> {
        let files = self.0.iter().map(|(path, content)| (path.as_str(), content.as_slice()));
        tar(&files.collect::<Vec<_>>())
    }

    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in &self.0 {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }
}

fn named(mut descriptor: Value, key: &str, name: &str) -> Value {
    descriptor["annotations"] = json!({key: name});
    descriptor
}

fn for_platform(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path()).unwrap();
    store.uses_known().unwrap();
    (directory, store)
}

/// What an archive's images are called, and who runs them, once it is imported as a stream.
fn imported(archive: &[u8]) -> Result<Vec<(Vec<String>, String)>, ArchiveError> {
    let (directory, store) = store();
    let images = import_stream(&store, Pieces(archive))?;
    let staging = std::fs::read_dir(directory.path().join("staging")).unwrap();
    assert_eq!(staging.count(), 0);
    for layer in images.iter().flat_map(|image| &image.layers) {
        assert!(store.layer_path(&layer.diff_id).exists());
    }
    let shown = images.iter().map(|image| {
        let tags = image.tags.iter().map(ToString::to_string).collect();
        (tags, image.user.clone())
    });
    Ok(shown.collect())
}

/// A pipe gives what it has.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let some = buffer.len().min(700);
        self.0.read(&mut buffer[..some])
    }
}

fn one(tag: &str, user: &str) -> (Vec<String>, String) {
    (vec![tag.to_owned()], user.to_owned())
}

/// The whole text of an error.
fn told(error: &ArchiveError) -> String {
    crate::text::chain(error)
}

fn layout() -> Files {
    let mut files = Files::default();
    let (a, b) = (files.image("a", "amd64"), files.image("b", "amd64"));
    let (foreign, own) = (files.image("arm", "arm64"), files.image("own", "amd64"));
    let platforms = [for_platform(foreign, "arm64"), for_platform(own, "amd64")];
    let index = json!({"schemaVersion": 2, "manifests": platforms});
    let index = files.blob("index.v1+json", index.to_string().as_bytes());
    files.index(&[
        named(a, NAME, "docker.io/library/a:1"),
        named(b, "org.opencontainers.image.ref.name", "registry.test/b:2"),
        named(index, NAME, "registry.test/c:3"),
    ]);
    files
}

const NAME: &str = "io.containerd.image.name";

fn expected() -> Vec<(Vec<String>, String)> {
    vec![
        one("docker.io/library/a:1", "a"),
        one("registry.test/b:2", "b"),
        one("registry.test/c:3", "own"),
    ]
}

#[test]
fn layout_arrives_as_stream_file_and_directory() {
    let files = layout();
    let archive = files.tar();
    assert_eq!(imported(&archive).unwrap(), expected());
    assert_eq!(imported(&gzip(&archive)).unwrap(), expected());
    assert_eq!(imported(&zstd::encode_all(&archive[..], 1).unwrap()).unwrap(), expected());
    let folder = files.write();
    let file = folder.path().join("archive");
    for bytes in [gzip(&archive), archive] {
        std::fs::write(&file, bytes).unwrap();
        let (_directory, store) = store();
        assert_eq!(import_path(&store, &file).unwrap().len(), 3);
    }
    let (_directory, store) = store();
    let images = import_path(&store, folder.path()).unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!(images[0].digests.len(), 1, "the manifest has a name as well");
    assert_eq!(images[0].layers[0], images[2].layers[0]);
}

#[test]
fn image_that_has_no_name_is_known_by_its_id() {
    let mut files = Files::default();
    let (a, b) = (files.image("a", "amd64"), files.image("b", "amd64"));
    files.index(&[a, named(b, "org.opencontainers.image.ref.name", "latest")]);
    let found = imported(&files.tar()).unwrap();
    assert_eq!(found, [(vec![], "a".to_owned()), (vec![], "b".to_owned())]);
}

#[test]
fn archives_of_docker_of_all_ages_arrive() {
    let layers = [layer("shared"), layer("x")];
    let config = config("x", "amd64", &layers);
    let id = Digest::of(&config).hex().to_owned();
    let manifest = |paths: [&str; 2]| {
        let tags = ["x:1", "registry.test/x:2"];
        json!([{"Config": format!("{id}.json"), "RepoTags": tags, "Layers": paths}]).to_string()
    };
    let text = manifest(["1/layer.tar", "2/layer.tar"]);
    let tags = ["docker.io/library/x:1", "registry.test/x:2"].map(ToOwned::to_owned).to_vec();
    let expected = [(tags, "x".to_owned())];
    let config_path = format!("{id}.json");
    // A layer that an older image had is a link to it.
    let archive = tar_of(&[
        (EntryType::Directory, "./", "", b""),
        (REGULAR, "0/layer.tar", "", &layers[0]),
        (EntryType::Symlink, "./1/layer.tar", "../0/layer.tar", b""),
        (REGULAR, "2/layer.tar", "", &gzip(&layers[1])),
        (REGULAR, &config_path, "", &config),
        (REGULAR, "manifest.json", "", text.as_bytes()),
    ]);
    assert_eq!(imported(&archive).unwrap(), expected);
    let archive = tar_of(&[
        (REGULAR, "2/layer.tar", "", &zstd::encode_all(&layers[1][..], 1).unwrap()),
        (REGULAR, "0/layer.tar", "", &gzip(&layers[0])),
        (EntryType::Link, "1/layer.tar", "0/layer.tar", b""),
        (REGULAR, "manifest.json", "", text.as_bytes()),
        (REGULAR, &config_path, "", &config),
    ]);
    assert_eq!(imported(&archive).unwrap(), expected);
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused() {
    let whole = layout();
    for at in 0..whole.0.len() {
        let mut files = whole.clone();
        let (path, content) = &mut files.0[at];
        if !path.starts_with("blobs/") || path == "oci-layout" {
            continue;
        }
        let last = content.len() - 1;
        content[last] ^= 1;
        let path = path.clone();
        // Those for another platform are not read.
        match imported(&files.tar()) {
            Err(error) => assert!(told(&error).contains("hashes to"), "{path}: {}", told(&error)),
            Ok(found) => assert_eq!(found, expected(), "{path}"),
        }
    }
}

#[test]
fn archive_that_lacks_something_says_what() {
    let mut files = Files::default();
    let image = files.image("a", "arm64");
    let tell = |archive: &[u8]| told(&imported(archive).unwrap_err());
    assert_eq!(
        tell(&files.tar()),
        "the archive has no image: it has neither index.json nor manifest.json"
    );
    files.index(&[named(image.clone(), NAME, "a:1")]);
    let text = tell(&files.tar());
    assert!(
        text.contains("image docker.io/library/a:1: there is no image for linux/amd64"),
        "{text}"
    );
    let mut files = Files::default();
    files.index(&[image]);
    assert!(tell(&files.tar()).contains("the archive has no file"));
    let archive = layout().tar();
    let text = tell(&archive[..archive.len() / 2]);
    assert!(text.starts_with("the archive is not valid at byte"), "{text}");
    let text = tell(b"no archive at all");
    assert!(text.starts_with("the archive is not valid at byte 0"), "{text}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for path in ["../index.json", "/index.json", "a/../../b"] {
        let error = imported(&tar(&[(path, b"x")])).unwrap_err();
        assert!(matches!(error, ArchiveError::Tar { .. }), "{path}: {error:?}");
    }
    for (kind, target) in [
        (EntryType::Symlink, "/etc/passwd"),
        (EntryType::Symlink, "../../etc/passwd"),
        (EntryType::Link, "../x"),
    ] {
        let archive = tar_of(&[(kind, "a/index.json", target, b"")]);
        let error = imported(&archive).unwrap_err();
        assert!(told(&error).contains("a link leads out of the archive"), "{error:?}");
    }
    let circle = tar_of(&[
        (EntryType::Symlink, "index.json", "manifest.json", b""),
        (EntryType::Symlink, "manifest.json", "index.json", b""),
    ]);
    assert!(matches!(imported(&circle), Err(ArchiveError::NoImage)));
}

#[test]
fn links_of_a_directory_are_not_followed() {
    let files = layout();
    let (folder, elsewhere) = (files.write(), tempfile::tempdir().unwrap());
    let (index, moved) = (folder.path().join("index.json"), elsewhere.path().join("index.json"));
    std::fs::rename(&index, &moved).unwrap();
    symlink(&moved, &index).unwrap();
    let (_directory, store) = store();
    assert!(matches!(import_path(&store, folder.path()), Err(ArchiveError::NoImage)));
    let (blobs, elsewhere) = (folder.path().join("blobs"), elsewhere.path().join("blobs"));
    std::fs::remove_file(&index).unwrap();
    std::fs::rename(&moved, &index).unwrap();
    std::fs::rename(&blobs, &elsewhere).unwrap();
    symlink(&elsewhere, &blobs).unwrap();
    assert!(matches!(import_path(&store, folder.path()), Err(ArchiveError::Read { .. })));
}

#[test]
fn archives_beyond_the_limits_are_refused() {
    let many = vec![("a", &b""[..]); (1 << 16) + 1];
    let error = imported(&tar(&many)).unwrap_err();
    assert!(matches!(error, ArchiveError::TooMany { what: "entries", .. }), "{error:?}");
    let large = vec![b' '; (4 << 20) + 1];
    let error = imported(&tar(&[("index.json", &large)])).unwrap_err();
    assert!(matches!(error, ArchiveError::TooMany { .. }), "{error:?}");
    let mut files = Files::default();
    let image = files.image("a", "amd64");
    let names: Vec<_> =
        (0..=MAX_IMAGES).map(|n| named(image.clone(), NAME, &format!("a:{n}"))).collect();
    files.index(&names);
    let error = imported(&files.tar()).unwrap_err();
    assert!(matches!(error, ArchiveError::TooMany { what: "images", .. }), "{error:?}");
}

/// The attack: few bytes that make the decoder take gigabytes (RFC 8878, "Window Descriptor").
#[test]
fn compressed_archive_that_needs_much_memory_is_refused() {
    let of_window = |exponent: u8| {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0, (exponent - 10) << 3];
        let block = 1_u32 | 1024 << 3;
        [&head[..], &block.to_le_bytes()[..3], &[0; 1024]].concat()
    };
    let text = |exponent| told(&imported(&of_window(exponent)).unwrap_err());
    assert!(text(27).starts_with("the archive has no image"), "{}", text(27));
    for exponent in [28, 31, 41] {
        assert!(text(exponent).contains("memory"), "{}", text(exponent));
    }
}
