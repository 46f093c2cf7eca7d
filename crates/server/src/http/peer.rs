//! Who sends the requests of a connection.

use std::net::IpAddr;

/// What a connection tells of its peer. Default: nothing, as of one that did not come over a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address; `None`: it did not come over a network.
    pub(crate) address: Option<IpAddr>,
    /// Whether it has shown a certificate that one of the hub's authorities for clients has signed.
    pub(crate) has_certificate: bool,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self { address: Some(address), has_certificate: false }
    }
}
