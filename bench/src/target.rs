//! The server under test: where it is, what requests it understands, and what they carry.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, SystemTime},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use petasos_auth::Signer;
use petasos_protocol::token::details::DETAIL_TYPE;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;

use crate::{Failure, request::Request, stamp::Stamp, tls::Trust};

/// A server and the way to talk to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where subscribers go.
    pub subscribe: Place,
    /// Where publishers go.
    pub publish: Place,
    /// How topics are named in requests, and which form tokens have.
    pub dialect: Dialect,
    /// What the body of a publish request is.
    pub body: Body,
    /// What publishers present.
    pub publisher: Credentials,
    /// What subscribers present.
    pub subscriber: Credentials,
    /// The topic of this run: new, so that no history of another run is met.
    pub topic: String,
    /// How requests travel.
    pub protocol: Protocol,
}

/// The version of HTTP, and how connections are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection for each subscriber and each publisher.
    Http1,
    /// A connection for so many of them, each with a stream.
    Http2 {
        /// One at least.
        streams_per_connection: usize,
    },
}

/// The version of the Mercure protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `topic` parameters and the `mercure` claim.
    Legacy,
    /// `match` parameters and access tokens.
    V1,
}

/// What the body of a publish request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `topic=…&data=…`
    Form,
    /// The data and nothing else.
    Raw,
}

/// How topics are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// By their text.
    Exact,
    /// By a URL pattern (1.0).
    UrlPattern,
    /// By a URI template (0.x).
    Template,
}

/// An `http://` or `https://` URL, taken apart.
#[derive(Debug, Clone)]
pub struct Place {
    /// The first address of the host.
    pub address: SocketAddr,
    /// For `https`: whose certificates are trusted and what is offered, and the name that a certificate must have.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    host: String,
    /// The path and the query; `{topic}` stands for the topic.
    path: String,
}

/// A token, or the key to make one.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// No token.
    None,
    /// This one, for all.
    Token(String),
    /// A token for each, signed with the key.
    Key {
        /// What signs.
        key: String,
        /// 1.0: the `iss`.
        issuer: String,
        /// 1.0: the `aud`.
        audience: String,
    },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishing everything.
    Publisher,
    /// Receiving everything.
    Subscriber,
}

impl Protocol {
    /// As TLS names it (ALPN).
    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 { .. } => b"h2",
        }
    }
}

impl Place {
    /// Takes a URL apart and looks up its host.
    ///
    /// # Errors
    /// What is wrong with the URL, or that its host is unknown.
    pub fn parse(url: &str, protocol: Protocol, trust: Trust<'_>) -> Result<Self, Failure> {
        let (rest, port) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, 80),
            (None, Some(rest)) => (rest, 443),
            (None, None) => return Err(format!("{url}: write http://HOST:PORT/PATH, or https").into()),
        };
        let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, digits)) if let Ok(port) = digits.parse::<u16>() => (name, port),
            _ => (host, port),
        };
        let named = format!("{name}:{port}");
        let mut addresses = named.to_socket_addrs().map_err(|error| format!("{url}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{url}: the host has no address"))?;
        let tls = match url.starts_with("https://") {
            true => {
                let name = name.trim_matches(['[', ']']).to_owned();
                Some((Arc::new(trust.client(protocol.name())?), ServerName::try_from(name)?))
            }
            false => None,
        };
        Ok(Self { address, tls, host: host.to_owned(), path })
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The path for these topics: in place of `{topic}`, or as parameters of that name.
    fn path(&self, name: &str, topics: &[String]) -> String {
        let encoded = |topic: &String| encode(topic);
        if self.path.contains("{topic}") {
            let topics: Vec<_> = topics.iter().map(encoded).collect();
            return self.path.replace("{topic}", &topics.join(","));
        }
        let mut path = self.path.clone();
        for topic in topics {
            let separator = if path.contains('?') { '&' } else { '?' };
            let _ = write!(path, "{separator}{name}={}", encode(topic));
        }
        path
    }
}

