//! How much room a pull needs: on a disk that may be full, and in memory.

use std::path::PathBuf;

use super::*;
use crate::digest::{Algorithm, Hasher};
use crate::store::tests::full::disk;

#[tokio::test]
async fn pull_to_a_disk_that_is_full_anywhere_says_so_and_leaves_nothing() {
    let layers = [Layer::of("tar+gzip", 1), Layer::of("tar+zstd", 2)];
    let server = serving(Content::default().image("a", &layers)).await;
    let toml = format!("server = \"{}\"", server.url());
    // With so many pages a store opens; two layers of 200 kB come beside it.
    let (mut failed, mut pages) = (0, 272);
    loop {
        let (_disk, path) = disk(pages);
        let node = Node::at(&path, tempfile::tempdir().unwrap(), &toml, patience());
        let files = |folder: &str| walk(&path.join(folder));
        match node.pull("a").await {
            Ok(image) => {
                assert_eq!((image.layers.len(), files("layers"), files("staging")), (2, 2, 0));
                break;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("pulling image registry.test/some/image:a: "), "{text}");
                assert!(error.cause.is_full() && !error.is_unavailable(), "{text}");
                node.quiet().await;
                // What came is of no use, and nobody else has room.
                until(|| files("layers") + files("staging") == 0).await;
                assert_eq!(node.store.view().images().count(), 0);
                failed += 1;
            }
        }
        pages += 3;
    }
    assert!(failed > 20, "the disk was full {failed} times only");
}

/// In the environment of the process whose memory is measured: the directory of its store.
const DIRECTORY: &str = "CUDDY_TEST_PULL";

/// Its layer's content: a mebibyte, so many times.
const TIMES: usize = 384;

/// What a process may have resident, in KiB: that of the daemon is a few MiB before.
const MOST: u64 = 64 << 10;

/// The most that this process has had resident, in KiB (proc_pid_status(5)).
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The archive of one large file: its header, what follows so many times, its end.
fn large() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut piece = vec![0; 1 << 20];
    let mut noise = crate::tests::Noise::new(5);
    piece.fill_with(|| u8::try_from(noise.below(256)).unwrap());
    let mut entry = tar_core::builder::EntryBuilder::new_gnu();
    entry.path(b"large").entry_type(tar_core::EntryType::Regular).mode(0o644).unwrap();
    entry.size((piece.len() * TIMES) as u64).unwrap();
    (entry.finish_bytes(), piece, vec![0; 1024])
}

#[tokio::test]
#[ignore = "the process that the test below measures"]
async fn large_layer() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let (start, piece, end) = large();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&start);
    (0..TIMES).for_each(|_| hasher.update(&piece));
    hasher.update(&end);
    let (digest, size) = (hasher.finish(), start.len() + piece.len() * TIMES + end.len());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size,
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut content = Content::default();
    content.objects.insert("a".to_owned(), manifest);
    content.objects.insert(Digest::of(&config).to_string(), config);
    let blob = digest.to_string();
    let server = Server::start(move |request| match object(request) == blob {
        true => Answer::ok(&start).repeat(&piece, TIMES).send(&end),
        false => content.answer(request),
    })
    .await;
    let toml = format!("server = \"{}\"", server.url());
    let node = Node::at(&directory, tempfile::tempdir().unwrap(), &toml, patience());
    let image = node.pull("a").await.unwrap();
    assert!(image.size > (TIMES as u64) << 20);
    println!("resident {} kB", most_resident());
}

/// Nothing grows with a layer's size: a daemon that has 64 MiB brings one of many GiB.
#[test]
fn layer_larger_than_the_memory_goes_through_it() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull::tests::room::large_layer", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let told = said.lines().find_map(|line| line.split_once("resident ")).unwrap().1;
    let resident: u64 = told.trim_end_matches(" kB").parse().unwrap();
    assert!(resident < MOST, "{resident} KiB for a layer of {TIMES} MiB");
}
