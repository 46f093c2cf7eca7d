//! The answers to the authority's challenges, on whichever node it asks.
//!
//! The node that orders writes the challenges down where all nodes look. Every client can ask for one, so a node looks once a second
//! at most, however often it is asked, and only for the names of the settings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use petasos_server::{Certificate, ChallengeAnswer};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use tokio::{sync::Mutex, time::timeout};

use super::shelf::{Challenge, Shelf};

/// The challenges of a hub. Clones share what was found.
#[derive(Clone)]
pub(crate) struct Challenges {
    shelf: Shelf,
    domains: Arc<[String]>,
    found: Arc<Mutex<Found>>,
}

/// What the last look has found.
#[derive(Default)]
struct Found {
    looked_at: Option<Instant>,
    challenges: Vec<Challenge>,
}

/// For so long, what was found is not looked for again.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// How long a look may take. A store that hangs has no challenge for anybody, and those who ask must not wait for it.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// Far longer than a token is.
const TOKEN_BYTES_MAX: usize = 256;

impl Challenges {
    /// Those that are written down there, for these names.
    pub(crate) fn new(shelf: Shelf, domains: &[String]) -> Self {
        Self { shelf, domains: domains.into(), found: Arc::default() }
    }

    /// What is to be answered over HTTP to a request for a token (RFC 8555, section 8.3).
    pub(crate) async fn authorization(&self, token: &str) -> Option<String> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let challenge = self.find(|challenge| challenge.token == token).await?;
        Some(challenge.authorization)
    }

    /// The node that orders knows them first.
    pub(super) async fn set(&self, challenges: Vec<Challenge>) {
        *self.found.lock().await = Found { looked_at: Some(Instant::now()), challenges };
    }

    /// Those who ask wait for each other: one looks, and the others find what it has found.
    async fn find(&self, is_wanted: impl Fn(&Challenge) -> bool) -> Option<Challenge> {
        let mut found = self.found.lock().await;
        if found.looked_at.is_none_or(|at| at.elapsed() >= FRESH) {
            let began = Instant::now();
            let error = match timeout(LOOK_MAX, self.shelf.course()).await {
                // What is written while the answer is on its way is not in it.
                Ok(Ok((course, _))) => {
                    *found = Found { looked_at: Some(began), challenges: course.challenges };
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the store does not answer".to_owned()),
            };
            if let Some(error) = error {
                tracing::debug!(error, "a challenge of ACME cannot be looked for");
                found.looked_at = Some(Instant::now());
            }
        }
        found.challenges.iter().find(|challenge| is_wanted(challenge)).cloned()
    }
}

impl petasos_server::Challenges for Challenges {
    fn certificate<'a>(&'a self, name: &'a str) -> ChallengeAnswer<'a> {
        Box::pin(async move {
            if !self.domains.iter().any(|domain| domain == name) {
                return None;
            }
            let challenge = self.find(|challenge| challenge.domain == name).await?;
            certificate(&challenge)
                .inspect_err(|error| tracing::warn!(%error, "a challenge of ACME cannot be answered"))
                .ok()
        })
    }
}

/// The certificate that answers a challenge: for its name, with the digest of the authorization (RFC 8737, section 3).
fn certificate(challenge: &Challenge) -> Result<Certificate, Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new([challenge.domain.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = digest(&SHA256, challenge.authorization.as_bytes());
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest.as_ref()));
    let key = KeyPair::generate()?;
    let own = params.self_signed(&key)?;
    Ok(Certificate::for_challenge(own.pem().as_bytes(), key.serialize_pem().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use petasos_hub::{
        TransportError,
        documents::{Document, Documents, Version},
    };
    use petasos_server::Challenges as _;

    use super::*;
    use crate::acme::{options::AcmeOptions, shelf::Course};

    /// Has one course of orders, and counts who looks at it.
    struct Counted {
        course: Course,
        looks: AtomicUsize,
    }

    #[async_trait]
    impl Documents for Counted {
        async fn load(&self, _: &str) -> Result<Option<Document>, TransportError> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let bytes = serde_json::to_vec(&self.course).expect("texts");
            Ok(Some(Document { bytes, version: Version(1) }))
        }

        async fn store(
            &self,
            _: &str,
            _: &[u8],
            _: Option<Version>,
        ) -> Result<Option<Version>, TransportError> {
            Ok(None)
        }
    }

    /// Never answers.
    struct Hung(AtomicUsize);

    #[async_trait]
    impl Documents for Hung {
        async fn load(&self, _: &str) -> Result<Option<Document>, TransportError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }

        async fn store(
            &self,
            _: &str,
            _: &[u8],
            _: Option<Version>,
        ) -> Result<Option<Version>, TransportError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn nobody_waits_long_for_a_store_that_hangs() {
        let (store, options) = (Arc::new(Hung(AtomicUsize::new(0))), AcmeOptions::default());
        let challenges = Challenges::new(Shelf::new(store.clone(), &options), &options.domains);
        let (mut asked, began) = (tokio::task::JoinSet::new(), Instant::now());
        for _ in 0..100 {
            let challenges = challenges.clone();
            asked.spawn(async move { challenges.authorization("token").await });
        }
        let answers = timeout(10 * LOOK_MAX, asked.join_all()).await.expect("all are answered");
        assert!(answers.iter().all(Option::is_none) && began.elapsed() >= LOOK_MAX);
        assert!(store.0.load(Ordering::Relaxed) <= 5, "they wait for one look together");
    }

    #[tokio::test]
    async fn a_node_looks_once_a_second_and_for_its_own_names_only() {
        let challenge = Challenge {
            domain: "a.example".to_owned(),
            token: "token".to_owned(),
            authorization: "token.thumbprint".to_owned(),
        };
        let course = Course { challenges: vec![challenge], ..Course::default() };
        let store = Arc::new(Counted { course, looks: AtomicUsize::new(0) });
        let domains = ["a.example", "b.example"].map(str::to_owned);
        let options = AcmeOptions { domains: domains.to_vec(), ..AcmeOptions::default() };
        let challenges = Challenges::new(Shelf::new(store.clone(), &options), &domains);
        assert!(challenges.certificate("c.example").await.is_none());
        assert!(challenges.authorization("").await.is_none());
        assert_eq!(store.looks.load(Ordering::Relaxed), 0, "nobody needs to be asked");
        let certificate = challenges.certificate("a.example").await.expect("a challenge");
        assert_eq!(certificate.name(), Some("a.example"));
        for number in 0..100 {
            assert!(challenges.certificate("b.example").await.is_none());
            assert!(challenges.authorization(&format!("other-{number}")).await.is_none());
        }
        assert_eq!(challenges.authorization("token").await.as_deref(), Some("token.thumbprint"));
        assert!(store.looks.load(Ordering::Relaxed) <= 5, "a slow machine takes some seconds");
    }
}