impl Target {
    /// A subscriber's request.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn subscription(
        &self,
        subscriber: usize,
        topics: &[String],
        selection: Selection,
        cursor: &[u8],
    ) -> Result<Request, Failure> {
        let name = match (self.dialect, selection) {
            (Dialect::Legacy, _) => "topic",
            (Dialect::V1, Selection::UrlPattern) => "match_urlpattern",
            (Dialect::V1, _) => "match",
        };
        let mut fields = vec![("Accept", b"text/event-stream".to_vec())];
        fields.extend(self.subscriber.field(self.dialect, Role::Subscriber, subscriber)?);
        if !cursor.is_empty() {
            fields.push(("Last-Event-ID", cursor.to_vec()));
        }
        Ok(Request {
            method: "GET",
            scheme: self.subscribe.scheme(),
            authority: self.subscribe.host.clone(),
            path: self.subscribe.path(name, topics),
            fields,
            content: Vec::new(),
        })
    }

    /// A publisher's request with that many bytes of data at its end. They begin with the place of the [`Stamp`].
    ///
    /// # Errors
    /// If the key cannot sign, or the data has no room for a stamp.
    pub fn publication(&self, publisher: usize, topic: &str, bytes: usize) -> Result<Request, Failure> {
        if bytes < Stamp::LENGTH {
            return Err(format!("--bytes {bytes}: an update needs {} bytes at least", Stamp::LENGTH).into());
        }
        let topics = [topic.to_owned()];
        let (path, start, kind) = match self.body {
            Body::Form if self.publish.path.contains("{topic}") => {
                (self.publish.path("", &topics), "data=".to_owned(), FORM)
            }
            Body::Form => (self.publish.path.clone(), format!("topic={}&data=", encode(topic)), FORM),
            Body::Raw => (self.publish.path("topic", &topics), String::new(), "text/plain"),
        };
        let mut content = start.into_bytes();
        content.resize(content.len() + bytes, b'x');
        let mut fields = vec![
            ("Content-Type", kind.as_bytes().to_vec()),
            ("Content-Length", content.len().to_string().into_bytes()),
        ];
        fields.extend(self.publisher.field(self.dialect, Role::Publisher, publisher)?);
        Ok(Request {
            method: "POST",
            scheme: self.publish.scheme(),
            authority: self.publish.host.clone(),
            path,
            fields,
            content,
        })
    }
}

impl Credentials {
    /// The field with the token of one subscriber or publisher.
    fn field(
        &self,
        dialect: Dialect,
        role: Role,
        number: usize,
    ) -> Result<Option<(&'static str, Vec<u8>)>, Failure> {
        let token = self.token(dialect, role, number)?;
        Ok(token.map(|token| ("Authorization", format!("Bearer {token}").into_bytes())))
    }

    /// The token of one subscriber or publisher.
    fn token(&self, dialect: Dialect, role: Role, number: usize) -> Result<Option<String>, Failure> {
        let (key, issuer, audience) = match self {
            Self::None => return Ok(None),
            Self::Token(token) => return Ok(Some(token.clone())),
            Self::Key { key, issuer, audience } => (key, issuer, audience),
        };
        let signer = Signer::parse(key, None).map_err(|error| format!("the key cannot sign: {error}"))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let expiry = now + TOKEN_LIFETIME.as_secs();
        let action = match role {
            Role::Publisher => "publish",
            Role::Subscriber => "subscribe",
        };
        Ok(Some(match dialect {
            Dialect::Legacy => {
                let claims =
                    json!({"mercure": {action: ["*"], "payload": {"number": number}}, "exp": expiry});
                signer.sign("JWT", &claims.to_string())
            }
            Dialect::V1 => {
                let detail = json!({
                    "type": DETAIL_TYPE,
                    "actions": [action],
                    "topics": [{"match": "*"}],
                });
                let claims = json!({
                    "iss": issuer,
                    "aud": audience,
                    "sub": format!("{action}er-{number}"),
                    "client_id": "petasos-bench",
                    "iat": now,
                    "exp": expiry,
                    "jti": format!("petasos-bench-{action}er-{number}"),
                    "authorization_details": [detail],
                });
                signer.sign("at+jwt", &claims.to_string())
            }
        }))
    }
}

