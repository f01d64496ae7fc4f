//! The store as its callers use it. Each test's store is a directory of its own.

pub(super) mod crash;
pub(crate) mod full;
mod model;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::ReadableTable;
use tempfile::TempDir;

use super::*;
use crate::manifest::{Blob, Compression, Layer, Manifest};
use crate::reference::Reference;

/// An image to pull: layers are named by their content.
pub(super) struct Sample {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Manifest,
    pub(super) layers: Vec<Vec<u8>>,
}

impl Sample {
    pub(super) fn new(seed: &str, layers: &[&str]) -> Self {
        let layers: Vec<_> = layers.iter().map(|text| text.repeat(3000).into_bytes()).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"User": "1000:50", "Labels": {"seed": seed}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let blob = |bytes: &[u8]| Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let layer = |bytes: &Vec<u8>| Layer {
            blob: Blob { size: 10, ..blob(bytes) },
            compression: Compression::Gzip,
        };
        let manifest =
            Manifest { config: blob(&config), layers: layers.iter().map(layer).collect(), size: 1 };
        Self { config, manifest, layers }
    }

    pub(super) fn id(&self) -> Digest {
        self.manifest.config.digest.clone()
    }

    pub(super) fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| Digest::of(layer)).collect()
    }

    /// What a pull does, once it has a layer's content.
    pub(super) fn fetch(&self, store: &Store, lease: &Lease) -> Result<(), StoreError> {
        for content in &self.layers {
            let diff_id = Digest::of(content);
            if lease.find(&diff_id) {
                continue;
            }
            let staged = store.stage()?;
            let path = Path::new("the staged file");
            staged.file().write_all(content).map_err(at("writing", path))?;
            lease.keep(staged, &diff_id)?;
        }
        Ok(())
    }

    pub(super) fn pull(&self, store: &Store, names: &[&str]) -> Result<Arc<Image>, StoreError> {
        let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        let lease = store.lease();
        self.fetch(store, &lease)?;
        lease.commit(&self.new_image(&names))
    }

    pub(super) fn new_image<'a>(&'a self, names: &'a [Reference]) -> NewImage<'a> {
        NewImage { config: &self.config, manifest: &self.manifest, names, pinned: false }
    }
}

pub(super) fn open(directory: &Path) -> Store {
    let (store, findings) = Store::open(directory).unwrap();
    assert_eq!(findings, Findings::default());
    store.uses_known().unwrap();
    store
}

fn new_store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    (directory, store)
}

/// The files below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

/// The files are those of the images and of `held`, all are whole, and their room is counted.
pub(super) fn check_files(store: &Store, held: &[Digest]) {
    let view = store.view();
    let mut expected: BTreeSet<_> = held.iter().map(|diff_id| store.layer_path(diff_id)).collect();
    for layer in view.images().flat_map(|image| &image.layers) {
        let path = store.layer_path(&layer.diff_id);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, layer.size);
        assert_eq!(Digest::of(&content), layer.diff_id);
        expected.insert(path);
    }
    let files = walk(&store.0.files.root().join("layers"));
    assert_eq!(files.iter().cloned().collect::<BTreeSet<_>>(), expected);
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().blocks() * 512).sum();
    let usage = store.usage();
    assert_eq!((usage.bytes, usage.inodes), (bytes, files.len() as u64));
    assert_eq!(walk(&store.0.files.root().join("staging")), Vec::<PathBuf>::new());
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn names(names: &[Reference]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

const MANIFEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn image_is_found_by_all_that_it_is_called() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one", "two", "one"]);
    let digest = format!("quay.io/a/b@{MANIFEST}");
    let image = sample.pull(&store, &["nginx", "quay.io/a/b:1", &digest]).unwrap();
    assert_eq!(image.id, sample.id());
    assert_eq!(names(&image.tags), ["docker.io/library/nginx:latest", "quay.io/a/b:1"]);
    assert_eq!(names(&image.digests), [digest.as_str()]);
    assert_eq!(image.size, (2 * 9000 + sample.config.len()) as u64);
    assert_eq!(image.layers.iter().map(|layer| layer.compressed).collect::<Vec<_>>(), [10; 3]);
    assert_eq!(
        (image.user.as_str(), image.platform.to_string().as_str()),
        ("1000:50", "linux/amd64")
    );
    assert!(image.used() >= image.created);
    assert_eq!(store.config(&image.id).unwrap(), sample.config);

    let (view, hex) = (store.view(), image.id.hex());
    let short = format!("sha256:{}", &hex[..12]);
    let with_tag = format!("quay.io/a/b:other@{MANIFEST}");
    for text in [
        "nginx",
        "docker.io/nginx:latest",
        "quay.io/a/b:1",
        &digest,
        &with_tag,
        MANIFEST,
        image.id.as_str(),
        hex,
        &hex[..4],
        &short,
    ] {
        assert_eq!(view.find(text).unwrap().id, image.id, "{text}");
        assert_eq!(view.list(Some(text)).len(), 1);
    }
    for text in ["nginx:2", "a/b:1", &hex[..3], &format!("quay.io/c@{MANIFEST}")] {
        assert!(view.find(text).unwrap_err().is_not_found(), "{text}");
    }
    assert!(matches!(view.find("UPPER").unwrap_err(), StoreError::Name(_)));
    assert_eq!(view.list(None).len(), 1);
    check_files(&store, &[]);
}

