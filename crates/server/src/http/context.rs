//! What the handlers of requests share.

use std::sync::Arc;

use petasos_auth::Verifier;
use petasos_hub::Hub;
use petasos_protocol::{discovery::Metadata, token::Grants, topic::HubUrl};
use tokio::sync::Semaphore;

use crate::{
    Settings,
    http::{admission::Streams, form::Room, listing::LISTINGS_MAX, refusal::Refusal},
    metrics::requests::Requests,
};

/// A hub, its settings, and the bounds that all requests share.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) settings: Settings,
    pub(crate) verifier: Verifier,
    /// Counts the open streams.
    pub(crate) streams: Arc<Streams>,
    /// Permits to read the list of subscriptions.
    pub(crate) listings: Arc<Semaphore>,
    /// Bounds the bodies of publishers.
    pub(crate) published: Room,
    /// Bounds the bodies of QUERY requests.
    pub(crate) queried: Room,
    pub(crate) metadata: Metadata,
    /// The path of the metadata, if it is served.
    pub(crate) metadata_path: Option<String>,
    /// What requests come to, counted.
    pub(crate) requests: Requests,
    /// What anonymous subscribers may do, once for all of them.
    pub(crate) nothing: Arc<Grants>,
}

impl Context {
    pub(crate) fn new(hub: Hub, settings: Settings) -> Self {
        let servers = settings.issuers.trusted.iter().filter(|issuer| issuer.authorization_server);
        let metadata = Metadata {
            resource: settings.issuers.resource.clone(),
            authorization_servers: servers.map(|issuer| issuer.id.clone()).collect(),
            cookie: settings.cookie_name.clone(),
            subscriptions: hub.tracks_subscriptions(),
        };
        Self {
            verifier: Verifier::new(settings.issuers.clone(), hub.url().clone(), settings.limits.clone()),
            streams: Streams::new(settings.streams),
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            published: Room::for_publishers(),
            queried: Room::for_subscribers(),
            metadata,
            metadata_path: settings.advertise.then(|| Metadata::path(hub.url())),
            requests: Requests::new(Refusal::kinds()),
            nothing: Arc::default(),
            hub,
            settings,
        }
    }

    /// The hub's URL as clients see it, if it is known.
    pub(crate) fn public_url(&self) -> Option<&HubUrl> {
        self.settings.advertise.then(|| self.hub.url())
    }

    /// Where clients find the hub: its URL, or its path if nothing else is known.
    pub(crate) fn address(&self) -> &str {
        self.public_url().map_or(self.hub.url().path(), |url| url.as_url().as_str())
    }

    /// The URL of the metadata, if it is served.
    pub(crate) fn metadata_url(&self) -> Option<String> {
        let origin = self.public_url()?.as_url().origin().ascii_serialization();
        Some(format!("{origin}{}", self.metadata_path.as_deref()?))
    }
}
