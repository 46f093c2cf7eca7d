//! Every failure of a request, and the one place where failures become answers.

use http::{HeaderValue, Method, Response, StatusCode, header};
use petasos_hub::{SubscribeError, TransportError};
use petasos_protocol::Reject;
use uuid::Uuid;

use crate::{
    http::{admission::Full, body::Body},
    metrics::requests::{PublishResult, RefusalKind},
};

/// A request that is not carried out; nothing has happened.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request breaks a rule of the protocol.
    Reject(Reject),
    /// Without the one `Host` that HTTP/1.1 demands (RFC 9112, section 3.2), or with two hosts in HTTP/2 (RFC 9113, section 8.3.1).
    HostMissing,
    /// A token is needed and there is none (RFC 6750, section 3.1: no error code).
    TokenMissing {
        /// Whether there is an `Authorization` header with another scheme than Bearer.
        other_scheme: bool,
        /// Whether a subscriber lacks it, who needs none if the settings say so.
        subscribes: bool,
    },
    /// A token was presented in a way that RFC 6750 does not know.
    TokenMalformed(&'static str),
    /// The token is not valid. The client learns no more; the precise reason is in the log.
    TokenInvalid {
        /// The id under which the log has the reason.
        request: Uuid,
        /// The tokens that were verified.
        presented: Tried,
    },
    /// The token is valid and does not allow this.
    Forbidden,
    /// A publisher has shown no client certificate and needs one.
    CertificateMissing,
    /// A cookie or a client certificate on a request that another site may have made.
    ForeignOrigin,
    /// No such resource.
    NotFound,
    /// No path of the subscription API, but a longer one that begins like it: perhaps a proxy has decoded encoded
    /// slashes.
    PathDecoded,
    /// The resource has no such method.
    MethodNotAllowed { allow: &'static str },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body ended early or was malformed.
    BodyBroken,
    /// The body has a coding, such as gzip.
    ContentEncoded,
    /// The body has a transfer coding beside `chunked`, which this server does not take apart.
    TransferEncoded,
    /// A limit on streams is reached.
    TooManyStreams(Full),
    /// The log or an issuer's keys cannot be reached, a bound of memory is reached, or the hub stops.
    Unavailable {
        /// The id under which the log says more.
        request: Option<Uuid>,
    },
    /// The matchers of all subscribers take as many bytes as they may.
    NoRoom,
    /// The limit of lists that are read at once is reached.
    TooManyListings,
    /// The log's disk is full.
    StorageFull,
}

/// The tokens of a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The only token that was presented.
    One,
    /// Each of several different tokens in the hub's cookies.
    Several,
    /// This many of the different tokens in the hub's cookies. The others were not verified.
    First(usize),
}

