//! A registry on loopback with two small images, and one that is not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use image::digest::Digest;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The registry, until its drop.
pub(crate) struct Registry {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ended) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (content, told) = (content(), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let clients = listener.incoming().map_while(Result::ok);
            // A client that goes is its own affair.
            let all = clients.take_while(|_| !told.load(Ordering::SeqCst));
            all.for_each(|stream| drop(serve(&stream, &content)));
        });
        Self { address, ended, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address).unwrap());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// By tag or digest: images, each with a layer of its own.
fn content() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (tag, length) in [("latest", 1024), ("volume", 2048), ("large", 16 << 20)] {
        // An archive without an entry.
        let layer = vec![0; length];
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let describe = |kind: &str, content: &[u8]| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": Digest::of(content), "size": content.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "config": describe("config.v1+json", &config),
            "layers": [describe("layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        all.insert(tag.to_owned(), manifest.clone());
        all.extend([layer, config, manifest].map(|bytes| (Digest::of(&bytes).to_string(), bytes)));
    }
    all
}

/// Answers one request.
fn serve(mut stream: &TcpStream, content: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let kind = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
    let found = content.get(path.rsplit('/').next().unwrap_or_default());
    let (status, body) = found.map_or((404, &[][..]), |body| (200, body.as_slice()));
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    stream.shutdown(Shutdown::Both)
}
