//! The JWK Set of an authorization server: fetched when a token needs it, and kept (RFC 7517; found by RFC 8414).
//!
//! A set is fetched again when it is old, and at once when a token names a key that it lacks, as after a rotation. The
//! header of a token can say anything, so how often the server is asked depends on the clock alone: [`PACE`].

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use url::{Host, Url};

use crate::{Algorithm, Key, KeyError, key_set::KeySet};

/// The keys of a JWK Set that is somewhere else. Clones share them.
#[derive(Clone)]
pub struct RemoteKeys(Arc<Remote>);

struct Remote {
    source: Source,
    algorithms: Vec<Algorithm>,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    pace: Pace,
    state: watch::Sender<State>,
}

/// Where the set is.
enum Source {
    At(Url),
    /// Where the metadata of this issuer says.
    OfIssuer {
        id: String,
        url: Url,
    },
}

struct State {
    keys: Option<Arc<KeySet>>,
    /// When the keys were fetched.
    fetched_at: Instant,
    /// Before this, the server is not asked again.
    next_attempt: Instant,
    fetching: bool,
    failures: u32,
    problem: Option<FetchError>,
}

/// How often the server is asked, and how long it may take.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two fetches, whatever tokens ask for.
    interval_min: Duration,
    /// The age at which keys are fetched again while they are used.
    refresh_after: Duration,
    /// The age from which a token waits for that; if it fails, the old keys are used.
    wait_after: Duration,
    /// After a failure, doubled with each further one.
    back_off: Duration,
    back_off_max: Duration,
    /// For a fetch, whatever its steps.
    timeout: Duration,
}

const PACE: Pace = Pace {
    interval_min: Duration::from_secs(30),
    refresh_after: Duration::from_secs(300),
    wait_after: Duration::from_secs(900),
    back_off: Duration::from_secs(1),
    back_off_max: Duration::from_secs(60),
    timeout: Duration::from_secs(5),
};

/// A set of a hundred RSA keys with certificates is smaller.
const BYTES_MAX: usize = 512 * 1024;

/// Why an address cannot be one of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteKeysError {
    /// No absolute URL.
    #[error("this is no absolute URL: write one such as https://auth.example/jwks.json")]
    Url,
    /// Whoever is on the way could exchange the keys.
    #[error("keys are fetched over https only (over http from this machine): write an https URL")]
    Insecure,
    /// A password in a URL is shown in logs.
    #[error("the URL holds a user or a password: leave it out")]
    UserInfo,
    /// Signatures cannot be verified with secrets that a server hands out.
    #[error("a fetched set holds public keys only: leave the HS… algorithms out")]
    Algorithms,
    /// Without them no server can be trusted.
    #[error(
        "this system's root certificates cannot be read ({0}): install them, or name them with SSL_CERT_FILE"
    )]
    Roots(String),
}

/// Why there are no new keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody answers there, or nobody who can be trusted.
    #[error("{0}")]
    Unreachable(String),
    /// The answer took too long.
    #[error("no answer in time")]
    Timeout,
    /// The answer is no success; redirections are not followed.
    #[error("the answer's status is {0}, not 200")]
    Status(u16),
    /// The answer is larger than any set of keys.
    #[error("the answer is larger than {BYTES_MAX} bytes")]
    TooLarge,
    /// The answer holds no keys.
    #[error("{0}")]
    Set(KeyError),
    /// The answer is no metadata of that issuer.
    #[error(
        "the metadata is none of this issuer: it must be JSON with this issuer and a jwks_uri (RFC 8414)"
    )]
    Metadata,
    /// The metadata leads to an address that keys are not fetched from.
    #[error("the jwks_uri of the metadata: {0}")]
    Address(RemoteKeysError),
}

impl RemoteKeys {
    /// The set at a URL. Nothing is fetched yet.
    ///
    /// # Errors
    /// [`RemoteKeysError`].
    ///
    /// ```
    /// use petasos_auth::{RemoteKeys, RemoteKeysError};
    /// let refused = RemoteKeys::at("http://auth.example/jwks.json", &[]).expect_err("plain text");
    /// assert_eq!(refused, RemoteKeysError::Insecure);
    /// ```
    pub fn at(url: &str, algorithms: &[Algorithm]) -> Result<Self, RemoteKeysError> {
        Self::new(Source::At(address(url)?), algorithms)
    }