#[test]
fn short_id_of_two_images_is_refused() {
    let (_directory, store) = new_store();
    // The first of these configurations that begin with the same four digits.
    let mut seen = std::collections::BTreeMap::new();
    let (first, second) = (0..)
        .find_map(|number: u32| {
            let sample = Sample::new(&number.to_string(), &[]);
            let before = seen.insert(sample.id().hex()[..4].to_owned(), number);
            before.map(|before| (before, number))
        })
        .unwrap();
    for number in [first, second] {
        Sample::new(&number.to_string(), &[]).pull(&store, &[]).unwrap();
    }
    let id = Sample::new(&first.to_string(), &[]).id();
    let error = store.view().find(&id.hex()[..4]).unwrap_err().to_string();
    assert!(error.starts_with("2 images have ids that begin with"), "{error}");
    assert_eq!(store.view().find(&id.hex()[..20]).unwrap().id, id);
}

#[test]
fn two_manifests_of_one_configuration_are_one_image() {
    let (directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    let other = MANIFEST.replace("aaaa", "bbbb");
    sample.pull(&store, &["a:1", &format!("a@{MANIFEST}")]).unwrap();
    let image = sample.pull(&store, &["b:1", &format!("b@{other}")]).unwrap();
    assert_eq!((image.tags.len(), image.digests.len()), (2, 2));
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.view().images().len(), 1);
    assert_eq!(store.view().get(&image.id).unwrap().tags, image.tags);
}

#[test]
fn tag_that_moves_leaves_the_old_image_with_its_digest() {
    let (_directory, store) = new_store();
    let (old, new) = (Sample::new("old", &["one"]), Sample::new("new", &["one", "two"]));
    old.pull(&store, &["a", &format!("a@{MANIFEST}")]).unwrap();
    new.pull(&store, &["a"]).unwrap();
    let view = store.view();
    assert_eq!(view.find("a").unwrap().id, new.id());
    let left = view.get(&old.id()).unwrap();
    assert_eq!((left.tags.len(), left.digests.len()), (0, 1));

    assert_eq!(store.prune(Prune::Untagged).unwrap(), [old.id()]);
    check_files(&store, &[]);
    assert_eq!(store.untag(&name("a")).unwrap().tags, []);
    assert!(store.untag(&name("a")).unwrap_err().is_not_found());
    store.tag(&new.id(), &name("c")).unwrap();
    store.set_pinned(&new.id(), true).unwrap();
    assert_eq!(store.prune(Prune::Unused).unwrap(), []);
    assert!(store.view().find("c").unwrap().pinned);
    // Who names it can remove it.
    assert_eq!(store.remove(&new.id()).unwrap(), Removed::Freed);
    assert!(store.tag(&new.id(), &name("c")).unwrap_err().is_not_found());
    assert!(store.set_pinned(&new.id(), true).unwrap_err().is_not_found());
    assert_eq!(store.usage().bytes, 0);
}

