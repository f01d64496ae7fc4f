//! TLS, and servers without it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority, which has signed a certificate for 127.0.0.1.
struct Authority {
    certificate: Certificate,
    server: (Certificate, KeyPair),
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let server =
            CertificateParams::new(names).unwrap().signed_by(&server_key, &issuer).unwrap();
        Self { certificate, server: (server, server_key) }
    }

    /// The settings of a server. `client`: it wants a certificate of the same authority.
    fn config(&self, client: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if client {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = &self.server;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }

    async fn server(&self, client: bool) -> Server {
        let sample = Sample::new();
        Server::start_tls(self.config(client), move |request| sample.answer(request)).await
    }

    /// Writes `ca.crt`, `client.cert`, `client.key` and, of the last two, `both.pem`.
    fn write(&self, folder: &Path) {
        let (certificate, key) = (self.server.0.pem(), self.server.1.serialize_pem());
        std::fs::write(folder.join("ca.crt"), self.certificate.pem()).unwrap();
        std::fs::write(folder.join("client.cert"), &certificate).unwrap();
        std::fs::write(folder.join("client.key"), &key).unwrap();
        std::fs::write(folder.join("both.pem"), certificate + &key).unwrap();
    }
}

async fn pull(folder: &Path, reference: &str) -> Result<Image, RegistryError> {
    let hosts = Hosts::new(folder.to_str().unwrap());
    let reference = reference.parse().unwrap();
    let registry = Registry::open(reference, &hosts, password(), patience()).await?;
    registry.image(&Platform::guest()).await
}

/// A pull with the authority's files, by a `hosts.toml` that says so of the server.
async fn pull_by(
    authority: &Authority,
    server: &Server,
    says: &str,
) -> Result<Image, RegistryError> {
    let (folder, _) = configured(&format!("server = \"{}\"\n{says}", server.url()));
    authority.write(&folder.path().join("_default"));
    pull(folder.path(), "registry.test/some/image").await
}