    /// The set that the metadata of an authorization server names (RFC 8414; where that is absent, OpenID Connect
    /// Discovery 1.0). Nothing is fetched yet.
    ///
    /// # Errors
    /// [`RemoteKeysError`].
    pub fn of_issuer(id: &str, algorithms: &[Algorithm]) -> Result<Self, RemoteKeysError> {
        Self::new(Source::OfIssuer { id: id.to_owned(), url: address(id)? }, algorithms)
    }

    fn new(source: Source, algorithms: &[Algorithm]) -> Result<Self, RemoteKeysError> {
        if algorithms.iter().any(|each| each.is_symmetric()) {
            return Err(RemoteKeysError::Algorithms);
        }
        let now = Instant::now();
        let state = State {
            keys: None,
            fetched_at: now,
            next_attempt: now,
            fetching: false,
            failures: 0,
            problem: None,
        };
        Ok(Self(Arc::new(Remote {
            client: client(source.url().scheme() == "https")?,
            source,
            algorithms: algorithms.to_vec(),
            pace: PACE,
            state: watch::Sender::new(state),
        })))
    }

    /// The keys that are here, however old; `None` if none have come yet, or the issuer has none.
    pub(crate) fn at_hand(&self) -> Option<Arc<KeySet>> {
        self.0.state.borrow().keys.clone()
    }

    /// The keys, for a token that names its key so. May wait for a fetch that is under way or due, for five seconds at
    /// most.
    ///
    /// # Errors
    /// Why there are none: the last attempt's problem.
    pub(crate) async fn keys(&self, id: Option<&str>) -> Result<Arc<KeySet>, FetchError> {
        let pace = self.0.pace;
        let kept = {
            let state = self.0.state.borrow();
            state.keys.clone().map(|keys| (keys, state.fetched_at.elapsed()))
        };
        if let Some((keys, age)) = kept {
            // A key without a name may be the one.
            let missing = id.is_some_and(|id| keys.iter().all(|key| key.id().is_some_and(|name| name != id)));
            if !missing && age < pace.wait_after {
                if age >= pace.refresh_after {
                    self.fetch();
                }
                return Ok(keys);
            }
        }
        self.fetch();
        let mut state = self.0.state.subscribe();
        let _ = timeout(pace.timeout, state.wait_for(|state| !state.fetching)).await;
        let state = self.0.state.borrow();
        state.keys.clone().ok_or_else(|| state.problem.clone().unwrap_or(FetchError::Timeout))
    }

    /// Starts a fetch in the background, unless one is under way or was made a moment ago.
    pub(crate) fn fetch(&self) {
        let starts = self.0.state.send_if_modified(|state| {
            let due = !state.fetching && Instant::now() >= state.next_attempt;
            state.fetching |= due;
            due
        });
        if starts {
            // A task of its own: a client that leaves must not end what others wait for.
            tokio::spawn(self.clone().finish());
        }
    }

    async fn finish(self) {
        let Remote { source, pace, state, .. } = &*self.0;
        let fetched = timeout(pace.timeout, self.0.fetch()).await.unwrap_or(Err(FetchError::Timeout));
        let shown = source.shown();
        match &fetched {
            Ok(keys) => tracing::debug!(keys = keys.len(), from = shown, "keys fetched"),
            Err(problem) => tracing::warn!(%problem, from = shown, "keys cannot be fetched"),
        }
        // Freed after the state has been let go of: they may remember thousands of tokens.
        let mut former = None;
        state.send_modify(|state| {
            let now = Instant::now();
            state.fetching = false;
            match fetched {
                Ok(keys) => {
                    former = state.keys.replace(Arc::new(keys.into()));
                    (state.problem, state.failures) = (None, 0);
                    (state.fetched_at, state.next_attempt) = (now, now + pace.interval_min);
                }
                Err(problem) => {
                    let wait = pace.back_off.saturating_mul(1 << state.failures.min(16));
                    state.next_attempt = now + wait.min(pace.back_off_max);
                    state.failures += 1;
                    // The issuer says that it has no such keys (any more); everything else is silence.
                    if problem == FetchError::Set(KeyError::SetUnusable) {
                        former = state.keys.take();
                    }
                    state.problem = Some(problem);
                }
            }
        });
        drop(former);
    }
}

