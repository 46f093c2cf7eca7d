//! What the handlers of requests share: one immutable value for each version of the settings. A request takes the value once
//! and uses it throughout, so it never sees two versions.

use std::{collections::HashSet, sync::Arc};

use petasos_auth::Verifier;
use petasos_hub::{Admission, Hub};
use petasos_protocol::{
    discovery::Metadata,
    token::{Grants, Role},
    topic::HubUrl,
};
use tokio::sync::Semaphore;

use crate::{
    Settings,
    http::{admission::Streams, form::Room, listing::LISTINGS_MAX, refusal::Refusal},
    metrics::requests::Requests,
};

/// A hub, one version of its settings, and the bounds that all requests share, whatever the version.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) settings: Arc<Settings>,
    pub(crate) verifier: Arc<Verifier>,
    /// Counts the open streams.
    pub(crate) streams: Arc<Streams>,
    /// Permits to read the list of subscriptions.
    pub(crate) listings: Arc<Semaphore>,
    /// Bounds the bodies of publishers.
    pub(crate) published: Arc<Room>,
    /// Bounds the bodies of QUERY requests.
    pub(crate) queried: Arc<Room>,
    pub(crate) metadata: Metadata,
    /// The path of the metadata, if it is served.
    pub(crate) metadata_path: Option<String>,
    /// What requests come to, counted.
    pub(crate) requests: Arc<Requests>,
    /// What anonymous subscribers may do, once for all of them.
    pub(crate) nothing: Arc<Grants>,
}

/// What stays when the settings change.
struct Shared {
    streams: Arc<Streams>,
    listings: Arc<Semaphore>,
    published: Arc<Room>,
    queried: Arc<Room>,
    nothing: Arc<Grants>,
    requests: Arc<Requests>,
    verifier: Arc<Verifier>,
}

/// What lets a subscriber in that has no token.
pub(crate) const ANONYMOUS: u64 = 1;

impl Context {
    pub(crate) fn new(hub: Hub, settings: Settings) -> Self {
        let (issuers, limits) = (settings.issuers.clone(), settings.limits.clone());
        let shared = Shared {
            streams: Streams::new(settings.streams),
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            published: Arc::new(Room::for_publishers()),
            queried: Arc::new(Room::for_subscribers()),
            nothing: Arc::default(),
            requests: Arc::new(Requests::new(Refusal::kinds())),
            verifier: Arc::new(Verifier::new(issuers, hub.url().clone(), limits)),
        };
        Self::assemble(hub, settings, shared)
    }

    /// The same hub with other settings, which are used by requests that begin later.
    pub(crate) fn with_settings(&self, settings: Settings) -> Self {
        // What the verifier remembers stays true while it would accept the same tokens.
        let is_same =
            settings.limits == self.settings.limits && settings.issuers.are_same(&self.settings.issuers);
        let verifier = match is_same {
            true => Arc::clone(&self.verifier),
            false => {
                let (issuers, limits) = (settings.issuers.clone(), settings.limits.clone());
                Arc::new(Verifier::new(issuers, self.hub.url().clone(), limits))
            }
        };
        let shared = Shared {
            streams: Arc::clone(&self.streams),
            listings: Arc::clone(&self.listings),
            published: Arc::clone(&self.published),
            queried: Arc::clone(&self.queried),
            nothing: Arc::clone(&self.nothing),
            requests: Arc::clone(&self.requests),
            verifier,
        };
        Self::assemble(self.hub.clone(), settings, shared)
    }

    fn assemble(hub: Hub, settings: Settings, shared: Shared) -> Self {
        let Shared { streams, listings, published, queried, nothing, requests, verifier } = shared;
        let servers = settings.issuers.trusted.iter().filter(|issuer| issuer.authorization_server);
        let metadata = Metadata {
            resource: settings.issuers.resource.clone(),
            authorization_servers: servers.map(|issuer| issuer.id.clone()).collect(),
            cookie: settings.cookie_name.clone(),
            subscriptions: hub.tracks_subscriptions(),
        };
        Self {
            verifier,
            streams,
            listings,
            published,
            queried,
            metadata,
            metadata_path: settings.advertise.then(|| Metadata::path(hub.url())),
            requests,
            nothing,
            hub,
            settings: Arc::new(settings),
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

    /// What lets subscribers in now.
    pub(crate) fn admissions(&self) -> HashSet<Admission> {
        let bases = self.verifier.issuers().bases(Role::Subscriber);
        let anonymous = self.settings.anonymous.then_some(Admission::from(ANONYMOUS));
        bases.into_iter().map(|basis| Admission::from(basis.number())).chain(anonymous).collect()
    }

    /// The URL of the metadata, if it is served.
    pub(crate) fn metadata_url(&self) -> Option<String> {
        let origin = self.public_url()?.as_url().origin().ascii_serialization();
        Some(format!("{origin}{}", self.metadata_path.as_deref()?))
    }
}
