//! The JWK Set of an authorization server: fetched when a token needs it, and kept (RFC 7517; found by RFC 8414).
//!
//! A set is fetched again when it is old, and at once when a token names a key that the set lacks, as after a rotation. The
//! header of a token can name any key, so only the clock decides how often the server is asked: [`PACE`].
//!
//! This is the only HTTP of the crate. It follows no redirection and uses no proxy.

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

/// The keys of a JWK Set on another server. Clones share them.
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
    /// At this URL.
    Set(Url),
    /// At the URL that the metadata of this issuer names.
    Issuer { id: String, url: Url },
}

struct State {
    keys: Option<Arc<KeySet>>,
    /// When the keys were fetched.
    fetched_at: Instant,
    /// The server is not asked again before this time.
    next_attempt: Instant,
    fetching: bool,
    /// Attempts that have failed since the last one that succeeded.
    failures: u32,
    /// Why the last attempt failed.
    problem: Option<FetchError>,
}

/// How often the server is asked, and how long it may take.
#[derive(Clone, Copy)]
struct Pace {
    /// The least time between two fetches, whatever tokens ask for.
    interval_min: Duration,
    /// The age at which keys that are used are fetched again in the background.
    refresh_after: Duration,
    /// The age from which a token waits for that fetch. If the fetch fails, the old keys are used.
    wait_after: Duration,
    /// The pause after a failure. It doubles with each further failure.
    back_off: Duration,
    back_off_max: Duration,
    /// The longest that a fetch may take, with the request for the metadata.
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

impl Pace {
    /// The pause after a failure that followed `failures` others.
    fn pause_after(&self, failures: u32) -> Duration {
        self.back_off.saturating_mul(2_u32.saturating_pow(failures)).min(self.back_off_max)
    }
}

/// The longest answer that is read. A set of a hundred RSA keys with certificates is shorter.
const BYTES_MAX: usize = 512 * 1024;

/// Why keys cannot be fetched from an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteKeysError {
    /// The text is no absolute URL with a host.
    #[error("this is no absolute URL: write one such as https://auth.example/jwks.json")]
    Url,
    /// The URL is neither `https` nor `http` to this machine: others on the way could replace the keys.
    #[error("keys are fetched over https only (over http from this machine): write an https URL")]
    Insecure,
    /// The URL holds a user name or a password, which logs would show.
    #[error("the URL holds a user or a password: leave it out")]
    UserInfo,
    /// An HMAC algorithm is asked for. A secret that a server hands out to everybody is none.
    #[error("a fetched set holds public keys only: leave the HS… algorithms out")]
    Algorithms,
    /// The system's root certificates cannot be read, so no server can be verified.
    #[error(
        "this system's root certificates cannot be read ({0}): install them, or name them with SSL_CERT_FILE"
    )]
    Roots(String),
}

/// Why there are no new keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No server answers there, or its certificate cannot be verified.
    #[error("{0}")]
    Unreachable(String),
    /// The answer took more than five seconds.
    #[error("no answer in time")]
    Timeout,
    /// The answer has another status than 200. Redirections are not followed.
    #[error("the answer's status is {0}, not 200")]
    Status(u16),
    /// The answer is longer than 512 KiB.
    #[error("the answer is larger than {BYTES_MAX} bytes")]
    TooLarge,
    /// The answer is no JWK Set, or a set without usable keys.
    #[error("{0}")]
    Set(KeyError),
    /// The answer is no metadata, or the metadata of another issuer.
    #[error(
        "this is not the metadata of the issuer: it must be JSON with this issuer and a jwks_uri (RFC 8414)"
    )]
    Metadata,
    /// The metadata names an address from which keys are not fetched.
    #[error("the jwks_uri of the metadata: {0}")]
    Address(RemoteKeysError),
}

