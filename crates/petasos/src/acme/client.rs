//! HTTP to the authority: over TLS only, each answer within its time and its length.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use tokio::time::timeout;

use super::schedule::ASKED_MAX;

/// A client of one authority. Clones share it.
#[derive(Clone)]
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// When the authority wants to be asked again that was asked too much, as it has said last.
    asked_for: Arc<Mutex<Option<SystemTime>>>,
}

/// The longest answer: a chain of certificates is far shorter.
const BYTES_MAX: usize = 1024 * 1024;

/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Authorities ask for a name with a version.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("petasos/", env!("CARGO_PKG_VERSION")));

impl Client {
    /// `roots`: the certificates that the authority's own one must be signed with, instead of those that the system believes.
    ///
    /// # Errors
    /// In words, if there are none that can be used.
    pub(super) fn new(roots: Option<Vec<CertificateDer<'static>>>) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = match roots {
            Some(roots) => {
                let mut store = RootCertStore::empty();
                for root in roots {
                    store.add(root).map_err(|error| format!("acme_ca: {error}"))?;
                }
                config.with_root_certificates(store)
            }
            None => config.with_native_roots().map_err(|error| {
                format!(
                    "this system's root certificates cannot be read ({error}): install them, or name them with \
                     SSL_CERT_FILE"
                )
            })?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth());
        let inner = legacy::Client::builder(TokioExecutor::new());
        let inner = inner.build(connector.https_only().enable_http1().build());
        Ok(Self { inner, asked_for: Arc::default() })
    }

    /// When the authority wants to be asked again, if it has said so since the last call.
    pub(super) fn take_asked_for(&self) -> Option<SystemTime> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether an authority answers at a URL. It learns nothing but that.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn probe(&self, directory: &str) -> Result<(), String> {
        let mut request = Request::new(BodyWrapper::default());
        *request.uri_mut() = directory.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let mut answer = self.request(request).await.map_err(|error| error.to_string())?;
        let body = answer.body.into_bytes().await.map_err(|error| error.to_string())?;
        let found: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        match found.is_some_and(|found| found["newOrder"].is_string()) {
            true => Ok(()),
            false => Err("it does not answer as an authority does: correct acme_directory".to_owned()),
        }
    }

    async fn exchange(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        let other = |error: String| Error::Other(error.into());
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let answer = self.inner.request(request).await;
        let answer = answer.map_err(|error| other(format!("{host}: {}", with_causes(&error))))?;
        let (mut parts, body) = answer.into_parts();
        bound_retry_after(&mut parts.headers);
        let is_busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        if is_busy.contains(&parts.status)
            && let Some(time) = parts.headers.get(header::RETRY_AFTER).and_then(retry_after)
        {
            *self.asked_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
        }
        let body = Limited::new(body, BYTES_MAX).collect().await;
        let body = body.map_err(|error| other(format!("{host}: {error}")))?.to_bytes();
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = timeout(TIME_MAX, self.clone().exchange(request));
        Box::pin(async {
            exchange
                .await
                .unwrap_or_else(|_| Err(Error::Other("the authority does not answer in time".into())))
        })
    }
}

/// Replaces a longer pause by the longest that counts. `instant_acme` adds the seconds to the time of day without a check, and a sum
/// beyond all times would be a panic.
fn bound_retry_after(headers: &mut HeaderMap) {
    let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
    let longest = ASKED_MAX.as_secs();
    if headers.get(header::RETRY_AFTER).and_then(seconds).is_some_and(|seconds| seconds > longest) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(longest));
    }
}

/// A time, or seconds from now (RFC 9110, section 10.2.3).
fn retry_after(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => SystemTime::now().checked_add(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}

/// An error and what has caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_time_or_seconds_from_now() {
        let at = |text: &str| retry_after(&HeaderValue::from_str(text).expect("a value"));
        let soon = at("120").expect("seconds").duration_since(SystemTime::now()).expect("later");
        assert!((100..=120).contains(&soon.as_secs()), "{soon:?}");
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(24 * 3600);
        assert_eq!(at("Fri, 02 Jan 1970 00:00:00 GMT"), Some(day));
        for wrong in ["", "soon", "-1", "99999999999999999999999"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_authority_is_asked_over_tls_only() {
        let client = Client::new(Some(Vec::new())).expect("a client");
        let problem = client.probe("http://127.0.0.1:1/dir").await.expect_err("it is in clear");
        assert!(problem.starts_with("127.0.0.1:1: "), "{problem}");
    }

    #[test]
    fn a_pause_that_an_authority_asks_for_is_bounded() {
        let longest = ASKED_MAX.as_secs().to_string();
        for (asked, counts) in [
            ("1", "1"),
            ("18446744073709551615", &*longest),
            (" 9223372036854775807 ", &*longest),
            ("-1", "-1"),
            ("Sat, 28 Nov 2026 14:00:00 GMT", "Sat, 28 Nov 2026 14:00:00 GMT"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(asked));
            bound_retry_after(&mut headers);
            assert_eq!(headers[header::RETRY_AFTER], counts);
            assert!(asked == "-1" || retry_after(&headers[header::RETRY_AFTER]).is_some(), "{asked}");
        }
        let mut headers = HeaderMap::new();
        bound_retry_after(&mut headers);
        assert!(headers.is_empty());
    }
}
