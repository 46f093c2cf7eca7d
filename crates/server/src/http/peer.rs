//! Who sends the requests of a connection.

use std::{net::IpAddr, sync::Arc};

use rustls::pki_types::UnixTime;

use crate::tls::ShownCertificate;

/// What a connection tells of its peer. Default: nothing, as of one that did not come over a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    /// Its address; `None`: it did not come over a network.
    pub(crate) address: Option<IpAddr>,
    /// The certificate that it has shown.
    pub(crate) certificate: Option<Arc<ShownCertificate>>,
}

impl Peer {
    /// Whether it has shown a certificate that has not expired, and that one of the hub's authorities for clients has signed.
    pub(crate) fn has_certificate(&self) -> bool {
        self.certificate.as_ref().is_some_and(|shown| shown.is_valid_at(UnixTime::now()))
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self { address: Some(address), certificate: None }
    }
}