impl Remote {
    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let set = match &self.source {
            Source::At(url) => self.get(url).await?,
            Source::OfIssuer { id, url } => self.get(&self.discover(id, url).await?).await?,
        };
        Key::parse_set(&set, &self.algorithms, false).map_err(FetchError::Set)
    }

    /// The address of the issuer's set, from its metadata.
    async fn discover(&self, id: &str, issuer: &Url) -> Result<Url, FetchError> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: String,
        }
        let path = issuer.path().trim_end_matches('/');
        let at = |path: &str| {
            let mut url = issuer.clone();
            url.set_path(path);
            url
        };
        let json = match self.get(&at(&format!("/.well-known/oauth-authorization-server{path}"))).await {
            Err(FetchError::Status(404)) => {
                self.get(&at(&format!("{path}/.well-known/openid-configuration"))).await
            }
            found => found,
        };
        let metadata: Metadata = serde_json::from_slice(&json?).map_err(|_| FetchError::Metadata)?;
        if metadata.issuer != id {
            return Err(FetchError::Metadata);
        }
        address(&metadata.jwks_uri).map_err(FetchError::Address)
    }

    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|error| unreachable(&error))?;
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => FetchError::TooLarge,
            None => unreachable(&*error),
        });
        body.map(|body| body.to_bytes())
    }
}

const USER_AGENT: &str = concat!("petasos/", env!("CARGO_PKG_VERSION"));

impl Source {
    fn url(&self) -> &Url {
        match self {
            Self::At(url) | Self::OfIssuer { url, .. } => url,
        }
    }

    /// Without the query, which may hold a secret.
    fn shown(&self) -> String {
        let url = self.url();
        format!("{}{}", url.origin().ascii_serialization(), url.path())
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteKeys").field(&self.0.source.shown()).finish()
    }
}

/// An address that keys may come from.
fn address(text: &str) -> Result<Url, RemoteKeysError> {
    let url = Url::parse(text).map_err(|_| RemoteKeysError::Url)?;
    let local = match url.host() {
        None => return Err(RemoteKeysError::Url),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // Not what is below it, as for pages: some resolvers ask others for that.
        Some(Host::Domain(name)) => name == "localhost",
    };
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => Err(RemoteKeysError::UserInfo),
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(RemoteKeysError::Insecure),
    }
}