impl RemoteKeys {
    /// The set at a URL. Nothing is fetched yet. Without algorithms: all that fit each key.
    ///
    /// # Errors
    /// [`RemoteKeysError`], by its variants.
    ///
    /// ```
    /// use petasos_auth::{RemoteKeys, RemoteKeysError};
    /// let refused = RemoteKeys::at("http://auth.example/jwks.json", &[]).expect_err("plain text");
    /// assert_eq!(refused, RemoteKeysError::Insecure);
    /// ```
    pub fn at(url: &str, algorithms: &[Algorithm]) -> Result<Self, RemoteKeysError> {
        Self::new(Source::Set(address(url)?), algorithms)
    }

    /// The set that the metadata of an authorization server names (RFC 8414; where that is absent, OpenID Connect
    /// Discovery 1.0). Nothing is fetched yet.
    ///
    /// # Errors
    /// [`RemoteKeysError`], by its variants.
    pub fn discover(id: &str, algorithms: &[Algorithm]) -> Result<Self, RemoteKeysError> {
        Self::new(Source::Issuer { id: id.to_owned(), url: address(id)? }, algorithms)
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

    /// Whether both are the keys of the same address, with the same algorithms.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.algorithms == other.0.algorithms && self.address() == other.address()
    }

    /// Where the keys are fetched from: the URL of the set, or the identifier of the issuer whose metadata names it.
    pub(crate) fn address(&self) -> String {
        match &self.0.source {
            Source::Set(url) => format!("set {url}"),
            Source::Issuer { id, .. } => format!("issuer {id}"),
        }
    }

    /// The algorithms that tokens may use.
    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        let allowed = &self.0.algorithms;
        let public = Algorithm::ALL.into_iter().filter(|each| !each.is_symmetric());
        public.filter(move |each| allowed.is_empty() || allowed.contains(each))
    }

    /// Asks the server for the keys, as when a token needs them: five seconds at most. For tools that want to know whether
    /// the keys can be had.
    ///
    /// # Errors
    /// There are no keys, and why the last attempt to fetch them failed.
    pub async fn try_fetch(&self) -> Result<(), FetchError> {
        self.keys(None).await.map(|_| ())
    }

    /// The keys, for a token that names its key `id`. Waits for a fetch that is under way or due, five seconds at most.
    ///
    /// # Errors
    /// There are no keys: the problem of the last attempt, [`FetchError::Timeout`] if that is not over.
    pub(crate) async fn keys(&self, id: Option<&str>) -> Result<Arc<KeySet>, FetchError> {
        let pace = self.0.pace;
        let kept = {
            let state = self.0.state.borrow();
            state.keys.clone().map(|keys| (keys, state.fetched_at.elapsed()))
        };
        if let Some((keys, age)) = kept {
            let is_there = id.is_none_or(|id| keys.may_hold(id));
            if is_there && age < pace.wait_after {
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
            // A task of its own: a client that leaves must not end a fetch that others wait for.
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
        state.send_modify(|state| {
            let now = Instant::now();
            state.fetching = false;
            match fetched {
                Ok(keys) => {
                    state.keys = Some(Arc::new(keys.into()));
                    (state.problem, state.failures) = (None, 0);
                    (state.fetched_at, state.next_attempt) = (now, now + pace.interval_min);
                }
                Err(problem) => {
                    state.next_attempt = now + pace.pause_after(state.failures);
                    state.failures += 1;
                    // Here the issuer says that it has no such keys any more. All other problems say nothing of the keys.
                    if problem == FetchError::Set(KeyError::SetUnusable) {
                        state.keys = None;
                    }
                    state.problem = Some(problem);
                }
            }
        });
    }
}

impl Remote {
    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let set = match &self.source {
            Source::Set(url) => self.get(url).await?,
            Source::Issuer { id, url } => self.get(&self.discover(id, url).await?).await?,
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
            Self::Set(url) | Self::Issuer { url, .. } => url,
        }
    }

    /// The URL for logs: without its query, which may hold a secret.
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

/// Parses an address that keys may be fetched from.
///
/// # Errors
/// [`RemoteKeysError::Url`], [`RemoteKeysError::Insecure`], [`RemoteKeysError::UserInfo`].
fn address(text: &str) -> Result<Url, RemoteKeysError> {
    let url = Url::parse(text).map_err(|_| RemoteKeysError::Url)?;
    let local = match url.host() {
        None => return Err(RemoteKeysError::Url),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // No name below it, unlike for pages: some resolvers ask other machines for such a name.
        Some(Host::Domain(name)) => name == "localhost",
    };
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => Err(RemoteKeysError::UserInfo),
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(RemoteKeysError::Insecure),
    }
}