#[test]
fn image_in_use_is_hidden_and_its_files_go_with_the_last_use() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one", "two"]);
    sample.pull(&store, &["a"]).unwrap();
    let (first, second) = (store.hold(&sample.id()).unwrap(), store.hold(&sample.id()).unwrap());
    assert_eq!(store.prune(Prune::Unused).unwrap(), []);
    assert_eq!(store.remove(&sample.id()).unwrap(), Removed::InUse);
    assert_eq!(store.view().images().len(), 0);
    assert!(store.view().find("a").unwrap_err().is_not_found());
    assert!(store.remove(&sample.id()).unwrap_err().is_not_found());
    assert!(store.hold(&sample.id()).unwrap_err().is_not_found());
    first.end().unwrap();
    assert!(second.layers().iter().all(|path| path.exists()));
    check_files(&store, &sample.diff_ids());
    second.end().unwrap();
    check_files(&store, &[]);
    assert_eq!(store.usage().inodes, 0);
    assert!(store.config(&sample.id()).unwrap_err().is_not_found());
}

#[test]
fn image_that_is_pulled_again_while_it_is_hidden_is_back() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    sample.pull(&store, &["a"]).unwrap();
    let hold = store.hold(&sample.id()).unwrap();
    store.remove(&sample.id()).unwrap();
    assert_eq!(names(&sample.pull(&store, &["b"]).unwrap().tags), ["docker.io/library/b:latest"]);
    hold.end().unwrap();
    check_files(&store, &[]);
    assert_eq!(store.view().images().len(), 1);
}

#[test]
fn nothing_in_use_is_deleted_before_the_uses_are_known() {
    let (directory, store) = new_store();
    let (used, left) = (Sample::new("used", &["one"]), Sample::new("left", &["two"]));
    let holds: Vec<_> = [&used, &left]
        .map(|sample| {
            sample.pull(&store, &[]).unwrap();
            let hold = store.hold(&sample.id()).unwrap();
            assert_eq!(store.remove(&sample.id()).unwrap(), Removed::InUse);
            hold
        })
        .into();
    drop((holds, store));

    let (store, findings) = Store::open(directory.path()).unwrap();
    assert_eq!(findings, Findings::default());
    let fresh = Sample::new("fresh", &["three"]);
    fresh.pull(&store, &["a"]).unwrap();
    assert_eq!(store.remove(&fresh.id()).unwrap(), Removed::InUse);
    store.collect().unwrap();
    let hold = store.hold(&used.id()).unwrap();
    check_files(&store, &[used.diff_ids(), left.diff_ids(), fresh.diff_ids()].concat());
    store.uses_known().unwrap();
    check_files(&store, &used.diff_ids());
    hold.end().unwrap();
    check_files(&store, &[]);
}

#[test]
fn layers_of_a_running_pull_are_not_taken() {
    let (_directory, store) = new_store();
    let (first, second) = (Sample::new("a", &["one", "two"]), Sample::new("b", &["one", "three"]));
    first.pull(&store, &["a"]).unwrap();
    let lease = store.lease();
    second.fetch(&store, &lease).unwrap();
    store.remove(&first.id()).unwrap();
    store.collect().unwrap();
    check_files(&store, &second.diff_ids());
    let image = lease.commit(&second.new_image(&[name("b")])).unwrap();
    drop(lease);
    store.collect().unwrap();
    assert_eq!(image.layers.len(), 2);
    check_files(&store, &[]);
}

#[test]
fn layers_of_a_pull_that_failed_stay_until_they_are_collected() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    let lease = store.lease();
    sample.fetch(&store, &lease).unwrap();
    drop((store.stage().unwrap(), lease));
    check_files(&store, &sample.diff_ids());
    let again = store.lease();
    assert!(again.find(&sample.diff_ids()[0]));
    store.collect().unwrap();
    check_files(&store, &sample.diff_ids());
    drop(again);
    store.collect().unwrap();
    check_files(&store, &[]);
}

