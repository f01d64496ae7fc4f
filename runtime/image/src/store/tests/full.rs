//! A disk without room. The disks are mounts that nobody else sees; mounting needs root, as the
//! daemon does.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::{Removed, Sample, Store, StoreError, check_files};

const PAGE: usize = 4096;

/// A disk of so many pages.
pub(crate) fn disk(pages: usize) -> (OwnedFd, PathBuf) {
    let disk = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(&disk, "size", (pages * PAGE).to_string()).unwrap();
    fsconfig_create(&disk).unwrap();
    let mount = fsmount(&disk, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/store", mount.as_raw_fd()));
    (mount, path)
}

fn samples() -> Vec<Sample> {
    samples_of(1)
}

/// Images of one layer each beside the one that they share, so many times 12 kB.
fn samples_of(size: usize) -> Vec<Sample> {
    let layers = ["one", "two", "three", "four", "five"].map(|layer| layer.repeat(size));
    let image = |number: usize| {
        let seed = format!("{number}{}", "x".repeat(20_000));
        Sample::new(&seed, &[&layers[number], "base"])
    };
    (0..layers.len()).map(image).collect()
}

/// How many of the images came on the disk before it was full.
fn pull_until_full(store: &Store) -> Result<usize, StoreError> {
    pull_all(store, &samples())
}

fn pull_all(store: &Store, samples: &[Sample]) -> Result<usize, StoreError> {
    for (number, sample) in samples.iter().enumerate() {
        let tag = format!("image:{number}");
        if let Err(error) = sample.pull(store, &[&tag]) {
            assert!(error.is_full(), "{error:?}");
            store.collect()?;
            return Ok(number);
        }
    }
    Ok(samples.len())
}

fn check(store: &Store, images: usize) {
    for (number, sample) in samples().iter().enumerate() {
        let found =
            store.view().find(&format!("image:{number}")).ok().map(|image| image.id.clone());
        assert_eq!(found, (number < images).then(|| sample.id()));
    }
    check_files(store, &[]);
}

#[test]
fn pull_on_a_disk_that_is_full_at_any_page_leaves_what_was_there() {
    let (mut unopened, mut seen) = (0, std::collections::BTreeSet::new());
    // Between these, the store opens and has no room for an image.
    for pages in (1..64).chain(260..) {
        let (_disk, path) = disk(pages);
        let store = match Store::open(&path) {
            Ok((store, _)) => store,
            Err(error) => {
                assert!(error.is_full(), "{pages} pages: {error:?}");
                unopened += 1;
                continue;
            }
        };
        store.uses_known().unwrap();
        let images = pull_until_full(&store).unwrap();
        check(&store, images);
        drop(store);
        let (store, findings) = Store::open(&path).unwrap();
        assert_eq!(findings.broken, []);
        store.uses_known().unwrap();
        check(&store, images);
        for image in store.view().images() {
            assert_eq!(store.remove(&image.id).unwrap(), Removed::Freed);
        }
        check(&store, 0);
        seen.insert(images);
        if images == samples().len() {
            break;
        }
    }
    assert!(unopened > 0);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

/// Writes until not a byte more goes on the disk.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write(&[b'x'; PAGE]).is_ok_and(|written| written > 0) {}
}

#[test]
fn full_disk_gets_its_room_back_by_removals() {
    let (_disk, path) = disk(8192);
    let (store, _) = Store::open(&path).unwrap();
    store.uses_known().unwrap();
    assert_eq!(pull_all(&store, &samples_of(200)).unwrap(), 5);
    let filler = path.with_file_name("filler");
    fill(&filler);
    let error = Sample::new("more", &["six"]).pull(&store, &[]).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    store.collect().unwrap();
    check_files(&store, &[]);
    drop(store);

    let (store, _) = Store::open(&path).unwrap();
    store.uses_known().unwrap();
    let free = || rustix::fs::statvfs(&path).unwrap().f_bavail;
    let mut left = samples().len();
    for image in store.view().list(None) {
        fill(&path.with_file_name(format!("more filler {left}")));
        assert_eq!(free(), 0);
        assert_eq!(store.remove(&image.id).unwrap(), Removed::Freed);
        assert!(free() >= 2, "{} pages after a removal", free());
        left -= 1;
        check_files(&store, &[]);
        assert_eq!(store.view().images().len(), left);
    }
}
