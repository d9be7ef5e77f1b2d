//! TLS with libpq's meanings of `sslmode`.

use crate::config::{ClientCertificate, PostgresConfig, SslMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, OtherError, RootCertStore,
    SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

pub(super) fn connector(store: &StoreName, config: &PostgresConfig) -> Result<MakeRustlsConnect> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::new(StoreErrorKind::Internal, store, "cannot prepare TLS").caused_by(error)
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| failed(error.into()))?;
    let checks = match config.ssl_mode {
        // libpq: with a root certificate at hand, `require` is `verify-ca`.
        SslMode::Require if config.ssl_root_cert.is_some() => Checks::Root,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Checks::Nothing,
        SslMode::VerifyCa => Checks::Root,
        SslMode::VerifyFull => Checks::RootAndName,
    };
    let (inner, given) = match checks {
        Checks::Nothing => (None, Vec::new()),
        Checks::Root | Checks::RootAndName => {
            let (roots, given) = roots(store, config)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
            (Some(verifier.build().map_err(|error| failed(error.into()))?), given)
        }
    };
    let verifier = Arc::new(Verifier { checks, inner, given, provider: Arc::clone(&provider) });
    let tls = builder.dangerous().with_custom_certificate_verifier(verifier);
    let tls = match &config.client_certificate {
        None => tls.with_no_client_auth(),
        Some(ours) => {
            tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own(store, ours, &provider)?)))
        }
    };
    Ok(MakeRustlsConnect::new(tls))
}

/// What the client shows of itself, and its key. Whether the certificate is one that it takes the server says.
fn own(store: &StoreName, ours: &ClientCertificate, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let (certificate, key) = (&ours.certificate, &ours.key);
    let unusable = |name: &str, path: &Path, error: Box<dyn std::error::Error + Send + Sync>| {
        let what = format!("cannot read `{name}` {}", path.display());
        let error = StoreError::new(StoreErrorKind::Mismatch, store, what).caused_by(error);
        error.with_hint(
            "`sslcert` is a PEM file of certificates, `sslkey` one of a private key that is not encrypted",
        )
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| unusable("sslcert", certificate, error.into()))?;
    let read = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("sslkey", key, error.into()))?;
    let signing = provider.key_provider.load_private_key(read);
    let certified = CertifiedKey::new(chain, signing.map_err(|error| unusable("sslkey", key, error.into()))?);
    match certified.keys_match() {
        Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let (certificate, key) = (certificate.display(), key.display());
            let what = format!("`sslcert` {certificate} and `sslkey` {key} do not belong together");
            let error = StoreError::new(StoreErrorKind::Mismatch, store, what).caused_by(error);
            Err(error.with_hint("`sslkey` is the private key that the certificate of `sslcert` was made for"))
        }
        _ => Ok(certified),
    }
}

/// The roots, and those of them that the user named.
fn roots(
    store: &StoreName,
    config: &PostgresConfig,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
    let mut roots = RootCertStore::empty();
    let mut given = Vec::new();
    let unusable = |context: String| {
        let error = StoreError::new(StoreErrorKind::Mismatch, store, context);
        error.with_hint(
            "`sslrootcert` is a PEM file of root certificates; without it the machine's own roots are used",
        )
    };
    match &config.ssl_root_cert {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
            let certificates = certificates.map_err(|error| {
                unusable(format!("cannot read `sslrootcert` {}", path.display())).caused_by(error)
            })?;
            given.clone_from(&certificates);
            roots.add_parsable_certificates(certificates);
            if roots.is_empty() {
                return Err(unusable(format!("`sslrootcert` {} holds no certificate", path.display())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(unusable(
                    "this machine has no root certificates to check the server's with".to_owned(),
                ));
            }
        }
    }
    Ok((roots, given))
}

/// What of a certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    Nothing,
    Root,
    RootAndName,
}

/// Whether it is this that a certificate is refused for.
fn signs_others(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[derive(Debug)]
struct Verifier {
    checks: Checks,
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of `sslrootcert`.
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The root has been found good by the time the name is looked at.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.checks == Checks::Root => Ok(ServerCertVerified::assertion()),
            // A certificate that is its own root, as most who make their own have it: that it is one that signs others
            // makes it no worse, once the user has named it. Its dates have been found good by then.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
                if signs_others(&error) && self.given.iter().any(|given| given == end_entity) =>
            {
                if self.checks == Checks::RootAndName {
                    let certificate = ParsedCertificate::try_from(end_entity)?;
                    verify_server_name(&certificate, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