#[test]
fn image_without_its_layers_or_beyond_its_bounds_is_refused() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    let lease = store.lease();
    let error = lease.commit(&sample.new_image(&[])).unwrap_err();
    assert!(matches!(error, StoreError::NoLayer { .. }), "{error}");
    sample.fetch(&store, &lease).unwrap();
    // Another pull's lease is no lease.
    let error = store.lease().commit(&sample.new_image(&[])).unwrap_err();
    assert!(matches!(error, StoreError::NoLayer { .. }), "{error}");

    let many: Vec<_> = (0..=MAX_NAMES).map(|number| name(&format!("a:{number}"))).collect();
    let error = lease.commit(&sample.new_image(&many)).unwrap_err();
    assert!(
        error.to_string().ends_with("would have 1025 names, and at most 1024 are kept"),
        "{error}"
    );
    lease.commit(&sample.new_image(&many[1..])).unwrap();
    store.tag(&sample.id(), &many[1]).unwrap();
    assert!(matches!(store.tag(&sample.id(), &many[0]), Err(StoreError::TooManyNames { .. })));

    let mut other = Sample::new("other", &["one"]);
    other.config = Sample::new("another", &["one"]).config;
    let error = lease.commit(&other.new_image(&[])).unwrap_err();
    assert!(matches!(error, StoreError::Configuration { .. }), "{error}");
    let mut long = Sample::new("long", &["one"]);
    let text = String::from_utf8(long.config).unwrap();
    long.config = text.replace("1000:50", &"u".repeat(1025)).into_bytes();
    long.manifest.config = Blob { digest: Digest::of(&long.config), size: 1 };
    let error = lease.commit(&long.new_image(&[])).unwrap_err();
    assert!(error.to_string().contains("user in the configuration has 1025 bytes"), "{error}");
    assert_eq!(store.view().images().len(), 1);
}

#[test]
fn second_daemon_is_told_who_has_the_store() {
    let (directory, store) = new_store();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path } if path == directory.path()), "{error}");
    // What is held keeps the store open.
    let lease = store.lease();
    drop(store);
    assert!(matches!(Store::open(directory.path()), Err(StoreError::InUse { .. })));
    drop(lease);
    open(directory.path());
}

/// Changes rows as no method does.
fn tamper(directory: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(directory.join("images.redb")).unwrap();
    let rows = database.begin_write().unwrap();
    change(&rows);
    rows.commit().unwrap();
}

#[test]
fn store_of_a_newer_version_is_left_as_it_is() {
    let (directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    sample.pull(&store, &["a"]).unwrap();
    drop(store);
    let version = |number| {
        tamper(directory.path(), |rows| {
            rows.open_table(tables::META).unwrap().insert("version", number).unwrap();
        });
    };
    version(2);
    let staged = directory.path().join("staging/7");
    std::fs::write(&staged, "of the newer one").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{text}");
    assert!(text.contains("start the newer program, or move the directory away"), "{text}");
    assert!(staged.exists());
    std::fs::remove_file(staged).unwrap();
    version(1);
    let store = open(directory.path());
    assert_eq!(store.view().find("a").unwrap().id, sample.id());
    check_files(&store, &[]);
}

#[test]
fn file_that_is_no_database_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("images.redb");
    std::fs::write(&path, "mine").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    std::fs::remove_file(&path).unwrap();
    tamper(directory.path(), |rows| {
        rows.open_table(redb::TableDefinition::<&str, &str>::new("other")).unwrap();
    });
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("it has no version"), "{error}");
}

