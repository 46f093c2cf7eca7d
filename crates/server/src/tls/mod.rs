//! TLS (RFC 8446, RFC 5246) on the sockets of a listener.
//!
//! rustls shakes hands ([`handshake`]) with one of the certificates ([`certificate`], [`offer`], [`fields`]), or answers a
//! [`challenge`]; a client may show a certificate, too ([`authorities`], [`shown`]). After that a connection is a
//! socket and its [`records`], each direction with its key ([`direction`]): read and written by the HTTP side through a [`stream`], and by the hub without one.

mod alert;
mod authorities;
mod certificate;
pub(crate) mod challenge;
mod direction;
pub(crate) mod fields;
mod handshake;
mod offer;
mod records;
mod shown;
mod stream;
mod turns;

pub use self::{
    authorities::ClientAuthorities,
    certificate::{Certificate, CertificateError},
    challenge::{Answer, Challenges},
    offer::{Tls, TlsError},
};
pub(crate) use self::{
    handshake::{Shaken, shake},
    shown::ShownCertificate,
    stream::TlsStream,
};
