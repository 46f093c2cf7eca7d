//! Where plain HTTP is sent on to: the hosts of this hub that have a certificate, and that of its public URL.

use petasos_server::Redirection;

use crate::{acme::Challenges, certificates::Certificates};

/// What the port of plain HTTP needs to know of the hub.
pub(crate) struct ToTls {
    pub(crate) offer: Certificates,
    /// The host of the public URL.
    pub(crate) public_host: String,
    /// The port of the public URL; `None`: 443.
    pub(crate) port: Option<u16>,
    pub(crate) challenges: Option<Challenges>,
}

impl Redirection for ToTls {
    fn is_own(&self, host: &str) -> bool {
        self.public_host == host || self.offer.is_for(host)
    }

    fn port(&self) -> Option<u16> {
        self.port
    }

    async fn authorization(&self, token: &str) -> Option<String> {
        self.challenges.as_ref()?.authorization(token).await
    }
}
