//! Workers as they are: this test program in their role.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::words::{Job, Told};
use super::*;
use crate::archive;
use crate::digest::Digest;
use crate::export::{self, Format, Wanted};
use crate::load::{self, LoadError};
use crate::parents;
use crate::store::{Image, Store};
use crate::tests::tar;
use crate::{implied, save};

/// How tests start workers.
pub(crate) fn launcher() -> Launcher {
    let role = ["--exact", "worker::tests::role", "--ignored", "--nocapture", "--test-threads=1"];
    Launcher::new("/proc/self/exe".into(), role.map(OsString::from).into())
}

#[test]
#[ignore = "the process that other tests start"]
fn role() {
    let _code = run();
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path()).unwrap();
    store.uses_known().unwrap();
    (directory, store)
}

/// What `docker save` makes of an image of two layers.
fn docker() -> Vec<u8> {
    let layers = [tar(&[("etc/base", b"base")]), tar(&[("etc/more", &[7; 9000])])];
    let diff_ids = layers.each_ref().map(|layer| Digest::of(layer));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"User": "me"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let manifest = serde_json::json!([
        {"Config": "c", "RepoTags": ["x:1"], "Layers": ["0.tar", "1.tar"]}
    ]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    tar(&[
        ("c", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
        ("0.tar", &layers[0]),
        ("1.tar", &layers[1]),
    ])
}

/// Loads what a client sends, who may leave before the end.
async fn load(store: &Store, archive: &[u8]) -> Result<Vec<Arc<Image>>, LoadError> {
    let (mut client, stream) = UnixStream::pair().unwrap();
    let bytes = archive.to_vec();
    let sent = std::thread::spawn(move || client.write_all(&bytes));
    let loaded = load::load(store, &launcher(), stream.as_fd()).await;
    drop(stream);
    // One that is refused is not read to its end.
    let _ = sent.join().unwrap();
    loaded
}

fn left(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("staging")).unwrap().count()
}

#[tokio::test]
async fn image_that_is_loaded_and_saved_by_workers_is_the_same_as_here() {
    let (here, own) = store();
    let expected = archive::import_stream(&own, &*docker()).unwrap();
    let (directory, store) = store();
    let images = load(&store, &docker()).await.unwrap();
    assert_eq!((&images[0].id, &images[0].tags), (&expected[0].id, &expected[0].tags));
    for layer in &images[0].layers {
        let of = |store: &Store| std::fs::read(store.layer_path(&layer.diff_id)).unwrap();
        assert!(of(&store) == of(&own), "the same layer, byte for byte");
    }
    for format in [Format::Oci, Format::Docker] {
        let wanted = [Wanted::find(&store, "x:1").unwrap()];
        let mut plain = Vec::new();
        let told = export::export(&store, &wanted, format, &mut plain).unwrap();
        let (out, mut client) = UnixStream::pair().unwrap();
        let taken = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).map(|_| bytes)
        });
        let saved = save::save(&store, &launcher(), (&wanted, format), out.as_fd()).await;
        drop(out);
        assert_eq!(saved.unwrap(), told);
        assert!(taken.join().unwrap().unwrap() == plain, "the same archive");
    }
    assert_eq!((left(directory.path()), left(here.path())), (0, 0));
}

#[tokio::test]
async fn archive_that_can_not_be_used_is_refused_by_name_and_leaves_nothing() {
    let (directory, store) = store();
    let whole = docker();
    let mut wrong = whole.clone();
    let at = wrong.windows(4).position(|window| window == b"base").unwrap();
    wrong[at + 512] ^= 1;
    let gzip = crate::tests::gzip(&whole);
    for (archive, reason) in [
        (&whole[..whole.len() / 2], "ends within"),
        (&b"no archive"[..], "not valid"),
        (&wrong, "layer \"0.tar\""),
        (&gzip[..gzip.len() / 2], "reading"),
    ] {
        let error = load(&store, archive).await.unwrap_err();
        let text = crate::text::chain(&error);
        assert!(
            matches!(error, LoadError::Archive(_)) && text.contains(reason),
            "{reason}: {text}"
        );
        assert_eq!((left(directory.path()), store.view().images().count()), (0, 0));
    }
    load(&store, &gzip).await.unwrap();
}

#[tokio::test]
async fn client_that_takes_no_more_of_an_archive_ends_it() {
    let (_directory, store) = store();
    load(&store, &docker()).await.unwrap();
    let wanted = [Wanted::find(&store, "x:1").unwrap()];
    let (out, client) = UnixStream::pair().unwrap();
    drop(client);
    let saved = save::save(&store, &launcher(), (&wanted, Format::Oci), out.as_fd()).await;
    assert!(matches!(saved, Err(save::SaveError::Gone(_))), "{saved:?}");
}

#[tokio::test]
async fn implied_directories_are_those_that_are_found_here() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let directory = tar_core::EntryType::Directory;
    let lower = crate::tests::tar_of(&[(directory, "tmp/", "", b"")]);
    for (name, archive) in [("0", lower), ("1", tar(&[("tmp/new", b"new")]))] {
        let (digest, size) = (Digest::of(&archive), archive.len() as u64);
        let expected = crate::layer::Expected { digest, size, diff_id: None };
        let out = File::create_new(path(name)).unwrap();
        crate::layer::convert(&*archive, &expected, out, erofs::Options::default()).unwrap();
    }
    let layers = [path("0"), path("1")];
    assert!(parents::any(&layers).unwrap() && !parents::any(&layers[..1]).unwrap());
    parents::write(&parents::find(&layers).unwrap(), File::create(path("own")).unwrap()).unwrap();
    let out = File::create_new(path("made")).unwrap();
    assert!(implied::make(&launcher(), &layers, out.as_fd()).await.unwrap());
    assert!(std::fs::read(path("made")).unwrap() == std::fs::read(path("own")).unwrap());
    std::fs::write(path("1"), b"no layer").unwrap();
    let spoilt = implied::make(&launcher(), &layers, out.as_fd()).await.unwrap_err();
    assert!(crate::text::chain(&spoilt).contains(&path("1").display().to_string()), "{spoilt}");
}

#[tokio::test]
async fn worker_that_ends_is_told_by_its_own_words_and_one_that_does_not_is_killed() {
    let starts = |program: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(OsString::from).collect();
        Launcher::new(program.into(), arguments)
    };
    let error = Worker::start(&starts("/no/such/program", &[])).unwrap_err();
    assert!(error.to_string().contains("starting the process for images"), "{error}");
    let worker = Worker::start(&starts("/bin/sh", &["-c", "echo 'out of luck' >&2; exit 3"]));
    let error = ask(&worker.unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("ended by exit status: 3: out of luck"), "{error}");
    let worker = Worker::start(&starts("/bin/sleep", &["infinity"])).unwrap();
    let pid = worker.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(worker);
    let gone = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
}

async fn ask(worker: &Arc<Worker>) -> Result<Told, WorkerError> {
    let file = File::open("/dev/null").unwrap();
    let mut call = worker.call(&Job::Parents, &[file.as_fd()]).await?;
    call.told().await.map(Result::unwrap)
}
