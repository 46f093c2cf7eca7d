//! `petasos token` and `petasos explain`: making tokens, looking into them, and saying what a hub makes of them.

use std::{
    fmt::Write,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use petasos::{Checked, IssuerConfig, Secret, Warning};
use petasos_auth::{KeyError, Signer};
use petasos_protocol::{
    Dialect,
    matcher::Matcher,
    token::{Role, TokenError, details::DETAIL_TYPE},
    topic::Topic,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// What to sign.
#[derive(Default)]
pub(crate) struct Mint {
    pub(crate) publish: Vec<String>,
    pub(crate) publish_patterns: Vec<String>,
    pub(crate) subscribe: Vec<String>,
    pub(crate) subscribe_patterns: Vec<String>,
    pub(crate) payload: Option<String>,
    pub(crate) subject: String,
    pub(crate) signing_key_file: Option<PathBuf>,
    pub(crate) legacy: bool,
    /// Since the Unix epoch.
    pub(crate) issued_at: Duration,
    /// `None`: never, in protocol 0.x only.
    pub(crate) expires_in: Option<Duration>,
}

/// How long a publisher's token lasts unless told otherwise: it is kept in the configuration of an application.
pub(crate) const PUBLISHER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a subscriber's token lasts unless told otherwise.
pub(crate) const SUBSCRIBER_LIFETIME: Duration = Duration::from_secs(3600);

/// What a token is asked for.
pub(crate) struct Explain {
    pub(crate) token: Secret,
    /// Whether it is asked to publish or to receive.
    pub(crate) role: Role,
    pub(crate) topics: Vec<String>,
}

/// Since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Mint {
    /// Signs the token with the issuer's key for the role, or with the key file, and lets the hub itself check it.
    ///
    /// # Errors
    /// What cannot be granted or signed.
    pub(crate) async fn sign(&self, issuer: &IssuerConfig, hub: &Checked) -> Result<String, String> {
        if self.legacy && !hub.compat() {
            return Err(
                "--legacy makes a token of protocol 0.x, which this hub does not serve: add --compat"
                    .to_owned(),
            );
        }
        if !self.legacy && self.expires_in.is_none() {
            return Err("--expires-in never: a token of protocol 1.0 expires (RFC 9068, section 2.2), give a time such as \
                        365d; a token of protocol 0.x, which --legacy makes, may last for ever"
                .to_owned());
        }
        let publishes = !self.publish.is_empty() || !self.publish_patterns.is_empty();
        let subscribes = !self.subscribe.is_empty() || !self.subscribe_patterns.is_empty();
        let secret = match (publishes, subscribes) {
            (false, false) => return Err("grant something: --publish or --subscribe".to_owned()),
            (true, false) => &issuer.publisher.key,
            (false, true) => &issuer.subscriber.key,
            (true, true) if issuer.publisher.key == issuer.subscriber.key => &issuer.publisher.key,
            (true, true) => {
                return Err("publishers and subscribers have different keys: make two tokens".to_owned());
            }
        };
        let key = match (&self.signing_key_file, secret) {
            (Some(path), _) => {
                std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?
            }
            (None, Some(secret)) => secret.expose().to_owned(),
            (None, None) => {
                return Err("no key to sign with: give the hub's settings, or --signing-key-file".to_owned());
            }
        };
        let signer = Signer::parse(&key, None).map_err(|error| match error {
            KeyError::Mismatch => {
                "the key cannot sign: a public key only verifies, give the private one as --signing-key-file, in PEM \
                 of the form PKCS#8 (openssl pkcs8 -topk8 -nocrypt)"
                    .to_owned()
            }
            error => format!("the key cannot sign: {error}"),
        })?;
        let file = self.signing_key_file.as_deref();
        if let Some(open) = file.and_then(|path| Warning::for_open_file("signing_key_file", path, true)) {
            tracing::warn!(setting = open.setting, "{}", open.problem);
        }
        let payload: Option<Value> = match &self.payload {
            Some(text) => match serde_json::from_str(text) {
                Ok(Value::Object(object)) => Some(Value::Object(object)),
                _ => return Err("--payload: write a JSON object".to_owned()),
            },
            None => None,
        };
        let claims =
            if self.legacy { self.legacy_claims(payload) } else { self.claims(payload.as_ref(), hub) };
        let token = signer.sign(if self.legacy { "JWT" } else { "at+jwt" }, &claims.to_string());
        let role = if publishes { Role::Publisher } else { Role::Subscriber };
        match hub.verify(&token, role, self.issued_at.as_secs_f64()).await {
            Err(reason) => Err(format!("this hub would refuse the token: {reason}")),
            Ok(_) => Ok(token),
        }
    }

    /// In seconds since the Unix epoch. `None`: never.
    fn expires_at(&self) -> Option<u64> {
        Some(self.issued_at.as_secs().saturating_add(self.expires_in?.as_secs()))
    }

    /// A sentence that says when the token ends.
    pub(crate) fn lifetime(&self) -> String {
        match self
            .expires_at()
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        {
            None => "The token never expires.".to_owned(),
            Some(end) => {
                let end = humantime::format_rfc3339_seconds(end);
                format!("The token expires on {end}. --expires-in sets another time.")
            }
        }
    }

    fn claims(&self, payload: Option<&Value>, hub: &Checked) -> Value {
        let issued_at = self.issued_at.as_secs();
        let matchers = |exact: &[String], patterns: &[String]| -> Vec<Value> {
            let patterns = patterns.iter().map(|text| json!({"match": text, "match_type": "urlpattern"}));
            exact.iter().map(|text| json!({"match": text})).chain(patterns).collect()
        };
        let mut details = Vec::new();
        let mut grant = |action: &str, topics: Vec<Value>, payload: Option<&Value>| {
            if topics.is_empty() {
                return;
            }
            let mut detail = json!({"type": DETAIL_TYPE, "actions": [action], "topics": topics});
            if let Some(payload) = payload {
                detail["payload"] = payload.clone();
            }
            details.push(detail);
        };
        grant("publish", matchers(&self.publish, &self.publish_patterns), None);
        grant("subscribe", matchers(&self.subscribe, &self.subscribe_patterns), payload);
        json!({
            "iss": hub.issuer(),
            "aud": hub.resource(),
            "sub": self.subject,
            "client_id": hub.issuer(),
            "iat": issued_at,
            "exp": self.expires_at(),
            "jti": Uuid::new_v4().urn().to_string(),
            "authorization_details": details,
        })
    }

    fn legacy_claims(&self, payload: Option<Value>) -> Value {
        let mut mercure = Map::new();
        for (name, exact, patterns) in [
            ("publish", &self.publish, &self.publish_patterns),
            ("subscribe", &self.subscribe, &self.subscribe_patterns),
        ] {
            let selectors: Vec<_> = exact.iter().chain(patterns).collect();
            if !selectors.is_empty() {
                mercure.insert(name.to_owned(), json!(selectors));
            }
        }
        mercure.extend(payload.map(|payload| ("payload".to_owned(), payload)));
        let mut claims = Map::from_iter([("mercure".to_owned(), mercure.into())]);
        claims.extend(self.expires_at().map(|end| ("exp".to_owned(), end.into())));
        claims.into()
    }
}

/// The header and the claims of a token, with its times in words. Nothing is verified.
///
/// # Errors
/// If it is no token.
pub(crate) fn inspect(token: &Secret) -> Result<String, String> {
    let text = std::str::from_utf8(token.expose()).unwrap_or_default();
    let parts: Vec<&str> = text.split('.').collect();
    let [header, claims, _] = parts[..] else {
        return Err("this is no token: three parts with dots between them are expected".to_owned());
    };
    let decode = |name: &str, part: &str| {
        let json = URL_SAFE_NO_PAD.decode(part).ok();
        let value = json.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
        value.ok_or_else(|| format!("the {name} of the token is no JSON object in base64url"))
    };
    let (header, claims) = (decode("header", header)?, decode("second part", claims)?);
    let mut out = String::new();
    let pretty = |object: &Map<String, Value>| serde_json::to_string_pretty(object).unwrap_or_default();
    let _ = write!(out, "header {}\nclaims {}", pretty(&header), pretty(&claims));
    let now = SystemTime::now();
    for name in ["iat", "nbf", "exp"] {
        let Some(time) = claims.get(name).and_then(Value::as_f64).and_then(time) else { continue };
        let relation = match time.duration_since(now) {
            Ok(ahead) => format!("in {}", humantime::format_duration(Duration::from_secs(ahead.as_secs()))),
            Err(past) => {
                let ago = Duration::from_secs(past.duration().as_secs());
                format!("{} ago", humantime::format_duration(ago))
            }
        };
        let _ = write!(out, "\n{name}: {} ({relation})", humantime::format_rfc3339_seconds(time));
    }
    out.push_str("\nThe signature was not verified: petasos explain does that.");
    Ok(out)
}

fn time(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

impl Explain {
    /// What the hub makes of the token, and whether it allows what is asked.
    pub(crate) async fn run(&self, hub: &Checked) -> (bool, String) {
        let text = std::str::from_utf8(self.token.expose()).unwrap_or_default();
        let verified = match hub.verify(text, self.role, now().as_secs_f64()).await {
            Ok(verified) => verified,
            Err(reason @ TokenError::KeysUnavailable { .. }) => {
                return (false, format!("refused (503): {reason}"));
            }
            Err(reason) => return (false, format!("refused (401): {reason}")),
        };
        let (matchers, claim) = match (self.role, verified.dialect) {
            (Role::Publisher, Dialect::V1) => {
                (&verified.grants.publish, "authorization_details, action publish")
            }
            (Role::Subscriber, Dialect::V1) => {
                (&verified.grants.subscribe, "authorization_details, action subscribe")
            }
            (Role::Publisher, Dialect::Legacy) => (&verified.grants.publish, "mercure.publish"),
            (Role::Subscriber, Dialect::Legacy) => (&verified.grants.subscribe, "mercure.subscribe"),
        };
        let mut lines = vec![format!(
            "the token is valid ({})",
            match verified.dialect {
                Dialect::V1 => "protocol 1.0",
                Dialect::Legacy => "protocol 0.x",
            }
        )];
        let mut allowed = Vec::new();
        for topic in &self.topics {
            let matcher = {
                let topic = Topic::unchecked(topic, hub.url());
                matchers.iter().find(|matcher| matcher.matches(&topic))
            };
            allowed.push(matcher.is_some());
            lines.push(match matcher {
                Some(matcher) => format!("{topic:?}: granted by {} of {claim}", named(matcher)),
                None => format!("{topic:?}: granted by none of the {} matchers of {claim}", matchers.len()),
            });
        }
        let (decision, rule) = match self.role {
            Role::Publisher => (allowed.iter().all(|each| *each), "every topic of an update must be granted"),
            Role::Subscriber => {
                (allowed.iter().any(|each| *each), "one topic of a private update must be granted")
            }
        };
        lines.push(format!(
            "{} ({rule})",
            match (decision, self.role) {
                (true, _) => "allowed",
                (false, Role::Publisher) => "refused (403)",
                (false, Role::Subscriber) => "not delivered",
            }
        ));
        (decision, lines.join("\n"))
    }
}

fn named(matcher: &Matcher) -> String {
    let kind = matcher.matcher_type().map_or("URI template", |matcher_type| matcher_type.as_str());
    format!("{kind} {:?}", matcher.as_str())
}
