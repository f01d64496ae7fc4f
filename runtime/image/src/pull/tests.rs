//! Pulls from servers on loopback into stores of directories of their own.

mod company;
mod room;
mod workers;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::manifest::Blob;
use crate::registry::tests::server::{Answer, Gate, Request, Server};
use crate::registry::tests::{auth, configured, patience};
use crate::tests::{gzip, tar};
use crate::worker::tests::launcher;

/// A layer as a registry has it.
#[derive(Clone)]
struct Layer {
    kind: &'static str,
    blob: Vec<u8>,
    diff_id: Digest,
}

impl Layer {
    fn new(kind: &'static str, archive: &[u8]) -> Self {
        let blob = match kind {
            "tar+gzip" => gzip(archive),
            "tar+zstd" => zstd::encode_all(archive, 1).unwrap(),
            _ => archive.to_vec(),
        };
        Self { kind, blob, diff_id: Digest::of(archive) }
    }

    /// A layer of one file, which does not compress.
    fn of(kind: &'static str, seed: u32) -> Self {
        let content = (0..50_000_u32).flat_map(|n| n.wrapping_mul(n ^ seed).to_le_bytes());
        let content: Vec<u8> = content.collect();
        Self::new(kind, &tar(&[("file", &content), (&format!("seed-{seed}"), b"")]))
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    fn wanted(&self) -> Wanted {
        let blob = Blob { digest: self.digest(), size: self.blob.len() as u64 };
        Wanted { blob, diff_id: self.diff_id.clone() }
    }
}

/// What a registry has: documents and blobs by their digests, and manifests by their tags.
#[derive(Clone, Default)]
struct Content {
    objects: BTreeMap<String, Vec<u8>>,
}

impl Content {
    fn image(mut self, tag: &str, layers: &[Layer]) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"User": tag},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let describe = |kind: &str, content: &[u8]| {
            let kind = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({
                "mediaType": kind, "digest": Digest::of(content), "size": content.len(),
            })
        };
        let config = config.to_string().into_bytes();
        let described =
            layers.iter().map(|layer| describe(&format!("layer.v1.{}", layer.kind), &layer.blob));
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": describe("config.v1+json", &config),
            "layers": described.collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        self.objects.insert(tag.to_owned(), manifest.clone());
        let blobs = layers.iter().map(|layer| layer.blob.clone());
        for content in blobs.chain([config, manifest]) {
            self.objects.insert(Digest::of(&content).to_string(), content);
        }
        self
    }

    fn answer(&self, request: &Request) -> Answer {
        let Some(content) = self.objects.get(object(request)) else { return Answer::status(404) };
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        match request.path.contains("/manifests/") {
            true => Answer::ok(content).with("content-type", manifest),
            false => Answer::ok(content).part_for(request),
        }
    }
}

/// The tag or digest that a request asks for.
fn object(request: &Request) -> &str {
    request.path.rsplit('/').next().unwrap().split('?').next().unwrap()
}

/// A node: a store, and the servers that it pulls from.
struct Node {
    puller: Puller,
    store: Store,
    directory: TempDir,
    _hosts: TempDir,
}

impl Node {
    fn new(toml: &str, patience: Patience) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        Self::at(&path, directory, toml, patience)
    }

    /// With its store at this path.
    fn at(path: &Path, directory: TempDir, toml: &str, patience: Patience) -> Self {
        let (store, _) = Store::open(path).unwrap();
        store.uses_known().unwrap();
        let (folder, hosts) = configured(toml);
        let puller = Puller::new(store.clone(), hosts, launcher()).with_patience(patience);
        Self { puller, store, directory, _hosts: folder }
    }

    fn of(server: &Server) -> Self {
        Self::new(&format!("server = \"{}\"", server.url()), patience())
    }

    async fn pull(&self, tag: &str) -> Result<Arc<Image>, PullError> {
        self.puller.pull(&reference(tag), None).await
    }

    fn spawn(
        &self,
        tag: &str,
        auth: Option<AuthConfig>,
    ) -> JoinHandle<Result<Arc<Image>, PullError>> {
        let (puller, reference) = (self.puller.clone(), reference(tag));
        tokio::spawn(async move { puller.pull(&reference, auth).await })
    }

    /// Waits until so many pulls wait for a layer.
    async fn waiting(&self, layer: &Layer, count: usize) {
        until(|| self.puller.jobs.waiting(&layer.wanted()) == count).await;
    }

    /// Waits until no thread converts a layer.
    async fn quiet(&self) {
        let all = u32::try_from(AT_A_TIME).unwrap();
        drop(self.puller.slots.acquire_many(all).await.unwrap());
    }

    fn files(&self, folder: &str) -> usize {
        walk(&self.directory.path().join(folder))
    }
}