/// The time after which a client may try again, in seconds.
const RETRY_AFTER: &str = "5";

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Reject(Reject::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Reject(_) | Self::HostMissing | Self::TokenMalformed(_) | Self::BodyBroken => {
                StatusCode::BAD_REQUEST
            }
            Self::TokenMissing { .. } | Self::TokenInvalid { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::CertificateMissing | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound | Self::PathDecoded => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ContentEncoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // RFC 9112, section 6.1.
            Self::TransferEncoded => StatusCode::NOT_IMPLEMENTED,
            Self::TooManyStreams(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } | Self::NoRoom | Self::TooManyListings => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// What it counts as.
    pub(crate) fn kind(&self) -> RefusalKind {
        (self.status().as_u16(), self.code())
    }

    /// All kinds that there are.
    pub(crate) fn kinds() -> Vec<RefusalKind> {
        let rejects = Reject::CODES.iter().map(|code| (if *code == "too-large" { 413 } else { 400 }, *code));
        KINDS.iter().copied().chain(rejects).collect()
    }

    /// What the refusal of a request that publishes counts as.
    pub(crate) fn publish_result(&self) -> PublishResult {
        if self.status().is_server_error() { PublishResult::Failed } else { PublishResult::Refused }
    }

    /// Whether the same request may succeed later, without a change.
    pub(crate) fn will_pass(&self) -> bool {
        match self {
            Self::TooManyStreams(_)
            | Self::Unavailable { .. }
            | Self::NoRoom
            | Self::TooManyListings
            | Self::StorageFull => true,
            Self::Reject(_)
            | Self::HostMissing
            | Self::TokenMissing { .. }
            | Self::TokenMalformed(_)
            | Self::TokenInvalid { .. }
            | Self::Forbidden
            | Self::CertificateMissing
            | Self::ForeignOrigin
            | Self::NotFound
            | Self::PathDecoded
            | Self::MethodNotAllowed { .. }
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::ContentEncoded
            | Self::TransferEncoded => false,
        }
    }

    /// A stable name, the end of the problem's `type`.
    fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::HostMissing => "host-missing",
            Self::TokenMissing { .. } => "token-missing",
            Self::TokenMalformed(_) => "token-malformed",
            Self::TokenInvalid { .. } => "token-invalid",
            Self::Forbidden => "forbidden",
            Self::CertificateMissing => "certificate-missing",
            Self::ForeignOrigin => "foreign-origin",
            Self::NotFound | Self::PathDecoded => "not-found",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::BodyTimeout => "body-timeout",
            Self::BodyBroken => "body-broken",
            Self::ContentEncoded => "content-encoding",
            Self::TransferEncoded => "transfer-encoding",
            Self::TooManyStreams(_) => "too-many-streams",
            Self::Unavailable { .. } => "unavailable",
            Self::NoRoom => "no-room",
            Self::TooManyListings => "too-many-listings",
            Self::StorageFull => "storage-full",
        }
    }

    /// What happened, and what to change.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Reject(reject) => reject.to_string(),
            Self::HostMissing => "a request needs exactly one host: a Host header, or :authority in HTTP/2 and no other host beside it".to_owned(),
            Self::TokenMissing { other_scheme, subscribes } => {
                let needed = match other_scheme {
                    false => {
                        "a token is needed: send it in the Authorization header (Bearer) or in the hub's cookie"
                    }
                    true => {
                        "a token is needed, and the request has none: the scheme of its Authorization header is not \
                         Bearer. Send the token with that scheme, or in the hub's cookie"
                    }
                };
                let anonymous = match subscribes {
                    true => {
                        ". A hub lets subscribers in without a token if its setting \"anonymous\" is on (--anonymous; \
                         in Flask MERCURE_HUB_ALLOW_ANONYMOUS)"
                    }
                    false => "",
                };
                format!("{needed}{anonymous}")
            }
            Self::TokenMalformed(detail) => (*detail).to_owned(),
            Self::TokenInvalid { presented, .. } => {
                let what = match presented {
                    Tried::One => "the token is not valid for this hub:".to_owned(),
                    Tried::Several => "none of the tokens in the hub's cookies is valid for this hub:".to_owned(),
                    Tried::First(tried) => format!(
                        "none of the first {tried} tokens in the hub's cookies is valid for this hub, and the others \
                         were not verified: delete stale cookies;"
                    ),
                };
                format!(
                    "{what} its key, its dialect (0.x or 1.0), its claims or its expiry; the hub's log names the reason \
                     under this request's id, as does the command \"petasos explain\""
                )
            }
            Self::Forbidden => {
                "the token does not allow this: it must grant every topic that is published, or the path \
                 that is read"
                    .to_owned()
            }
            Self::CertificateMissing => {
                "this hub takes updates only from clients that show a certificate: connect again with one that has not expired and \
                 that an authority in the hub's setting \"tls_client_ca\" has signed, beside the token"
                    .to_owned()
            }
            Self::ForeignOrigin => {
                "a cookie or a client certificate may publish only from the hub's own origin or an allowed publish origin: \
                 send an Origin header, or the token in the Authorization header"
                    .to_owned()
            }
            Self::NotFound => "there is nothing at this path".to_owned(),
            Self::PathDecoded => {
                "there is nothing at this path: it has more segments than a path of the subscription API. If a topic in it \
                 had encoded slashes (%2F), a proxy has decoded them: with nginx, write proxy_pass without a path, also \
                 without \"/\" at its end"
                    .to_owned()
            }
            Self::MethodNotAllowed { allow } => format!("this resource answers {allow} only"),
            Self::BodyTimeout => "the body did not arrive in time".to_owned(),
            Self::BodyBroken => "the body could not be read to its end".to_owned(),
            Self::TransferEncoded => {
                "the body has a coding beside \"chunked\": send it without, and name no other in the header Transfer-Encoding"
                    .to_owned()
            }
            Self::ContentEncoded => {
                "the hub decodes no body: send it as it is, without the header Content-Encoding".to_owned()
            }
            Self::TooManyStreams(full) => {
                let holder = match full {
                    Full::Total => "the hub has",
                    Full::Address => "this address has",
                    Full::Token => "this token has",
                };
                format!("{holder} as many streams as it may have: close one, or try again later")
            }
            Self::Unavailable { .. } => "the hub cannot do this at the moment: try again later".to_owned(),
            Self::NoRoom => {
                "the hub has no room for these matchers beside those of its other subscribers: use fewer or shorter \
                 ones, or try again later"
                    .to_owned()
            }
            Self::TooManyListings => {
                "too many lists of subscriptions are being read at the moment: try again later".to_owned()
            }
            Self::StorageFull => {
                "the hub has no room to store the update: it was not published; its operator has to make room"
                    .to_owned()
            }
        }
    }

    /// Logs the refusal, and returns the id of its request: every answer has it, so that a line of the client's log leads to
    /// the line of the hub's log.
    pub(crate) fn log(&self) -> Uuid {
        let request = match self {
            Self::TokenInvalid { request, .. } | Self::Unavailable { request: Some(request) } => *request,
            _ => Uuid::new_v4(),
        };
        tracing::debug!(%request, status = self.status().as_u16(), reason = self.code(), "a request was refused");
        request
    }

    /// The answer: `application/problem+json` (RFC 9457), with the challenge of RFC 6750 where there is one.
    pub(crate) fn into_response(self, method: &Method, metadata_url: Option<&str>) -> Response<Body> {
        let status = self.status();
        let request = self.log();
        let problem = serde_json::json!({
            "type": format!("urn:petasos:problem:{}", self.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.detail(),
            "instance": request.urn().to_string(),
        });
        let body = if method == Method::HEAD { Body::empty() } else { Body::full(problem.to_string()) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let challenge = match &self {
            Self::TokenMissing { .. } => Some(""),
            Self::TokenInvalid { .. } => Some(", error=\"invalid_token\""),
            Self::TokenMalformed(_) => Some(", error=\"invalid_request\""),
            Self::Forbidden => Some(", error=\"insufficient_scope\""),
            _ => None,
        };
        if let Some(error) = challenge {
            let metadata =
                metadata_url.map(|url| format!(", resource_metadata=\"{url}\"")).unwrap_or_default();
            // A URL is ASCII without quotes.
            if let Ok(value) = HeaderValue::try_from(format!("Bearer realm=\"mercure\"{error}{metadata}")) {
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
        }
        if matches!(self, Self::TooManyStreams(_)) {
            // Many clients may be refused. If they kept their connections, none would be left for publishers.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            // RFC 9110, section 15.5.16.
            Self::ContentEncoded => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            refusal if refusal.will_pass() => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            _ => {}
        }
        response
    }
}

/// The kinds of all refusals but those that `petasos_protocol` knows.
const KINDS: &[RefusalKind] = &[
    (400, "host-missing"),
    (400, "token-malformed"),
    (400, "body-broken"),
    (401, "token-missing"),
    (401, "token-invalid"),
    (403, "forbidden"),
    (403, "certificate-missing"),
    (403, "foreign-origin"),
    (404, "not-found"),
    (405, "method-not-allowed"),
    (408, "body-timeout"),
    (415, "content-encoding"),
    (429, "too-many-streams"),
    (501, "transfer-encoding"),
    (503, "unavailable"),
    (503, "no-room"),
    (503, "too-many-listings"),
    (507, "storage-full"),
];

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<TransportError> for Refusal {
    fn from(error: TransportError) -> Self {
        // The transport logs once that its store is unavailable and once that it is back. This would repeat it for each
        // request.
        tracing::debug!(%error, "the log could not be used");
        match error {
            TransportError::Full(_) => Self::StorageFull,
            _ => Self::Unavailable { request: None },
        }
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Transport(error) => error.into(),
            SubscribeError::NoRoom => Self::NoRoom,
            _ => Self::Unavailable { request: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each variant, with the status and the challenge of its answer.
    fn all() -> Vec<(Refusal, u16, Option<&'static str>)> {
        let request = Uuid::nil();
        let (invalid, malformed) = (Some("invalid_token"), Some("invalid_request"));
        vec![
            (Reject::ContentType.into(), 400, None),
            (Reject::TooLarge { what: "the body in bytes", max: 1 }.into(), 413, None),
            (Refusal::HostMissing, 400, None),
            (Refusal::TokenMissing { other_scheme: false, subscribes: true }, 401, Some("")),
            (Refusal::TokenMissing { other_scheme: true, subscribes: false }, 401, Some("")),
            (Refusal::TokenMalformed("detail"), 400, malformed),
            (Refusal::TokenInvalid { request, presented: Tried::One }, 401, invalid),
            (Refusal::TokenInvalid { request, presented: Tried::Several }, 401, invalid),
            (Refusal::TokenInvalid { request, presented: Tried::First(8) }, 401, invalid),
            (Refusal::Forbidden, 403, Some("insufficient_scope")),
            (Refusal::CertificateMissing, 403, None),
            (Refusal::ForeignOrigin, 403, None),
            (Refusal::NotFound, 404, None),
            (Refusal::PathDecoded, 404, None),
            (Refusal::MethodNotAllowed { allow: "GET" }, 405, None),
            (Refusal::BodyTimeout, 408, None),
            (Refusal::BodyBroken, 400, None),
            (Refusal::ContentEncoded, 415, None),
            (Refusal::TransferEncoded, 501, None),
            (Refusal::TooManyStreams(Full::Total), 429, None),
            (Refusal::TooManyStreams(Full::Address), 429, None),
            (Refusal::TooManyStreams(Full::Token), 429, None),
            (Refusal::Unavailable { request: None }, 503, None),
            (Refusal::Unavailable { request: Some(request) }, 503, None),
            (Refusal::NoRoom, 503, None),
            (Refusal::TooManyListings, 503, None),
            (Refusal::StorageFull, 507, None),
        ]
    }

    #[test]
    fn every_refusal_has_its_status_its_challenge_and_its_time() {
        for (refusal, status, error) in all() {
            let shown = format!("{refusal:?}");
            assert!(refusal.detail().len() > 5 && !refusal.code().is_empty(), "{shown}");
            let is_temporary = matches!(status, 429 | 503 | 507);
            let response = refusal.into_response(&Method::GET, Some("https://hub.example/metadata"));
            assert_eq!(response.status(), status, "{shown}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), is_temporary, "{shown}");
            assert_eq!(response.headers().contains_key(header::ALLOW), status == 405, "{shown}");
            assert_eq!(response.headers().contains_key(header::CONNECTION), status == 429, "{shown}");
            let challenge = response.headers().get(header::WWW_AUTHENTICATE);
            let challenge = challenge.map(|value| value.to_str().expect("ASCII").to_owned());
            let expected = error.map(|error| {
                let error = if error.is_empty() { String::new() } else { format!(", error=\"{error}\"") };
                format!("Bearer realm=\"mercure\"{error}, resource_metadata=\"https://hub.example/metadata\"")
            });
            assert_eq!(challenge, expected, "{shown}");
        }
    }

    #[test]
    fn every_refusal_counts_as_a_kind_that_is_listed() {
        let kinds = Refusal::kinds();
        let counted: std::collections::BTreeSet<_> =
            all().iter().map(|(refusal, ..)| refusal.kind()).collect();
        assert!(counted.iter().all(|kind| kinds.contains(kind)), "{counted:?}");
        assert!(KINDS.iter().all(|kind| counted.contains(kind)), "a kind that no refusal has");
        assert_eq!(kinds.iter().collect::<std::collections::BTreeSet<_>>().len(), kinds.len());
        for code in Reject::CODES {
            assert!(kinds.iter().any(|(_, reason)| reason == code), "{code}");
        }
    }

    #[test]
    fn a_subscriber_without_a_token_reads_which_setting_lets_everybody_in() {
        for other_scheme in [true, false] {
            let detail = |subscribes| Refusal::TokenMissing { other_scheme, subscribes }.detail();
            assert!(detail(true).starts_with(&detail(false)));
            assert!(detail(true).contains("--anonymous") && !detail(false).contains("--anonymous"));
        }
    }

    #[test]
    fn failures_of_the_log_are_answered_by_what_they_mean() {
        let status = |error: TransportError| Refusal::from(error).status().as_u16();
        assert_eq!(status(TransportError::Full("no room".into())), 507);
        assert_eq!(status(TransportError::Failed("a disk".into())), 503);
        assert_eq!(status(TransportError::Closed), 503);
        assert_eq!(Refusal::from(SubscribeError::NoRoom).code(), "no-room");
        assert_eq!(Refusal::from(SubscribeError::Stopping).code(), "unavailable");
    }
}
