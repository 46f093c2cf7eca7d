//! What the hub offers to clients of TLS: versions, ciphers, and the certificate that fits.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{self, Ticketer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    authorities::ClientAuthorities,
    certificate::Certificate,
    challenge::{Answers, Challenges},
    turns::Turns,
};

/// TLS 1.2 and 1.3 with some certificates, as rustls recommends: AEAD ciphers and forward secrecy only, no renegotiation, no
/// compression, no early data. A client that comes back resumes its session by a ticket, whose key lasts some hours. Clones
/// share everything.
#[derive(Clone)]
pub struct Tls {
    /// Replaced when the authorities for clients are.
    configs: Arc<RwLock<Configs>>,
    certificates: Arc<Certificates>,
    answers: Answers,
    turns: Arc<Turns>,
}

/// With HTTP/2, and without.
#[derive(Clone)]
struct Configs {
    both: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
    authorities: Option<ClientAuthorities>,
}

/// The certificates, which may be replaced.
struct Certificates(RwLock<Arc<[Certificate]>>);

/// What clients may speak over it (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";
pub(super) const HTTP_2: &[u8] = b"h2";

impl Tls {
    /// With these certificates. A client that names no host, or one that none of them is for, gets the first one.
    ///
    /// # Errors
    /// If the list is empty, or the system gives no random bytes.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, TlsError> {
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Self::waiting(certificates)
    }

    /// With these certificates, or with none yet: until there is one, clients are refused with an alert.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn waiting(certificates: Vec<Certificate>) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates(RwLock::new(certificates.into())));
        let configs = Arc::new(RwLock::new(configs(&certificates, None)?));
        Ok(Self { configs, certificates, answers: Answers::default(), turns: Arc::default() })
    }

    /// The same offer, which also answers challenges of a certification authority (TLS-ALPN-01, RFC 8737).
    #[must_use]
    pub fn with_challenges(self, challenges: Arc<dyn Challenges>) -> Self {
        Self { answers: Answers(Some(challenges)), ..self }
    }

    /// Asks clients for a certificate of these authorities from now on; `None`: for none. A client may have none, and then it is
    /// one without. One that shows a certificate of anybody else is refused. No session is resumed that began before: it may be
    /// one of a client whose authority has gone. What clients have shown on open connections counts for these authorities from now on.
    ///
    /// # Errors
    /// If the system gives no random bytes; then all stays as it was.
    pub fn set_client_authorities(&self, authorities: Option<&ClientAuthorities>) -> Result<(), TlsError> {
        let configs = configs(&self.certificates, authorities)?;
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    /// Offers other certificates from now on. Connections that are open, and sessions that are resumed, go on.
    ///
    /// # Errors
    /// If the list is empty; then the former ones stay.
    pub fn set_certificates(&self, certificates: Vec<Certificate>) -> Result<(), TlsError> {
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        *self.certificates.0.write().unwrap_or_else(PoisonError::into_inner) = certificates.into();
        Ok(())
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The authorities whose certificates clients may show now.
    pub(super) fn client_authorities(&self) -> Option<ClientAuthorities> {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).authorities.clone()
    }

    /// `http2`: whether HTTP/2 is offered.
    pub(super) fn config(&self, http2: bool) -> Arc<ServerConfig> {
        let configs = self.configs.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(if http2 { &configs.both } else { &configs.http1 })
    }
}

fn configs(
    certificates: &Arc<Certificates>,
    authorities: Option<&ClientAuthorities>,
) -> Result<Configs, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Resources)?;
    let config = match authorities {
        Some(authorities) => config.with_client_cert_verifier(authorities.verifier()),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(Arc::clone(certificates) as _);
    config.ticketer = Ticketer::new().map_err(|_| TlsError::Resources)?;
    // A connection keeps its keys and not rustls: see `records`.
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    let http1 = Arc::new(config.clone());
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    Ok(Configs { both: Arc::new(config), http1, authorities: authorities.cloned() })
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The list of certificates is empty.
    #[error("TLS needs a certificate")]
    NoCertificate,
    /// Keys cannot be made.
    #[error("the system gives no random bytes")]
    Resources,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let fitting = hello.server_name().and_then(|name| all.iter().find(|each| each.is_for(name)));
        fitting.or(all.first()).map(Certificate::key)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