/// Waits until something is so, which no event tells.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never was so");
}

/// How many files are below a directory.
fn walk(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

fn reference(tag: &str) -> Reference {
    format!("registry.test/some/image:{tag}").parse().unwrap()
}

/// How often a server was asked for a layer.
fn asked(server: &Server, layer: &Layer) -> usize {
    let digest = layer.digest().to_string();
    server.asked().iter().filter(|request| object(request) == digest).count()
}

async fn serving(content: Content) -> Server {
    Server::start(move |request| content.answer(request)).await
}

#[tokio::test]
async fn image_of_layers_of_all_kinds_arrives_and_stays() {
    let (first, second) = (Layer::of("tar+gzip", 1), Layer::of("tar+zstd", 2));
    let (third, empty) = (Layer::of("tar", 3), Layer::new("tar+gzip", &[0; 1024]));
    let layers = [&first, &second, &first, &empty, &third].map(Clone::clone);
    let server = serving(Content::default().image("latest", &layers)).await;
    let node = Node::of(&server);
    let image = node.pull("latest").await.unwrap();
    let found: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(found, layers.each_ref().map(|layer| layer.diff_id.clone()));
    assert_eq!(
        (image.tags.as_slice(), image.user.as_str()),
        (&[reference("latest")][..], "latest")
    );
    assert_eq!(image.digests.len(), 1);
    for layer in [&first, &second, &third, &empty] {
        assert_eq!(asked(&server, layer), 1);
        fsck(&node.store.layer_path(&layer.diff_id));
    }
    assert_eq!((node.files("layers"), node.files("staging")), (4, 0));
    let again = node.pull("latest").await.unwrap();
    assert_eq!((&again.id, &again.layers), (&image.id, &image.layers));
    assert!(layers.iter().all(|layer| asked(&server, layer) == 1));
    let by_digest = &image.digests[0];
    let again = node.puller.pull(by_digest, None).await.unwrap();
    assert_eq!((again.tags.len(), again.digests.len()), (1, 1), "a name by digest became a tag");
}

#[tokio::test]
async fn progress_of_a_pull_is_told_for_each_layer() {
    let (first, second) = (Layer::of("tar+gzip", 1), Layer::of("tar", 2));
    let content = Content::default()
        .image("a", std::slice::from_ref(&first))
        .image("b", &[first.clone(), second.clone()]);
    let server = serving(content).await;
    let node = Node::of(&server);
    node.pull("a").await.unwrap();
    let progress = Progress::default();
    assert!(progress.layers().is_empty(), "the manifest has not come");
    let pulled = node.puller.pull_watched(&reference("b"), None, &progress).await;
    pulled.unwrap();
    let size = second.blob.len() as u64;
    let told = progress.layers();
    assert_eq!((&told[0].digest, told[0].received, told[0].done), (&first.digest(), 0, true));
    assert_eq!(
        (&told[1].digest, told[1].size, told[1].received, told[1].done),
        (&second.digest(), size, size, true)
    );
    let none = Progress::default();
    node.puller.pull_watched(&reference("none"), None, &none).await.unwrap_err();
    assert!(none.layers().is_empty());
}

fn fsck(path: &Path) {
    let output = Command::new("fsck.erofs").arg(path).output().expect("fsck.erofs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn pulls_of_overlapping_images_fetch_each_blob_once() {
    let layers: Vec<_> = (0..12).map(|seed| Layer::of("tar+gzip", seed)).collect();
    let content = Content::default().image("a", &layers[..8]).image("b", &layers[4..]);
    let server = serving(content).await;
    let node = Node::of(&server);
    let (a, b, c, d) = tokio::join!(node.pull("a"), node.pull("b"), node.pull("a"), node.pull("b"));
    assert_eq!(
        (a.unwrap().id.clone(), b.unwrap().id.clone()),
        (c.unwrap().id.clone(), d.unwrap().id.clone())
    );
    assert!(layers.iter().all(|layer| asked(&server, layer) == 1));
    assert_eq!((node.files("layers"), node.files("staging")), (12, 0));
}

#[tokio::test]
async fn first_of_two_pulls_goes_and_the_second_succeeds() {
    let layer = Layer::of("tar+gzip", 1);
    let content = Content::default()
        .image("a", std::slice::from_ref(&layer))
        .image("b", std::slice::from_ref(&layer));
    let gate = Gate::default();
    let (held, slow, half) = (gate.clone(), layer.clone(), layer.blob.len() / 2);
    let server = Server::start(move |request| {
        let (start, end) = slow.blob.split_at(half);
        match object(request) == slow.digest().as_str() {
            true => Answer::ok(start).wait(&held).send(end),
            false => content.answer(request),
        }
    })
    .await;
    let node = Node::of(&server);
    let first = node.spawn("a", None);
    gate.reached().await;
    let second = node.spawn("b", None);
    node.waiting(&layer, 2).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open();
    let image = second.await.unwrap().unwrap();
    assert_eq!(image.user, "b");
    assert_eq!(asked(&server, &layer), 1);
    fsck(&node.store.layer_path(&layer.diff_id));
}

#[tokio::test]
async fn pull_that_goes_in_the_middle_leaves_nothing() {
    let layers = [Layer::of("tar+gzip", 1), Layer::of("tar+zstd", 2)];
    let content = Content::default().image("a", &layers);
    let gate = Gate::default();
    let (held, cut) = (gate.clone(), layers.clone());
    let server = Server::start(move |request| {
        match cut.iter().find(|layer| object(request) == layer.digest().as_str()) {
            Some(layer) => Answer::ok(&layer.blob[..layer.blob.len() / 2])
                .length(layer.blob.len())
                .wait(&held)
                .hang(),
            None => content.answer(request),
        }
    })
    .await;
    let node = Node::of(&server);
    let pull = node.spawn("a", None);
    until(|| node.files("staging") == 2).await;
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    node.quiet().await;
    assert_eq!((node.files("layers"), node.files("staging")), (0, 0));
    assert_eq!(node.puller.jobs.waiting(&layers[0].wanted()), 0);
    assert_eq!(node.store.view().images().count(), 0);
}

#[tokio::test]
async fn follower_with_credentials_succeeds_where_the_leader_had_none() {
    let (layer, blocked) = (Layer::of("tar+gzip", 1), Gate::default());
    let content = Content::default()
        .image("a", std::slice::from_ref(&layer))
        .image("b", std::slice::from_ref(&layer));
    let (held, secret) = (blocked.clone(), layer.digest());
    let server = Server::start(move |request| {
        // Whoever has no password can read manifests, and no layer.
        let refused =
            object(request) == secret.as_str() && request.header("authorization").is_empty();
        match refused {
            true if request.path.contains("/a/") => Answer::status(403).wait_before(&held),
            true => Answer::status(401).with("www-authenticate", "Basic realm=\"r\""),
            false => content.answer(request),
        }
    })
    .await;
    let node = Node::of(&server);
    let name = |repository: &str, tag: &str| -> Reference {
        format!("registry.test/{repository}/image:{tag}").parse().unwrap()
    };
    let (puller, leader) = (node.puller.clone(), name("a", "a"));
    let leader = tokio::spawn(async move { puller.pull(&leader, None).await });
    blocked.reached().await;
    let followers = ["a", "b", "b"].map(|tag| {
        let (puller, follower) = (node.puller.clone(), name("b", tag));
        tokio::spawn(async move { puller.pull(&follower, Some(auth())).await })
    });
    node.waiting(&layer, 4).await;
    blocked.open();
    let error = leader.await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("pulling image registry.test/a/image:a: "), "{error}");
    assert!(!error.is_unavailable(), "{error}");
    for follower in followers {
        follower.await.unwrap().unwrap();
    }
    let own = server.asked();
    let own = own.iter().filter(|asked| asked.path.contains("/b/image/blobs/"));
    let given = own.filter(|asked| {
        object(asked) == layer.digest().as_str() && !asked.header("authorization").is_empty()
    });
    assert_eq!(given.count(), 1, "one of the followers brings the layer for all");
}

#[tokio::test]
async fn archive_of_another_digest_is_not_kept() {
    let good = Layer::of("tar+gzip", 1);
    let bad = Layer { diff_id: Digest::of(b"another archive"), ..Layer::of("tar+gzip", 2) };
    let server = serving(Content::default().image("a", &[good, bad.clone()])).await;
    let node = Node::of(&server);
    let error = node.pull("a").await.unwrap_err();
    let text = error.to_string();
    let expected = format!("pulling image registry.test/some/image:a: layer {}: ", bad.digest());
    assert!(text.starts_with(&expected) && text.contains("hashes to"), "{text}");
    assert_eq!(text.matches("hashes to").count(), 1, "{text}");
    node.quiet().await;
    assert_eq!(node.store.view().images().count(), 0);
    assert_eq!(node.files("staging"), 0);
    assert!(!node.store.layer_path(&bad.diff_id).exists());
    assert_eq!(asked(&server, &bad), 1, "the same content again is of no use");
}

#[tokio::test]
async fn content_of_another_digest_is_asked_for_once_more() {
    let layer = Layer::of("tar+gzip", 1);
    let content = Content::default().image("a", std::slice::from_ref(&layer));
    let mut wrong = content.clone();
    let other = Layer::of("tar+gzip", 7).blob;
    let same_size = other.iter().copied().cycle().take(layer.blob.len()).collect();
    wrong.objects.insert(layer.digest().to_string(), same_size);
    let (bad, good) = (serving(wrong).await, serving(content).await);
    let node = Node::of(&bad);
    let error = node.pull("a").await.unwrap_err();
    assert!(error.to_string().contains("hashes to"), "{error}");
    node.quiet().await;
    assert_eq!((node.files("layers"), node.files("staging")), (0, 0));
    assert_eq!(asked(&bad, &layer), 2);
    let toml = format!("server = \"{}\"\n[host.\"{}\"]\n", good.url(), bad.url());
    let node = Node::new(&toml, patience());
    node.pull("a").await.unwrap();
    assert_eq!((asked(&bad, &layer), asked(&good, &layer)), (3, 1));
    fsck(&node.store.layer_path(&layer.diff_id));
}

#[tokio::test]
async fn layer_that_breaks_again_and_again_arrives_whole() {
    let layer = Layer::of("tar", 1);
    let content = Content::default().image("a", std::slice::from_ref(&layer));
    let digest = layer.digest();
    let server = Server::start(move |request| {
        let answer = content.answer(request);
        let is_layer = object(request) == digest.as_str();
        // Pieces that end everywhere in blocks of tar.
        if is_layer { answer.cut_after(13_337) } else { answer }
    })
    .await;
    let toml = format!("server = \"{}\"", server.url());
    let node = Node::new(&toml, Patience { progress: 1 << 12, ..patience() });
    node.pull("a").await.unwrap();
    assert_eq!(asked(&server, &layer), layer.blob.len().div_ceil(13_337));
    fsck(&node.store.layer_path(&layer.diff_id));
}
