//! TLS as libpq's `sslmode` has it: what is encrypted, and which certificate is believed.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Dsn, OpenError};

/// What the parameters `sslmode`, `ca` (or `sslrootcert`), `sslcert` and `sslkey` ask for.
pub(super) fn parse(dsn: &Dsn) -> Result<(SslMode, MakeRustlsConnect), OpenError> {
    let mode = dsn.parameter("sslmode").unwrap_or("prefer");
    let ca = dsn.parameter("ca").or(dsn.parameter("sslrootcert"));
    let (ssl_mode, checks) = match (mode, ca) {
        ("disable", _) => (SslMode::Disable, Checks::Nothing),
        ("prefer", _) => (SslMode::Prefer, Checks::Nothing),
        ("require", None) => (SslMode::Require, Checks::Nothing),
        // As libpq has it: where a certificate is given, the server's is checked.
        ("require" | "verify-ca", _) => (SslMode::Require, Checks::Issuer),
        ("verify-full", _) => (SslMode::Require, Checks::IssuerAndName),
        _ => {
            return Err(OpenError::url("sslmode: write disable, prefer, require, verify-ca or verify-full"));
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::url(format!("sslmode: {error}")))?;
    let issuers = match checks {
        Checks::Nothing => None,
        Checks::Issuer | Checks::IssuerAndName => Some(Issuers::read(ca)?),
    };
    let verifier = Verifier { issuers, has_name: matches!(checks, Checks::IssuerAndName), provider };
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match dsn.identity("sslcert", "sslkey")? {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("sslcert", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, &error))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| OpenError::url(format!("sslcert and sslkey: {error}")))?
        }
    };
    Ok((ssl_mode, MakeRustlsConnect::new(config)))
}

enum Checks {
    Nothing,
    Issuer,
    IssuerAndName,
}

/// Whose certificates are believed.
#[derive(Debug)]
struct Issuers {
    roots: RootCertStore,
    /// What the operator gave, which may be the server's own certificate.
    given: Vec<CertificateDer<'static>>,
}

impl Issuers {
    /// The certificates of a file; without one, or for `system`, those of the system.
    fn read(ca: Option<&str>) -> Result<Self, OpenError> {
        let (mut roots, mut given) = (RootCertStore::empty(), Vec::new());
        match ca {
            None | Some("system") => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(path) => {
                given = certificates("ca", path)?;
                for certificate in &given {
                    roots.add(certificate.clone()).map_err(|error| unreadable("ca", path, &error))?;
                }
            }
        }
        match roots.is_empty() {
            false => Ok(Self { roots, given }),
            true => {
                Err(OpenError::url("ca: name a file with the certificate of the server's issuer, in PEM"))
            }
        }
    }
}

fn certificates(parameter: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| unreadable(parameter, path, &error))
}

fn unreadable(parameter: &str, path: &str, error: &dyn std::error::Error) -> OpenError {
    OpenError::url(format!("{parameter}: \"{path}\" cannot be used: {error}"))
}

/// Believes a certificate if its issuer is known, or any; and if it has the server's name, or any.
#[derive(Debug)]
struct Verifier {
    issuers: Option<Issuers>,
    has_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Issuers { roots, given }) = &self.issuers else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // What openssl makes by default is its own issuer and says so, which is no certificate of a server elsewhere.
        if !given.contains(end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        if self.has_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