#[tokio::test]
async fn a_server_is_believed_by_the_authorities_of_its_file() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server(false).await;
    pull_by(&authority, &server, "ca = \"ca.crt\"").await.unwrap();
    pull_by(&authority, &server, "ca = [\"ca.crt\"]").await.unwrap();
    pull_by(&other, &server, "skip_verify = true").await.unwrap();
    let asked = server.asked().len();
    let error = pull_by(&other, &server, "ca = \"ca.crt\"").await.unwrap_err();
    let text = told(&error);
    assert!(text.contains("its certificate is not accepted: invalid peer certificate"), "{text}");
    assert_eq!((error.class(), server.asked().len()), (Class::Invalid, asked));
    for (says, expected) in [
        ("ca = \"both.pem2\"", "_default/both.pem2: No such file"),
        ("ca = \"client.key\"", "_default/client.key has no certificate in PEM"),
        ("ca = \"ca.crt\"\nclient = \"ca.crt\"", "_default/ca.crt has no private key in PEM"),
        ("ca = \"ca.crt\"\nclient = [[\"ca.crt\", \"client.key\"]]", "_default/ca.crt and its key"),
    ] {
        let text = told(&pull_by(&authority, &server, says).await.unwrap_err());
        assert!(text.contains(expected) && !text.contains("BEGIN"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_wants_the_clients_certificate_gets_it() {
    let authority = Authority::new();
    let server = authority.server(true).await;
    for client in ["\"both.pem\"", "[[\"client.cert\", \"client.key\"]]"] {
        let says = format!("ca = \"ca.crt\"\nclient = {client}");
        pull_by(&authority, &server, &says).await.unwrap();
    }
    assert!(pull_by(&authority, &server, "ca = \"ca.crt\"").await.is_err());
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn certificates_count_without_a_file_as_docker_lays_them_out() {
    let authority = Authority::new();
    let server = authority.server(true).await;
    let folder = tempfile::tempdir().unwrap();
    let port = server.address().replace(':', "_");
    let own = folder.path().join(format!("{port}_"));
    std::fs::create_dir(&own).unwrap();
    authority.write(&own);
    let image = format!("{}/some/image", server.address());
    pull(folder.path(), &image).await.unwrap();
    assert!(server.paths().iter().all(|path| !path.contains("ns=")));
}

#[tokio::test]
async fn a_registry_on_this_host_needs_neither_tls_nor_a_proof() {
    let sample = Sample::new();
    let plain = Server::start(move |request| sample.answer(request)).await;
    let tls = Authority::new().server(false).await;
    let nothing = tempfile::tempdir().unwrap();
    for server in [&plain, &tls] {
        pull(nothing.path(), &format!("{}/some/image", server.address())).await.unwrap();
        assert_eq!(server.asked().len(), 3);
    }
    let name = plain.address().replace("127.0.0.1", "localhost");
    pull(nothing.path(), &format!("{name}/some/image")).await.unwrap();
}

#[tokio::test]
async fn nothing_leaves_tls() {
    let sample = Sample::new();
    let clear = Server::start(move |request| sample.answer(request)).await;
    let target = clear.url();
    let authority = Authority::new();
    let server = Server::start_tls(authority.config(false), move |request| {
        let path = request.path.split('?').next().unwrap();
        Answer::status(302).with("location", &format!("{target}{path}"))
    });
    let error = pull_by(&authority, &server.await, "ca = \"ca.crt\"").await.unwrap_err();
    assert!(told(&error).ends_with("its redirect is not followed: it leads out of TLS"), "{error}");
    let realm = format!("Bearer realm=\"{}/token\"", clear.url());
    let server = Server::start_tls(authority.config(false), move |_| {
        Answer::status(401).with("www-authenticate", &realm)
    });
    let error = pull_by(&authority, &server.await, "ca = \"ca.crt\"").await.unwrap_err();
    assert!(told(&error).contains("where anybody could read"), "{error}");
    assert!(clear.asked().is_empty());
    // A server that is said to speak TLS is not spoken to without.
    let says = format!("server = \"{}\"", clear.url().replace("http:", "https:"));
    let registry = by(&says, password(), patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert!(told(&error).contains("it can't be reached"), "{error}");
    assert!(clear.asked().is_empty());
}

/// Serves the sample by HTTP/2 on a connection.
async fn http2(stream: TcpStream, tls: TlsAcceptor) {
    let sample = Sample::new();
    let stream = tls.accept(stream).await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let request = Request { method, path, headers: Default::default(), body: String::new() };
        let answer = sample.answer(&request);
        let (status, headers, body) = answer.parts();
        let head = http::Response::builder().status(status);
        let head = headers.iter().fold(head, |head, (name, value)| head.header(name, value));
        let mut body_of = respond.send_response(head.body(()).unwrap(), false).unwrap();
        body_of.send_data(body.into(), true).unwrap();
    }
}

#[tokio::test]
async fn many_requests_share_a_connection_of_http_2() {
    let authority = Authority::new();
    let mut config = authority.config(false);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(http2(stream, tls.clone()));
        }
    });
    let (folder, hosts) = configured(&format!("server = \"{url}\"\nca = \"ca.crt\""));
    authority.write(&folder.path().join("_default"));
    let reference = "registry.test/some/image".parse().unwrap();
    let registry = Registry::open(reference, &hosts, Login::Nobody, patience()).await.unwrap();
    let image = registry.image(&Platform::guest()).await.unwrap();
    let blob = &image.manifest.layers[0].blob;
    // One that nobody reads on does not hold up the others.
    let mut left = registry.blob(blob);
    left.next().await.unwrap().unwrap();
    let all = futures::future::join_all((0..8).map(|_| drain(registry.blob(blob)))).await;
    assert!(all.iter().all(|(bytes, error)| error.is_none() && bytes == &Sample::new().layer));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Set in the process that the next test starts, which is for that test only.
const WITHOUT_AUTHORITIES: &str = "CUDDY_TEST_WITHOUT_AUTHORITIES";

#[test]
fn host_without_authorities_pulls_where_no_tls_is_spoken() {
    if std::env::var_os(WITHOUT_AUTHORITIES).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(pull_without_authorities());
    }
    let own = std::env::current_exe().unwrap();
    let name = module_path!().split_once("::").unwrap().1.to_owned()
        + "::host_without_authorities_pulls_where_no_tls_is_spoken";
    let mut child = std::process::Command::new(own);
    child.args(["--exact", &name]).env(WITHOUT_AUTHORITIES, "yes");
    child.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn pull_without_authorities() {
    let sample = Sample::new();
    let server = Server::start(move |request| sample.answer(request)).await;
    let registry = from(&server, Login::Nobody, patience()).await;
    registry.image(&Platform::guest()).await.unwrap();
    let toml = format!("server = \"https://{}\"", server.address());
    let registry = by(&toml, Login::Nobody, patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert!(told(&error).contains("install the package ca-certificates"), "{error}");
}
