//! A certification authority looks whether a name leads to this hub: TLS-ALPN-01 (RFC 8737).
//!
//! The authority connects to the port of the hub and offers the protocol `acme-tls/1`, and that one alone. It gets a certificate
//! that holds the answer to its challenge, and the connection ends with the handshake. No request ever comes over it.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{Acceptor, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::certificate::Certificate;

/// What knows the answers to challenges.
pub trait Challenges: Send + Sync + 'static {
    /// The certificate that answers the challenge for a name. `None`: there is no such challenge.
    ///
    /// Every client can ask for this, with any name, so an implementation bounds how often it asks a store.
    fn certificate<'a>(&'a self, name: &'a str) -> Answer<'a>;
}

/// The answer of [`Challenges::certificate`].
pub type Answer<'a> = Pin<Box<dyn Future<Output = Option<Certificate>> + Send + 'a>>;

/// Challenges that may come, perhaps.
#[derive(Clone, Default)]
pub(super) struct Answers(pub(super) Option<Arc<dyn Challenges>>);

/// The protocol of the handshake (RFC 8737, section 4).
pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";

impl Answers {
    /// What answers the handshake that begins with these bytes, a whole record, if it is a challenge.
    pub(super) async fn find(&self, hello: &[u8]) -> Option<Arc<ServerConfig>> {
        let challenges = self.0.as_ref()?;
        let name = asked_for(hello)?;
        config(challenges.certificate(&name).await?.key())
    }
}

/// The name for which a challenge comes. `None`: these bytes begin another handshake.
pub(crate) fn asked_for(mut hello: &[u8]) -> Option<String> {
    // Only those that hold the word are read twice.
    if !hello.windows(PROTOCOL.len()).any(|part| part == PROTOCOL) {
        return None;
    }
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut hello).ok()?;
    let accepted = acceptor.accept().ok()??;
    let hello = accepted.client_hello();
    let mut protocols = hello.alpn()?;
    let is_alone = protocols.next() == Some(PROTOCOL) && protocols.next().is_none();
    hello.server_name().filter(|_| is_alone).map(str::to_lowercase)
}

fn config(key: Arc<CertifiedKey>) -> Option<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config =
        config.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)) as _);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Some(config.into())
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}
