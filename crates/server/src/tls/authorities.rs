//! The authorities whose certificates clients may show.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::certificate::CertificateError;

/// The authorities that sign the certificates of clients (RFC 8446, section 4.3.2).
#[derive(Clone)]
pub struct ClientAuthorities(Arc<dyn ClientCertVerifier>);

impl ClientAuthorities {
    /// From the certificates of authorities, in PEM (RFC 7468). Bound: whoever gives the text.
    ///
    /// # Errors
    /// [`CertificateError::NoCertificate`] and [`CertificateError::BadCertificate`].
    ///
    /// # Examples
    /// ```
    /// use petasos_server::{CertificateError, ClientAuthorities};
    ///
    /// let nothing = ClientAuthorities::parse(b"");
    /// assert!(matches!(nothing, Err(CertificateError::NoCertificate)));
    /// ```
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateError> {
        let bad = |error: &dyn fmt::Display| CertificateError::BadCertificate(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Browsers read streams without a certificate on the same port.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| bad(&error))?;
        Ok(Self(verifier))
    }

    /// Whether both come from the same call of [`parse`](Self::parse).
    pub(super) fn are_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthorities").finish_non_exhaustive()
    }
}