/// Longer than any run.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const FORM: &str = "application/x-www-form-urlencoded";

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Whether an address is of this machine, where connections may come from any 127.x.y.z.
pub fn is_loopback_v4(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

/// The origin of a URL.
pub fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, publish: &str, body: Body) -> Target {
        Target {
            subscribe: place(url).expect("a URL"),
            publish: place(publish).expect("a URL"),
            dialect: Dialect::Legacy,
            body,
            publisher: Credentials::Token("t".to_owned()),
            subscriber: Credentials::None,
            topic: "a/b".to_owned(),
            protocol: Protocol::Http1,
        }
    }

    fn place(url: &str) -> Result<Place, Failure> {
        Place::parse(url, Protocol::Http1, Trust::Anything)
    }

    fn text(request: &Request) -> String {
        String::from_utf8(request.to_http1()).expect("text")
    }

    #[test]
    fn hubs_get_topics_as_parameters() {
        let hub = "http://127.0.0.1:5500/.well-known/mercure";
        let target = target(hub, hub, Body::Form);
        let topics = ["a/b".to_owned(), "c".to_owned()];
        let get = target.subscription(0, &topics, Selection::Exact, b"urn:1").expect("a request");
        assert_eq!(
            text(&get),
            "GET /.well-known/mercure?topic=a%2Fb&topic=c HTTP/1.1\r\nHost: 127.0.0.1:5500\r\n\
            Accept: text/event-stream\r\nLast-Event-ID: urn:1\r\n\r\n"
        );
        let post = text(&target.publication(0, "a/b", 40).expect("a request"));
        assert!(post.ends_with(&"x".repeat(40)), "{post}");
        assert!(post.starts_with("POST /.well-known/mercure HTTP/1.1\r\n"), "{post}");
        assert!(post.contains("\r\nAuthorization: Bearer t\r\n\r\ntopic=a%2Fb&data=xxxx"), "{post}");
        assert!(post.contains("\r\nContent-Length: 57\r\n"), "{post}");
    }

    #[test]
    fn others_get_topics_where_their_urls_have_a_place() {
        let target =
            target("http://127.0.0.1:80/sub?id={topic}", "http://127.0.0.1:81/pub/{topic}", Body::Raw);
        let get = target.subscription(0, &["a/b".to_owned()], Selection::Exact, b"").expect("a request");
        assert!(text(&get).starts_with("GET /sub?id=a%2Fb HTTP/1.1\r\n"));
        let post = target.publication(0, "a/b", 40).expect("a request");
        assert!(text(&post).starts_with("POST /pub/a%2Fb HTTP/1.1\r\n"));
        assert_eq!(target.publish.address.port(), 81);
        assert!(target.publication(0, "a/b", Stamp::LENGTH - 1).is_err());
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(place("http://127.0.0.1").expect("a URL").path, "/");
        assert_eq!(place("http://127.0.0.1?x").expect("a URL").path, "/?x");
        assert_eq!(place("http://127.0.0.1").expect("a URL").address.port(), 80);
        let secure = place("https://127.0.0.1/").expect("a URL");
        assert_eq!((secure.address.port(), secure.scheme()), (443, "https"));
        let (config, name) = place("https://[::1]:5/").expect("a URL").tls.expect("TLS");
        assert_eq!((config.alpn_protocols.as_slice(), &*name.to_str()), (&[b"http/1.1".to_vec()][..], "::1"));
        assert!(place("ftp://127.0.0.1/").is_err());
        assert_eq!(origin("http://a:1/b"), "http://a:1");
        assert_eq!(origin("http://a"), "http://a");
    }
}