#[test]
fn store_is_nobody_elses() {
    let (directory, store) = new_store();
    Sample::new("a", &["one"]).pull(&store, &[]).unwrap();
    assert_eq!(directory.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let layer = Sample::new("a", &["one"]).diff_ids().remove(0);
    let path = store.layer_path(&layer);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let expected = format!("layers/v2/sha256/{}/{}.erofs", &layer.hex()[..2], layer.hex());
    assert_eq!(path, directory.path().join(expected));
}

/// An image of two layers of which one is spoilt, and one that shares the other.
fn spoilt(spoil: impl FnOnce(&Path, &Path)) -> Findings {
    let (directory, store) = new_store();
    let (bad, good) = (Sample::new("bad", &["one", "two"]), Sample::new("good", &["one"]));
    bad.pull(&store, &["bad"]).unwrap();
    good.pull(&store, &["good"]).unwrap();
    let path = store.layer_path(&bad.diff_ids()[1]);
    drop(store);
    spoil(directory.path(), &path);
    let (store, findings) = Store::open(directory.path()).unwrap();
    store.uses_known().unwrap();
    assert_eq!(
        store.view().images().map(|image| image.id.clone()).collect::<Vec<_>>(),
        [good.id()]
    );
    check_files(&store, &[]);
    assert_eq!((&findings.broken[0].id, findings.broken.len()), (&bad.id(), 1));
    assert_eq!(findings.broken[0].layer, bad.diff_ids()[1]);
    bad.pull(&store, &["bad"]).unwrap();
    check_files(&store, &[]);
    findings
}

#[test]
fn image_that_lost_a_layer_is_removed_and_can_be_pulled_again() {
    let gone = spoilt(|_, path| std::fs::remove_file(path).unwrap());
    assert_eq!((gone.broken[0].problem, gone.deleted), (Problem::Gone, 0));
    let text = gone.broken[0].to_string();
    assert!(text.ends_with("has no file: pull docker.io/library/bad:latest again"), "{text}");
    let cut = spoilt(|_, path| {
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(8).unwrap();
    });
    let problem = Problem::Length { expected: 9000, found: 8 };
    assert_eq!((cut.broken[0].problem, cut.deleted), (problem, 1));
}

#[test]
fn layer_is_believed_after_another_boot_only_if_it_was_settled() {
    let another_boot = |directory: &Path| {
        tamper(directory, |rows| {
            let mut table = rows.open_table(tables::LAYERS).unwrap();
            let two = Sample::new("", &["two"]).diff_ids().remove(0);
            let row = table.get(two.as_str()).unwrap().unwrap();
            let (size, settled) = (row.value().0, row.value().1.is_empty());
            drop(row);
            let boot = if settled { "" } else { "an earlier one" };
            table.insert(two.as_str(), (size, boot)).unwrap();
        });
    };
    let findings = spoilt(|directory, _| another_boot(directory));
    assert_eq!((findings.broken[0].problem, findings.deleted), (Problem::Unsettled, 1));

    let (directory, store) = new_store();
    Sample::new("a", &["one", "two"]).pull(&store, &["a"]).unwrap();
    assert_eq!(store.settle().unwrap(), 2);
    assert_eq!(store.settle().unwrap(), 0);
    drop(store);
    another_boot(directory.path());
    check_files(&open(directory.path()), &[]);
}

#[test]
fn images_of_a_layer_that_the_disk_refuses_are_removed() {
    let (_directory, store) = new_store();
    let (bad, good) = (Sample::new("bad", &["one", "two"]), Sample::new("good", &["one"]));
    bad.pull(&store, &["bad"]).unwrap();
    good.pull(&store, &["good"]).unwrap();
    let lease = store.lease();
    bad.fetch(&store, &lease).unwrap();
    store.0.distrust(&bad.diff_ids()[1]).unwrap();
    assert_eq!(store.view().images().len(), 1);
    let error = lease.commit(&bad.new_image(&[])).unwrap_err();
    assert!(matches!(error, StoreError::NoLayer { .. }), "{error}");
    bad.pull(&store, &["bad"]).unwrap();
    lease.commit(&bad.new_image(&[])).unwrap();
    drop(lease);
    store.collect().unwrap();
    check_files(&store, &[]);
}

#[test]
fn use_is_seen_at_once_and_written_with_the_next_change() {
    let (directory, store) = new_store();
    let sample = Sample::new("a", &[]);
    let image = sample.pull(&store, &["a"]).unwrap();
    let pulled = image.used();
    let later = image::now() + 60;
    assert!(store.0.memory().hold(&image.id, later));
    assert_eq!(image.used(), image::time(later));
    store.tag(&image.id, &name("b")).unwrap();
    drop(store);
    let store = open(directory.path());
    let used = store.view().find("a").unwrap().used();
    assert!(used == image::time(later) && used > pulled);
}

#[test]
fn images_are_removed_at_once_by_many() {
    let (_directory, store) = new_store();
    let sample = Sample::new("a", &["one"]);
    sample.pull(&store, &["a"]).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(|| store.remove(&sample.id()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(
        outcomes.iter().flat_map(|o| o.as_ref().err()).filter(|e| e.is_not_found()).count(),
        4
    );
    check_files(&store, &[]);
}
