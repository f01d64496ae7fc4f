//! How a server proves who it is: the system's authorities, those of `hosts.toml`, and the
//! client's own certificates. Files are read when a pull needs them, so new ones count at once.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::hosts::{ClientCertificate, Tls};

/// Most bytes of a file of certificates.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file or a certificate that can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("reading {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has no {what} in PEM that can be used")]
    Pem { path: PathBuf, what: &'static str },
    #[error("the certificate {path} and its key: {source}")]
    Client { path: PathBuf, source: rustls::Error },
    #[error("this host has no certificates of authorities: install the package ca-certificates")]
    NoAuthorities,
    #[error("preparing TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// The system's authorities, which are read when the first server needs them.
#[derive(Debug, Default)]
pub(super) struct Authorities(OnceCell<RootCertStore>);

impl Authorities {
    fn store(&self) -> RootCertStore {
        let read = || {
            let mut store = RootCertStore::empty();
            // As everywhere, one of the system's that can't be read is left out.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store
        };
        self.0.get_or_init(read).clone()
    }
}

/// The settings of a connection to a server, which `needs` to be believed or may speak no TLS at
/// all. Reads files.
pub(super) fn config(
    tls: &Tls,
    system: &Authorities,
    needs: bool,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = if tls.skip_verify {
        let any = Arc::new(AnyServer(provider.clone()));
        builder?.dangerous().with_custom_certificate_verifier(any)
    } else {
        builder?.with_root_certificates(authorities(&tls.ca, system, needs)?)
    };
    let clients = tls.client.iter().map(|client| certified(client, &provider));
    let clients = Clients(clients.collect::<Result<_, _>>()?);
    let mut config = builder.with_client_cert_resolver(Arc::new(clients));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The system's authorities, and those of files beside them.
fn authorities(
    files: &[PathBuf],
    system: &Authorities,
    needs: bool,
) -> Result<RootCertStore, TlsError> {
    let mut store = system.store();
    for path in files {
        let (good, _) = store.add_parsable_certificates(certificates(path)?);
        if good == 0 {
            return Err(TlsError::Pem { path: path.clone(), what: "certificate" });
        }
    }
    if needs && store.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(store) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.map_err(|_| TlsError::Pem { path: path.to_owned(), what: "certificate" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn certified(
    client: &ClientCertificate,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&client.certificate)?;
    let path = client.key.as_ref().unwrap_or(&client.certificate);
    let key = PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Pem { path: path.clone(), what: "private key" })?;
    let certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| TlsError::Client { path: client.certificate.clone(), source })?;
    Ok(Arc::new(certified))
}

/// The client's certificates, of which the first one is shown that the server can check.
#[derive(Debug)]
struct Clients(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Clients {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let can = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(schemes).is_some();
        self.0.iter().find(can).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Believes any certificate, for `skip_verify`. That the server has its key is checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
