//! TLS with libpq's meanings of `sslmode`.

use crate::config::{PostgresConfig, SslMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
    let inner = match checks {
        Checks::Nothing => None,
        Checks::Root | Checks::RootAndName => {
            let roots = Arc::new(roots(store, config)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(verifier.map_err(|error| failed(error.into()))?)
        }
    };
    let verifier = Arc::new(Verifier { checks, inner, provider });
    let tls = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(MakeRustlsConnect::new(tls))
}

fn roots(store: &StoreName, config: &PostgresConfig) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
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
    Ok(roots)
}

/// What of a certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    Nothing,
    Root,
    RootAndName,
}

#[derive(Debug)]
struct Verifier {
    checks: Checks,
    inner: Option<Arc<WebPkiServerVerifier>>,
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