/// A client that keeps no connection. It has the system's root certificates if the address needs TLS.
///
/// # Errors
/// [`RemoteKeysError::Roots`].
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

/// The text of an error and of all its causes.
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
        token::{Grants, Role, TokenError},
        topic::HubUrl,
    };

    use super::*;
    use crate::{Issuer, Issuers, Signer, Verifier};

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

    /// An address at which nobody answers. The socket is bound, so that no other process gets its port, and does not listen.
    fn silent() -> (tokio::net::TcpSocket, String) {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bind");
        let address = socket.local_addr().expect("an address");
        (socket, format!("http://{address}/"))
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
            (200, " ".repeat(BYTES_MAX), FetchError::Set(KeyError::Set)),
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
        let (_silent, nobody) = silent();
        let keys = RemoteKeys::at(&nobody, &[]).expect("an address");
        assert!(matches!(problem(keys.keys(None).await), FetchError::Unreachable(_)));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses =
            [0, 1, 2, 5, 6, 7, 31, 32, u32::MAX].map(|failures| PACE.pause_after(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60, 60, 60]);
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

    /// The age of keys is compared with a clock that the test sets.
    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_again_at_their_age() {
        let pace = Pace { refresh_after: NEVER, wait_after: PACE.wait_after, ..STILL };
        let (silent, nobody) = silent();
        let keys = paced(RemoteKeys::at(&nobody, &[]).expect("an address"), pace);
        let old = Arc::new(KeySet::from(Key::parse_set(SET.as_bytes(), &[], false).expect("keys")));
        keys.0.state.send_modify(|state| {
            state.keys = Some(Arc::clone(&old));
            state.fetched_at = Instant::now();
        });
        tokio::time::advance(PACE.wait_after - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&keys.keys(None).await.expect("keys"), &old));
        assert_eq!(keys.0.state.borrow().failures, 0, "not due");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&keys.keys(None).await.expect("the old keys"), &old));
        assert_eq!(keys.0.state.borrow().failures, 1, "asked, and nobody answered");
        // Not again before its pause is over.
        keys.keys(None).await.expect("the old keys");
        assert_eq!(keys.0.state.borrow().failures, 1);
        drop(silent);
    }

    #[tokio::test]
    async fn keys_are_fetched_before_the_first_token_comes() {
        let (server, keys) = remote(STILL).await;
        let issuer = Issuer {
            id: ISSUER.to_owned(),
            publisher: keys.clone().into(),
            subscriber: keys.clone().into(),
            authorization_server: false,
        };
        let (resource, compat, prefixes) = (RESOURCE.to_owned(), false, false);
        Issuers { trusted: vec![issuer], resource, compat, prefixes }.prepare();
        assert!(keys.0.state.borrow().fetching);
        keys.0.state.subscribe().wait_for(|state| !state.fetching).await.expect("alive");
        assert!(keys.0.state.borrow().keys.is_some() && server.requests() == 1);
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
            let keys = paced(RemoteKeys::discover(&issuer, &[]).expect("an address"), at_once);
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

    /// A verifier of tokens whose keys are fetched.
    fn verifier(keys: RemoteKeys) -> Verifier {
        let issuers = Issuers {
            trusted: vec![Issuer {
                id: ISSUER.to_owned(),
                publisher: vec![].into(),
                subscriber: keys.into(),
                authorization_server: false,
            }],
            resource: RESOURCE.to_owned(),
            compat: false,
            prefixes: false,
        };
        Verifier::new(issuers, HubUrl::default(), Limits::default())
    }

    /// A token that was signed with the key of the set that has the name `key`, and names the key `id`.
    fn token(key: &str, id: &str) -> String {
        let (private, algorithm) = match key {
            "rsa" => (include_str!("../tests/keys/rsa.pem"), Algorithm::RS256),
            _ => (include_str!("../tests/keys/p256.pem"), Algorithm::ES256),
        };
        let claims = format!("{{\"iss\":\"{ISSUER}\",\"aud\":\"{RESOURCE}\",\"exp\":2000}}");
        let signer = Signer::parse(private, Some(algorithm)).expect("a private key");
        signer.with_id(id).sign("at+jwt", &claims)
    }

    async fn verify(verifier: &Verifier, token: &str) -> Result<Arc<Grants>, TokenError> {
        verifier.verify(token, Role::Subscriber, 1_000.0).await.map(|verified| verified.grants)
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
        let verifier = verifier(keys);
        let (rsa, p256) = (token("rsa", "rsa"), token("p256", "p256"));
        let first = verify(&verifier, &rsa).await.expect("valid");
        assert!(Arc::ptr_eq(&first, &verify(&verifier, &rsa).await.expect("valid")));
        assert_eq!(server.requests(), 1);
        // The key is removed, and a token of a new one has the keys fetched.
        server.set("/set?secret", 200, without_rsa());
        assert!(Arc::ptr_eq(&first, &verify(&verifier, &rsa).await.expect("not known to be removed")));
        verify(&verifier, &token("p256", "new")).await.expect("valid");
        assert_eq!(server.requests(), 2);
        assert!(matches!(verify(&verifier, &rsa).await, Err(TokenError::Algorithm { .. })));
        verify(&verifier, &p256).await.expect("its key is still there");
        // And it comes back.
        server.set("/set?secret", 200, SET);
        assert!(!Arc::ptr_eq(&first, &verify(&verifier, &rsa).await.expect("valid")));
    }

    #[tokio::test]
    async fn a_request_that_brings_new_keys_is_not_answered_from_memory() {
        let pace = Pace { interval_min: Duration::ZERO, wait_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let verifier = verifier(keys);
        let rsa = token("rsa", "rsa");
        verify(&verifier, &rsa).await.expect("valid");
        assert_eq!(verifier.remembered(), 1);
        server.set("/set?secret", 200, without_rsa());
        assert!(matches!(verify(&verifier, &rsa).await, Err(TokenError::Algorithm { .. })));
    }

    #[tokio::test]
    async fn a_token_that_is_known_has_the_key_that_it_names_looked_for() {
        let (server, keys) = remote(Pace { interval_min: Duration::ZERO, ..STILL }).await;
        let verifier = verifier(keys);
        let nameless = token("rsa", "no-such-key");
        verify(&verifier, &nameless).await.expect("valid, and remembered");
        server.set("/set?secret", 200, without_rsa());
        assert!(matches!(verify(&verifier, &nameless).await, Err(TokenError::Algorithm { .. })));
    }

    #[tokio::test]
    async fn nothing_is_remembered_of_an_issuer_without_keys() {
        let pace = Pace { interval_min: Duration::ZERO, wait_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let verifier = verifier(keys);
        let rsa = token("rsa", "rsa");
        verify(&verifier, &rsa).await.expect("valid");
        server.set("/set?secret", 200, "{\"keys\":[]}");
        for _ in 0..2 {
            assert!(matches!(verify(&verifier, &rsa).await, Err(TokenError::KeysUnavailable { .. })));
        }
    }

    #[tokio::test]
    async fn tokens_that_are_known_have_keys_renewed_as_others_do() {
        let pace = Pace { interval_min: Duration::ZERO, refresh_after: Duration::ZERO, ..STILL };
        let (server, keys) = remote(pace).await;
        let verifier = verifier(keys.clone());
        let rsa = token("rsa", "rsa");
        let first = verify(&verifier, &rsa).await.expect("valid");
        server.set("/set?secret", 200, without_rsa());
        let mut state = keys.0.state.subscribe();
        assert!(Arc::ptr_eq(&first, &verify(&verifier, &rsa).await.expect("the old keys")));
        let renewed = state.wait_for(|state| state.keys.as_ref().is_some_and(|keys| keys.len() == 4));
        timeout(STILL.timeout, renewed).await.expect("in the background").expect("alive");
        assert!(matches!(verify(&verifier, &rsa).await, Err(TokenError::Algorithm { .. })));
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