/// With the system's root certificates where they are needed. No proxy, no redirections, no connection that is kept.
fn client(tls: bool) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, RemoteKeysError> {
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions");
    let config = match tls {
        true => config.with_native_roots().map_err(|error| RemoteKeysError::Roots(error.to_string()))?,
        false => config.with_root_certificates(RootCertStore::empty()),
    };
    let tls = config.with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

/// All that an error says, from the outside to the cause.
fn unreachable(error: &dyn std::error::Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    FetchError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Notify,
    };

    use petasos_protocol::{
        Limits,
        grants::Grants,
        token::{Role, TokenError},
        topic::HubUrl,
    };

    use super::*;
    use crate::{Issuer, Issuers, Signer};

    const NEVER: Duration = Duration::from_secs(24 * 3600);
    const SET: &str = include_str!("../tests/keys/set.json");

    /// A server whose answers a test decides.
    #[derive(Default)]
    struct KeyServer {
        /// By path: a status and a body. Other paths are 404.
        answers: Mutex<Vec<(String, u16, String)>>,
        requests: AtomicUsize,
        /// An answer for each permit, while `held`.
        released: Notify,
        held: bool,
    }

    impl KeyServer {
        async fn start(self) -> (Arc<Self>, String) {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let origin = format!("http://{}", listener.local_addr().expect("an address"));
            let server = Arc::new(self);
            let accepting = server.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(accepting.clone().answer(stream));
                }
            });
            (server, origin)
        }

        async fn answer(self: Arc<Self>, mut stream: TcpStream) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            if self.held {
                self.released.notified().await;
            }
            let head = String::from_utf8(head).expect("UTF-8");
            let path = head.split(' ').nth(1).expect("a path");
            let (status, body) = {
                let answers = self.answers.lock().expect("not poisoned");
                let found = answers.iter().find(|(each, ..)| each == path);
                found.map_or((404, String::new()), |(_, status, body)| (*status, body.clone()))
            };
            let head =
                format!("HTTP/1.1 {status} x\r\nLocation: /set\r\nContent-Length: {}\r\n\r\n", body.len());
            // The client may have enough of it.
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }

        fn set(&self, path: &str, status: u16, body: impl Into<String>) {
            let mut answers = self.answers.lock().expect("not poisoned");
            answers.retain(|(each, ..)| each != path);
            answers.push((path.to_owned(), status, body.into()));
        }

        fn requests(&self) -> usize {
            self.requests.load(Ordering::SeqCst)
        }
    }

    /// Never asks twice, unless a test says so.
    const STILL: Pace = Pace {
        interval_min: NEVER,
        refresh_after: NEVER,
        wait_after: NEVER,
        back_off: NEVER,
        back_off_max: NEVER,
        timeout: Duration::from_secs(20),
    };

    fn paced(mut keys: RemoteKeys, pace: Pace) -> RemoteKeys {
        Arc::get_mut(&mut keys.0).expect("the only one").pace = pace;
        keys
    }

    async fn remote(pace: Pace) -> (Arc<KeyServer>, RemoteKeys) {
        let (server, origin) = KeyServer::default().start().await;
        server.set("/set", 200, SET);
        let keys = RemoteKeys::at(&format!("{origin}/set?secret"), &[]).expect("an address");
        // What the server knows are paths with their queries.
        server.set("/set?secret", 200, SET);
        (server, paced(keys, pace))
    }

    fn problem(result: Result<Arc<KeySet>, FetchError>) -> FetchError {
        result.expect_err("no keys")
    }

    #[tokio::test]
    async fn many_tokens_make_one_request() {
        let (server, keys) = remote(STILL).await;
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let keys = keys.clone();
                tokio::spawn(async move { keys.keys(Some("rsa")).await.map(|keys| keys.len()) })
            })
            .collect();
        for each in asking {
            assert_eq!(each.await.expect("no panic"), Ok(5));
        }
        assert_eq!(server.requests(), 1);
    }

    #[tokio::test]
    async fn a_key_that_is_missing_is_looked_for_but_not_for_every_token() {
        let rotated = SET.replace("\"rsa\"", "\"new\"");
        let (server, keys) = remote(STILL).await;
        for number in 0..100 {
            let found = keys.keys(Some(&format!("bad-{number}"))).await.expect("keys");
            assert_eq!(found.len(), 5);
        }
        assert_eq!(server.requests(), 1);
        let (server, keys) = remote(Pace { interval_min: Duration::ZERO, ..STILL }).await;
        let named = |keys: &[Key], name| keys.iter().any(|key| key.id() == Some(name));
        assert!(named(&keys.keys(Some("rsa")).await.expect("keys"), "rsa"));
        server.set("/set?secret", 200, rotated);
        assert!(named(&keys.keys(Some("rsa")).await.expect("keys"), "rsa"));
        assert_eq!(server.requests(), 1);
        let found = keys.keys(Some("new")).await.expect("keys");
        assert!(named(&found, "new") && !named(&found, "rsa"));
        assert_eq!(server.requests(), 2);
        // A token that names no key brings nothing new.
        keys.keys(None).await.expect("keys");
        assert_eq!(server.requests(), 2);
    }

    #[tokio::test]
    async fn failures_are_told_and_waited_after() {
        let (server, keys) = remote(STILL).await;
        server.set("/set?secret", 500, "");
        for _ in 0..10 {
            assert_eq!(problem(keys.keys(None).await), FetchError::Status(500));
        }
        assert_eq!(server.requests(), 1);
        let at_once = Pace { back_off: Duration::ZERO, ..STILL };
        for (status, body, expected) in [
            (302, String::new(), FetchError::Status(302)),
            (200, "{}".to_owned(), FetchError::Set(KeyError::Set)),
            (200, "{\"keys\":[]}".to_owned(), FetchError::Set(KeyError::SetUnusable)),
            (200, " ".repeat(BYTES_MAX + 1), FetchError::TooLarge),
        ] {
            let (server, keys) = remote(at_once).await;
            server.set("/set?secret", status, body);
            assert_eq!(problem(keys.keys(None).await), expected);
            server.set("/set?secret", 200, SET);
            assert_eq!(keys.keys(None).await.expect("keys").len(), 5);
            assert_eq!(server.requests(), 2);
        }
        let (_server, origin) = KeyServer { held: true, ..KeyServer::default() }.start().await;
        let slow = RemoteKeys::at(&origin, &[]).expect("an address");
        let slow = paced(slow, Pace { timeout: Duration::from_millis(1), ..STILL });
        assert_eq!(problem(slow.keys(None).await), FetchError::Timeout);
        // Bound, so that no other process gets the port, and not listening.
        let silent = tokio::net::TcpSocket::new_v4().expect("a socket");
        silent.bind(([127, 0, 0, 1], 0).into()).expect("bind");
        let nobody = silent.local_addr().expect("an address");
        let keys = RemoteKeys::at(&format!("http://{nobody}/"), &[]).expect("an address");
        assert!(matches!(problem(keys.keys(None).await), FetchError::Unreachable(_)));
    }

    #[tokio::test]
    async fn old_keys_are_kept_while_the_server_is_silent_and_dropped_when_it_has_none() {
        let old = Pace { interval_min: Duration::ZERO, wait_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(Pace { back_off: Duration::ZERO, ..old }).await;
        assert_eq!(keys.keys(None).await.expect("keys").len(), 5);
        for (status, body) in [(500, ""), (200, "<p>Sign in to this network</p>")] {
            server.set("/set?secret", status, body);
            assert_eq!(keys.keys(None).await.expect("keys").len(), 5);
        }
        assert_eq!(server.requests(), 3);
        server.set("/set?secret", 200, "{\"keys\":[]}");
        assert_eq!(problem(keys.keys(None).await), FetchError::Set(KeyError::SetUnusable));
    }

    #[tokio::test]
    async fn keys_are_renewed_while_they_are_used() {
        let pace = Pace { interval_min: Duration::ZERO, refresh_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        keys.keys(None).await.expect("keys");
        server.set("/set?secret", 200, SET.replace("\"rsa\"", "\"new\""));
        let mut state = keys.0.state.subscribe();
        assert!(keys.keys(None).await.expect("keys").iter().any(|key| key.id() == Some("rsa")));
        let renewed = state.wait_for(|state| {
            state.keys.iter().flat_map(|keys| keys.iter()).any(|key| key.id() == Some("new"))
        });
        timeout(STILL.timeout, renewed).await.expect("in the background").expect("alive");
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_end_the_fetch() {
        let (server, origin) = KeyServer { held: true, ..KeyServer::default() }.start().await;
        server.set("/", 200, SET);
        let keys = paced(RemoteKeys::at(&origin, &[]).expect("an address"), STILL);
        let client = tokio::spawn({
            let keys = keys.clone();
            async move { keys.keys(None).await.map(|keys| keys.len()) }
        });
        keys.0.state.subscribe().wait_for(|state| state.fetching).await.expect("alive");
        client.abort();
        assert!(client.await.is_err());
        server.released.notify_one();
        assert_eq!(keys.keys(None).await.expect("keys").len(), 5);
        assert_eq!(server.requests(), 1);
    }

    #[tokio::test]
    async fn the_metadata_of_an_issuer_leads_to_its_keys() {
        let at_once = Pace { back_off: Duration::ZERO, ..STILL };
        for (place, elsewhere) in [
            ("/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"),
            ("/tenant/.well-known/openid-configuration", "/nowhere"),
        ] {
            let (server, origin) = KeyServer::default().start().await;
            server.set("/set", 200, SET);
            server.set(elsewhere, 200, "not read");
            let issuer = format!("{origin}/tenant");
            let keys = paced(RemoteKeys::of_issuer(&issuer, &[]).expect("an address"), at_once);
            let metadata =
                |issuer: &str, uri: &str| format!("{{\"issuer\":\"{issuer}\",\"jwks_uri\":\"{uri}\"}}");
            let set = format!("{origin}/set");
            for (metadata, expected) in [
                (metadata(&format!("{issuer}/"), &set), FetchError::Metadata),
                (metadata("https://other.example", &set), FetchError::Metadata),
                ("{}".to_owned(), FetchError::Metadata),
                (
                    metadata(&issuer, "http://other.example/set"),
                    FetchError::Address(RemoteKeysError::Insecure),
                ),
            ] {
                server.set(place, 200, metadata);
                assert_eq!(problem(keys.keys(None).await), expected);
            }
            server.set(place, 200, metadata(&issuer, &set));
            assert_eq!(keys.keys(None).await.expect("keys").len(), 5);
        }
    }

    const RESOURCE: &str = "https://hub.example/m";
    const ISSUER: &str = "https://issuer.example";

    /// Whose keys are fetched.
    fn issuers(keys: RemoteKeys) -> Issuers {
        Issuers {
            trusted: vec![Issuer {
                id: ISSUER.to_owned(),
                publisher: vec![].into(),
                subscriber: keys.into(),
                authorization_server: false,
            }],
            resource: RESOURCE.to_owned(),
            compat: false,
            prefixes: false,
        }
    }

    /// A token that was signed with the key of the set that has this name, and bears another.
    fn token(key: &str, id: &str) -> String {
        let (private, algorithm) = match key {
            "rsa" => (include_str!("../tests/keys/rsa.pem"), Algorithm::RS256),
            _ => (include_str!("../tests/keys/p256.pem"), Algorithm::ES256),
        };
        let claims = format!("{{\"iss\":\"{ISSUER}\",\"aud\":\"{RESOURCE}\",\"exp\":2000}}");
        let signer = Signer::parse(private, Some(algorithm)).expect("a private key");
        signer.with_id(id).sign("at+jwt", &claims)
    }

    async fn verify(issuers: &Issuers, token: &str) -> Result<Arc<Grants>, TokenError> {
        let (hub, limits) = (HubUrl::default(), Limits::default());
        let verified = issuers.verify(token, Role::Subscriber, &hub, 1_000.0, &limits).await;
        verified.map(|verified| verified.grants)
    }

    /// The set without its RSA key.
    fn without_rsa() -> String {
        let mut set: serde_json::Value = serde_json::from_str(SET).expect("JSON");
        set["keys"].as_array_mut().expect("keys").retain(|key| key["kid"] != "rsa");
        set.to_string()
    }

    #[tokio::test]
    async fn a_verification_is_remembered_until_its_keys_are_replaced() {
        let (server, keys) = remote(Pace { interval_min: Duration::ZERO, ..STILL }).await;
        let issuers = issuers(keys.clone());
        let (rsa, p256) = (token("rsa", "rsa"), token("p256", "p256"));
        let first = verify(&issuers, &rsa).await.expect("valid");
        assert!(Arc::ptr_eq(&first, &verify(&issuers, &rsa).await.expect("valid")));
        assert_eq!(server.requests(), 1);
        // The key is removed, and a token of a new one has the keys fetched.
        server.set("/set?secret", 200, without_rsa());
        assert!(Arc::ptr_eq(&first, &verify(&issuers, &rsa).await.expect("not known to be removed")));
        verify(&issuers, &token("p256", "new")).await.expect("valid");
        assert_eq!(server.requests(), 2);
        assert!(matches!(verify(&issuers, &rsa).await, Err(TokenError::Algorithm { .. })));
        verify(&issuers, &p256).await.expect("its key is still there");
        // And it comes back.
        server.set("/set?secret", 200, SET);
        assert!(!Arc::ptr_eq(&first, &verify(&issuers, &rsa).await.expect("valid")));
    }

    #[tokio::test]
    async fn a_request_that_brings_new_keys_is_not_answered_from_memory() {
        let pace = Pace { interval_min: Duration::ZERO, wait_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let issuers = issuers(keys.clone());
        let rsa = token("rsa", "rsa");
        verify(&issuers, &rsa).await.expect("valid");
        assert_eq!(keys.at_hand().expect("keys").remembered(), 1);
        server.set("/set?secret", 200, without_rsa());
        assert!(matches!(verify(&issuers, &rsa).await, Err(TokenError::Algorithm { .. })));
    }

    #[tokio::test]
    async fn a_token_that_is_known_has_the_key_that_it_names_looked_for() {
        let (server, keys) = remote(Pace { interval_min: Duration::ZERO, ..STILL }).await;
        let issuers = issuers(keys);
        let nameless = token("rsa", "no-such-key");
        verify(&issuers, &nameless).await.expect("valid, and remembered");
        server.set("/set?secret", 200, without_rsa());
        assert!(matches!(verify(&issuers, &nameless).await, Err(TokenError::Algorithm { .. })));
    }

    #[tokio::test]
    async fn nothing_is_remembered_of_an_issuer_without_keys() {
        let pace = Pace { interval_min: Duration::ZERO, wait_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let issuers = issuers(keys);
        let rsa = token("rsa", "rsa");
        verify(&issuers, &rsa).await.expect("valid");
        server.set("/set?secret", 200, "{\"keys\":[]}");
        for _ in 0..2 {
            assert!(matches!(verify(&issuers, &rsa).await, Err(TokenError::KeysUnavailable { .. })));
        }
    }

    #[tokio::test]
    async fn tokens_that_are_known_have_keys_renewed_as_others_do() {
        let pace = Pace { interval_min: Duration::ZERO, refresh_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let issuers = issuers(keys.clone());
        let rsa = token("rsa", "rsa");
        let first = verify(&issuers, &rsa).await.expect("valid");
        server.set("/set?secret", 200, without_rsa());
        let mut state = keys.0.state.subscribe();
        assert!(Arc::ptr_eq(&first, &verify(&issuers, &rsa).await.expect("the old keys")));
        let renewed = state.wait_for(|state| state.keys.as_ref().is_some_and(|keys| keys.len() == 4));
        timeout(STILL.timeout, renewed).await.expect("in the background").expect("alive");
        assert!(matches!(verify(&issuers, &rsa).await, Err(TokenError::Algorithm { .. })));
    }

    #[test]
    fn keys_come_from_addresses_that_nobody_can_change_on_the_way() {
        for (text, expected) in [
            ("auth.example/set", RemoteKeysError::Url),
            ("data:,x", RemoteKeysError::Url),
            ("http://auth.example/set", RemoteKeysError::Insecure),
            ("http://localhost.example/set", RemoteKeysError::Insecure),
            ("http://10.0.0.1/set", RemoteKeysError::Insecure),
            ("ftp://127.0.0.1/set", RemoteKeysError::Insecure),
            ("https://user:word@auth.example/set", RemoteKeysError::UserInfo),
        ] {
            assert_eq!(address(text), Err(expected), "{text}");
        }
        for text in ["http://127.0.0.1:1/", "http://[::1]/", "http://localhost/", "https://auth.example/"] {
            assert!(address(text).is_ok(), "{text}");
        }
        let secret = RemoteKeys::at("http://localhost/", &[Algorithm::ES256, Algorithm::HS256]);
        assert_eq!(secret.expect_err("a secret"), RemoteKeysError::Algorithms);
    }

    #[test]
    fn no_query_is_shown() {
        let keys = RemoteKeys::at("http://localhost/set?api-key=hidden", &[]).expect("an address");
        assert_eq!(format!("{keys:?}"), "RemoteKeys(\"http://localhost/set\")");
    }
}
