//! How clients discover a hub: its protected resource metadata (RFC 9728; section "Protected Resource Metadata") and the
//! `Link` header field (section "Hub Discovery").

use serde::Serialize;

use crate::{matcher::MatcherType, token::details::DETAIL_TYPE, topic::HubUrl};

/// What a hub says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The resource identifier, the `aud` of its tokens.
    pub resource: String,
    /// Issuers that clients can ask for tokens.
    pub authorization_servers: Vec<String>,
    /// The cookie that may carry a token.
    pub cookie: String,
    /// Whether active subscriptions are announced and listed.
    pub subscriptions: bool,
}

impl Metadata {
    /// The path of the document: the well-known one, and the hub's own after it (RFC 9728, section 3.1).
    ///
    /// ```
    /// use petasos_protocol::{discovery::Metadata, topic::HubUrl};
    /// assert_eq!(
    ///     Metadata::path(&HubUrl::default()),
    ///     "/.well-known/oauth-protected-resource/.well-known/mercure"
    /// );
    /// ```
    pub fn path(hub: &HubUrl) -> String {
        format!("/.well-known/oauth-protected-resource{}", hub.path())
    }

    /// The JSON document.
    pub fn document(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            resource: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            authorization_servers: &'a [String],
            authorization_details_types_supported: [&'a str; 1],
            bearer_methods_supported: [&'a str; 1],
            mercure_cookie: &'a str,
            mercure_matcher_types_supported: [&'a str; 2],
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            mercure_subscriptions: bool,
        }
        let document = Document {
            resource: &self.resource,
            authorization_servers: &self.authorization_servers,
            authorization_details_types_supported: [DETAIL_TYPE],
            bearer_methods_supported: ["header"],
            mercure_cookie: &self.cookie,
            mercure_matcher_types_supported: MatcherType::ALL.map(MatcherType::as_str),
            mercure_subscriptions: self.subscriptions,
        };
        serde_json::to_string(&document).expect("strings and booleans always serialize")
    }
}

/// The value of a `Link` header field that points to the hub from the subscription API, with the cursor to subscribe
/// from (section "Subscription API").
///
/// ```
/// let link = petasos_protocol::discovery::subscriptions_link("https://example.com/.well-known/mercure", "a\"b");
/// assert!(link.contains(r#"last-event-id="a\"b""#));
/// ```
pub fn subscriptions_link(hub: &str, last_event_id: &str) -> String {
    let quoted = last_event_id.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "<{hub}>; rel=\"mercure\"; last-event-id=\"{quoted}\"; type=\"mercure\"; content-type=\"application/json\""
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_path_of_the_document_ends_with_the_hubs() {
        let hub = HubUrl::parse("https://example.com/a/hub").expect("a URL");
        assert_eq!(Metadata::path(&hub), "/.well-known/oauth-protected-resource/a/hub");
    }

    #[test]
    fn the_cursor_of_a_link_is_quoted() {
        let link = subscriptions_link("https://example.com/hub", "a\"\\b");
        let quoted = r#"last-event-id="a\"\\b""#;
        assert_eq!(
            link,
            format!(
                r#"<https://example.com/hub>; rel="mercure"; {quoted}; type="mercure"; content-type="application/json""#
            )
        );
    }

    #[test]
    fn the_document_has_what_is_set_and_leaves_out_what_is_not() {
        let metadata = Metadata {
            resource: "https://example.com/.well-known/mercure".to_owned(),
            authorization_servers: vec!["https://auth.example.com".to_owned()],
            cookie: "__Secure-mercure_access_token".to_owned(),
            subscriptions: true,
        };
        let document: Value = serde_json::from_str(&metadata.document()).expect("JSON");
        assert_eq!(
            document,
            json!({
                "resource": "https://example.com/.well-known/mercure",
                "authorization_servers": ["https://auth.example.com"],
                "authorization_details_types_supported": ["https://mercure.rocks/authorization-detail"],
                "bearer_methods_supported": ["header"],
                "mercure_cookie": "__Secure-mercure_access_token",
                "mercure_matcher_types_supported": ["exact", "urlpattern"],
                "mercure_subscriptions": true,
            })
        );
        let bare = Metadata { authorization_servers: Vec::new(), subscriptions: false, ..metadata };
        let document: Value = serde_json::from_str(&bare.document()).expect("JSON");
        assert!(
            document.get("authorization_servers").is_none()
                && document.get("mercure_subscriptions").is_none()
        );
    }
}
