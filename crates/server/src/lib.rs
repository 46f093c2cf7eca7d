//! The HTTP side of the petasos hub: HTTP/1.1 and HTTP/2 on sockets that the caller brings or that a [`Listener`] accepts.
//!
//! This crate only translates HTTP. `petasos-protocol` decides every question of the protocol, `petasos-auth` what a token
//! allows, and `petasos-hub` does the work. [`Service`] answers requests; [`Connections`] carries them. Connections know
//! the service, and never the other way round. [`Admin`] answers operators, on a port of its own.

mod admin;
mod connection;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod metrics;
mod redirect;
mod settings;
mod tls;

pub use self::{
    admin::{
        answer::AdminAnswer,
        documents::Facts,
        port::AdminPort,
        routes::{Admin, Route},
    },
    connection::{connections::Connections, listener::Listener, permits::ConnectionPermit},
    http::{
        admission::StreamLimits,
        alternatives::AlternativeServices,
        body::{Body, RequestBody},
        cors::Origins,
        proxies::Proxies,
        service::Service,
    },
    redirect::{RedirectPort, Redirection},
    settings::{PublisherCertificate, Settings},
    tls::{
        Answer as ChallengeAnswer, Certificate, CertificateError, Challenges, ClientAuthorities, Tls,
        TlsError,
    },
};
