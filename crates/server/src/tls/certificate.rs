//! A certificate and its key.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

/// A certificate with its chain, and its private key.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The first text has no certificate.
    #[error("there is no certificate in it: give the chain in PEM, the server's own certificate first")]
    NoCertificate,
    /// The first text is damaged.
    #[error("the certificate cannot be read: {0}")]
    BadCertificate(String),
    /// The second text has no private key.
    #[error("there is no private key in it: give one in PEM (RSA, ECDSA or Ed25519) that has no passphrase")]
    NoKey,
    /// The second text is damaged, or a key of a kind that TLS does not have.
    #[error(
        "the private key cannot be used: give an RSA, ECDSA or Ed25519 key in PEM that has no passphrase"
    )]
    BadKey,
    /// The two do not belong together.
    #[error(
        "the private key is not that of the certificate: give the key with which it was asked for, and the server's own certificate first in the chain"
    )]
    Mismatch,
}

impl Certificate {
    /// From a chain, the server's own certificate first, and a private key without a passphrase, both in PEM (RFC 7468).
    ///
    /// # Errors
    /// [`CertificateError`] says what to give instead. It never holds a part of the key.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| CertificateError::BadCertificate(error.to_string()))?;
        let Some(own) = chain.first() else { return Err(CertificateError::NoCertificate) };
        ParsedCertificate::try_from(own)
            .map_err(|error| CertificateError::BadCertificate(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => CertificateError::NoKey,
            _ => CertificateError::BadKey,
        })?;
        match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
            Ok(certified) => Ok(Self(Arc::new(certified))),
            Err(Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch),
            Err(_) => Err(CertificateError::BadKey),
        }
    }

    /// Whether it is one for the name of a host, or for its address.
    pub fn is_for(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return false };
        let Some(own) = self.0.cert.first() else { return false };
        ParsedCertificate::try_from(own).is_ok_and(|own| verify_server_name(&own, &name).is_ok())
    }

    /// When it expires. `None`: the certificate does not say it in a form that is known.
    pub fn expires(&self) -> Option<SystemTime> {
        // rustls names the date only where it refuses a certificate for it, which it looks at first. So it is asked whether the
        // certificate will do at the end of time.
        const LATE: Duration = Duration::from_secs(u64::MAX);
        let own = ParsedCertificate::try_from(self.0.cert.first()?).ok()?;
        let late = UnixTime::since_unix_epoch(LATE);
        let refusal =
            verify_server_cert_signed_by_trust_anchor(&own, &RootCertStore::empty(), &[], late, &[]).err()?;
        let Error::InvalidCertificate(rustls::CertificateError::ExpiredContext { not_after, .. }) = refusal
        else {
            return None;
        };
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
    }

    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

/// Says nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
