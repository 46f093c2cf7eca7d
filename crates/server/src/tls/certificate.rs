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

use super::fields;

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

    /// One that answers a challenge of a certification authority: it has an extension that nobody else knows (RFC 8737, section 3).
    /// The key is that of the certificate. Both are in PEM.
    ///
    /// # Errors
    /// As [`Certificate::parse`], but for [`CertificateError::Mismatch`].
    pub fn for_challenge(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let own = CertificateDer::from_pem_slice(certificate)
            .map_err(|error| CertificateError::BadCertificate(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| CertificateError::BadKey)?;
        Ok(Self(Arc::new(CertifiedKey::new(vec![own], key))))
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
        // certificate will do at the end of time, and whether it did at the beginning.
        match self.refused_at(u64::MAX)? {
            rustls::CertificateError::ExpiredContext { not_after, .. } => system_time(not_after),
            _ => None,
        }
    }

    /// When it begins to count. `None`: the certificate does not say it in a form that is known.
    pub fn begins(&self) -> Option<SystemTime> {
        match self.refused_at(0)? {
            rustls::CertificateError::NotValidYetContext { not_before, .. } => system_time(not_before),
            _ => None,
        }
    }

    /// The first name of a host that it is for. `None`: it is for addresses only, or does not say it in a form that is known.
    pub fn name(&self) -> Option<&str> {
        fields::name(self.0.cert.first()?)
    }

    /// What an authority for certificates knows it by (RFC 9773, section 4.1): the identifier of the authority's key, and the serial
    /// number, each as its bytes in DER.
    pub fn issued_as(&self) -> Option<(&[u8], &[u8])> {
        let own = self.0.cert.first()?;
        Some((fields::authority_key(own)?, fields::serial(own)?))
    }

    /// Why it would not do at some second since 1970.
    fn refused_at(&self, second: u64) -> Option<rustls::CertificateError> {
        let own = ParsedCertificate::try_from(self.0.cert.first()?).ok()?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(second));
        match verify_server_cert_signed_by_trust_anchor(&own, &RootCertStore::empty(), &[], time, &[]) {
            Err(Error::InvalidCertificate(error)) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

fn system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// Says nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
