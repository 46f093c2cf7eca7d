//! Protocol 1.0, request by request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petasos_auth::{Algorithm, Issuer, Issuers, Key, Signer};
use petasos_server::{Settings, StreamLimits};
use serde_json::{Value, json};

use crate::client::{Answer, HUB, Server, Stream, header, settings as both};

const RESOURCE: &str = "https://example.com/.well-known/mercure";
const ISSUER: &str = "https://example.com";
const DETAIL: &str = "https://mercure.rocks/authorization-detail";

/// Compat off.
fn settings() -> Settings {
    let both = both();
    Settings { issuers: Issuers { compat: false, ..both.issuers.clone() }, advertise: true, ..both }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn detail(action: &str, topics: &Value) -> Value {
    json!({"type": DETAIL, "actions": [action], "topics": topics})
}

fn claims(details: &Value) -> Value {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "s", "client_id": "c", "iat": now(), "exp": now() + 300, "jti": "j",
        "authorization_details": details,
    })
}

fn sign(secret: &str, claims: &Value) -> String {
    Signer::parse(secret, None).expect("a key").sign("at+jwt", &claims.to_string())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn publisher(topics: &Value) -> String {
    bearer(&sign("publisher", &claims(&json!([detail("publish", topics)]))))
}

fn subscriber_token(topics: &Value) -> String {
    sign("subscriber", &claims(&json!([detail("subscribe", topics)])))
}

fn subscriber(topics: &Value) -> String {
    bearer(&subscriber_token(topics))
}

async fn publish(server: &Server, body: &str) -> Answer {
    server.publish_with(&publisher(&json!([{"match": "*"}])), body.as_bytes()).await
}

/// The next event's value of a field.
async fn field(stream: &mut Stream, name: &str) -> Option<String> {
    let event = stream.event().await;
    event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
}

fn problem(answer: &Answer) -> String {
    let document: Value = serde_json::from_str(&answer.body).expect("problem details");
    document["type"].as_str().expect("a type").trim_start_matches("urn:petasos:problem:").to_owned()
}

#[tokio::test]
async fn matchers_of_every_type_receive_and_others_do_not() {
    let server = Server::start(settings()).await;
    let topic = "https://example.com/books/1";
    let mut streams = Vec::new();
    for query in [
        "match=https://example.com/books/1",
        "match_exact=https://example.com/books/1",
        "match_urlpattern=https://example.com/books/:id",
        "match=*",
        "match_urlpattern=*",
        "match=other&match_urlpattern=https://*.com/books/(\\d%2B)",
        "match=alternate",
    ] {
        streams.push(server.subscribe(query, &[]).await);
    }
    let mut others = Vec::new();
    for query in [
        "match=https://example.com/books/:id",
        "match_urlpattern=https://example.com/:id",
        "match=HTTPS://example.com/books/1",
        "match_urlpattern=https://example.com/Books/:id",
    ] {
        others.push(server.subscribe(query, &[]).await);
    }
    assert_eq!(publish(&server, &format!("topic={topic}&topic=alternate&id=1")).await.body, "1");
    assert_eq!(
        publish(&server, "topic=last&topic=https://example.com/books/:id&topic=https://example.com/x&id=2")
            .await
            .status,
        200
    );
    for stream in &mut streams {
        assert_eq!(field(stream, "id").await.as_deref(), Some("1"));
    }
    assert_eq!(field(&mut others[0], "id").await.as_deref(), Some("2"));
    assert_eq!(field(&mut others[1], "id").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn bad_matchers_are_refused() {
    let server = Server::start(settings()).await;
    let many: Vec<String> = (0..101).map(|number| format!("match={number}")).collect();
    let long = format!("match={}", "a".repeat(4_097));
    for (query, code) in [
        ("", "matcher-missing"),
        ("topic=a", "selector-unsupported"),
        ("match=a&topic=a", "selector-unsupported"),
        ("match_regexp=a", "matcher-unsupported"),
        ("match_URLPattern=a", "matcher-unsupported"),
        ("Match=a", "matcher-unsupported"),
        ("matching=a", "matcher-unsupported"),
        ("match=a%00", "character-forbidden"),
        ("match=a%E2%80%8B", "character-forbidden"),
        ("match=%FF", "not-utf8"),
        ("match_urlpattern=https://example.com/(", "pattern-invalid"),
        ("match_urlpattern=https://example.com/((?=a)b)", "pattern-invalid"),
        (&many.join("&"), "too-many"),
        (&long, "too-many"),
    ] {
        let answer = server.request("GET", &format!("{HUB}?{query}"), &[], b"").await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, code), "{query}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn query_subscribes_with_the_union_of_query_component_and_body() {
    let server = Server::start(settings()).await;
    for id in ["1", "2", "3"] {
        publish(&server, &format!("topic=a&id={id}")).await;
    }
    let form = "Content-Type: application/x-www-form-urlencoded";
    let body = "match_urlpattern=/b/:c&last_event_id=1";
    let length = format!("Content-Length: {}", body.len());
    let target = format!("{HUB}?match=a&last_event_id=2");
    let mut stream = server.stream("QUERY", &target, &[form, &length], body.as_bytes()).await;
    assert!(stream.head.contains("mercure-last-event-id: 2\r\n"), "{}", stream.head);
    assert_eq!(field(&mut stream, "id").await.as_deref(), Some("3"));
    publish(&server, "topic=/b/1&id=4").await;
    assert_eq!(field(&mut stream, "id").await.as_deref(), Some("4"));
    for (headers, body, status, code) in [
        (&[][..], "match=a", 400, "content-type"),
        (&[form], "match_x=a", 400, "matcher-unsupported"),
        (&[form], "", 400, "matcher-missing"),
        (&[form], &*format!("match=a&x={}", "y".repeat(1_048_577)), 413, "too-large"),
    ] {
        let answer = server.request("QUERY", HUB, headers, body.as_bytes()).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code));
    }
}

#[tokio::test]
async fn private_updates_follow_the_grants_of_the_whole_update() {
    let server = Server::start(settings()).await;
    let patterns = json!([{"match": "https://example.com/users/42/*", "match_type": "urlpattern"}]);
    let routed = "match_urlpattern=https://example.com/books/:id";
    let mut narrow = server.subscribe(routed, &[&subscriber(&patterns)]).await;
    let mut exact =
        server.subscribe("match=*", &[&subscriber(&json!([{"match": "https://example.com/books/2"}]))]).await;
    let mut anonymous = server.subscribe(routed, &[]).await;
    publish(
        &server,
        "topic=https://example.com/books/1&topic=https://example.com/users/42/books/1&private=on&id=1",
    )
    .await;
    publish(&server, "topic=https://example.com/books/2&private&id=2").await;
    publish(&server, "topic=https://example.com/books/3&id=3").await;
    assert_eq!(field(&mut narrow, "id").await.as_deref(), Some("1"));
    assert_eq!(field(&mut narrow, "id").await.as_deref(), Some("3"));
    assert_eq!(field(&mut exact, "id").await.as_deref(), Some("2"));
    assert_eq!(field(&mut exact, "id").await.as_deref(), Some("3"));
    assert_eq!(field(&mut anonymous, "id").await.as_deref(), Some("3"));
    // The same for what is replayed, with the token of now.
    let mut replayed =
        server.subscribe(&format!("{routed}&last_event_id=earliest"), &[&subscriber(&patterns)]).await;
    assert_eq!(field(&mut replayed, "id").await.as_deref(), Some("1"));
    assert_eq!(field(&mut replayed, "id").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn publishing_needs_a_grant_for_every_topic() {
    let server = Server::start(settings()).await;
    let some = publisher(&json!([{"match": "a"}, {"match": "/b/:c", "match_type": "urlpattern"}]));
    assert_eq!(server.publish_with(&some, b"topic=a&topic=/b/1").await.status, 200);
    for refused in ["topic=a&topic=c", "topic=c&topic=a"] {
        let answer = server.publish_with(&some, refused.as_bytes()).await;
        assert_eq!(answer.status, 403);
        assert!(
            answer.header("www-authenticate").expect("a challenge").contains("error=\"insufficient_scope\"")
        );
    }
    let none = bearer(&sign("publisher", &claims(&json!([]))));
    assert_eq!(server.publish_with(&none, b"topic=a").await.status, 403);
    // Whatever the token grants, these are wrong.
    for wrong in ["topic=*", "topic=/.well-known/mercure/x", "topic=a&type=mercure", "topic=a&id=earliest"] {
        assert_eq!(server.publish_with(&none, wrong.as_bytes()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn invalid_tokens_are_refused_with_one_reason_for_all() {
    let other = Issuer {
        id: "https://other.example".to_owned(),
        publisher: vec![Key::parse("other", &[Algorithm::HS512]).expect("a key")].into(),
        subscriber: vec![].into(),
        authorization_server: false,
    };
    let mut settings = settings();
    settings.issuers.trusted.push(other);
    let server = Server::start(settings).await;
    let good = claims(&json!([detail("publish", &json!([{"match": "*"}]))]));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        claims
    };
    let signer = |secret: &str, algorithm| Signer::parse(secret, Some(algorithm)).expect("a key");
    let from_other = with("iss", json!("https://other.example")).to_string();
    let accepted = [
        sign("publisher", &good),
        sign("publisher", &with("aud", json!(["x", RESOURCE]))),
        signer("publisher", Algorithm::HS384).sign("application/AT+JWT", &good.to_string()),
        signer("other", Algorithm::HS512).sign("at+jwt", &from_other),
    ];
    for token in &accepted {
        assert_eq!(server.publish_with(&bearer(token), b"topic=a").await.status, 200);
    }
    let refused = [
        ("a subscriber's key", sign("subscriber", &good)),
        ("another key", sign("x", &good)),
        ("typ JWT", signer("publisher", Algorithm::HS256).sign("JWT", &good.to_string())),
        ("no issuer", sign("publisher", &without("iss"))),
        ("an unknown issuer", sign("publisher", &with("iss", json!("https://evil.example")))),
        ("an issuer in an array", sign("publisher", &with("iss", json!([ISSUER])))),
        ("another issuer's key", signer("other", Algorithm::HS512).sign("at+jwt", &good.to_string())),
        ("this issuer's key for another", sign("publisher", &with("iss", json!("https://other.example")))),
        ("an algorithm not allowed", signer("other", Algorithm::HS256).sign("at+jwt", &from_other)),
        ("another audience", sign("publisher", &with("aud", json!("https://example.com/")))),
        ("no audience", sign("publisher", &without("aud"))),
        ("no expiry", sign("publisher", &without("exp"))),
        ("an expiry in words", sign("publisher", &with("exp", json!("tomorrow")))),
        ("expired", sign("publisher", &with("exp", json!(now() - 1)))),
        ("not yet valid", sign("publisher", &with("nbf", json!(now() + 100)))),
        (
            "a malformed detail",
            sign("publisher", &claims(&json!([{"type": DETAIL, "actions": ["publish"]}]))),
        ),
        ("garbage", "a.b.c".to_owned()),
        (
            "an unsigned token",
            accepted[0].rsplit_once('.').map(|(start, _)| format!("{start}.")).expect("dots"),
        ),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (why, token) in refused {
        let answer = server.publish_with(&bearer(&token), b"topic=a").await;
        assert_eq!(answer.status, 401, "{why}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(
                "Bearer realm=\"mercure\", error=\"invalid_token\", resource_metadata=\
                  \"http://localhost/.well-known/oauth-protected-resource/.well-known/mercure\""
            ),
            "{why}"
        );
        let mut document: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert!(document["instance"].take().as_str().expect("a request id").starts_with("urn:uuid:"));
        bodies.insert(document.to_string());
    }
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn challenges_say_what_rfc_6750_says() {
    let server = Server::start(Settings { anonymous: false, ..settings() }).await;
    let metadata =
        "resource_metadata=\"http://localhost/.well-known/oauth-protected-resource/.well-known/mercure\"";
    for (method, target) in [("GET", "?match=a"), ("POST", ""), ("GET", "/subscriptions")] {
        let answer = server.request(method, &format!("{HUB}{target}"), &[], b"").await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some(&*format!("Bearer realm=\"mercure\", {metadata}"))
        );
        assert!(answer.body.contains("\"instance\":\"urn:uuid:"), "{}", answer.body);
        let answer = server.request(method, &format!("{HUB}{target}"), &["Authorization: Bearer"], b"").await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.header("www-authenticate").expect("a challenge").contains("error=\"invalid_request\"")
        );
    }
}

#[tokio::test]
async fn nothing_of_0_x_is_accepted_without_compat() {
    let server = Server::start(Settings { anonymous: false, ..settings() }).await;
    let legacy =
        Signer::parse("subscriber", None).expect("a key").sign("JWT", r#"{"mercure":{"subscribe":["*"]}}"#);
    let valid = subscriber_token(&json!([{"match": "*"}]));
    let target = format!("{HUB}?match=a");
    let answer = server.request("GET", &target, &[&bearer(&legacy)], b"").await;
    assert!(answer.status == 401 && answer.body.contains("token-invalid"));
    for (target, header) in [
        (format!("{target}&authorization={valid}"), "X: y".to_owned()),
        (format!("{target}&access_token={valid}"), "X: y".to_owned()),
        (target.clone(), format!("Cookie: mercureAuthorization={valid}")),
    ] {
        let answer = server.request("GET", &target, &[&header], b"").await;
        assert!(answer.status == 401 && answer.body.contains("token-missing"));
    }
    let authorization = bearer(&valid);
    let answer = server.request("GET", &format!("{HUB}?topic=a"), &[&authorization], b"").await;
    assert_eq!(answer.status, 400);
    let stream = server.subscribe("match=a&lastEventID=x", &[&authorization]).await;
    assert_eq!(header(&stream.head, "mercure-last-event-id"), Some("earliest"), "it says where it begins");
    assert!(!stream.head.contains("\r\nlast-event-id"), "{}", stream.head);
    let answer = server.request("GET", &format!("{HUB}/subscriptions/a"), &[&authorization], b"").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn both_dialects_are_served_at_once_each_in_its_own_form() {
    let server = Server::start(both()).await;
    let legacy =
        Signer::parse("subscriber", None).expect("a key").sign("JWT", r#"{"mercure":{"subscribe":["*"]}}"#);
    let valid = subscriber_token(&json!([{"match": "*"}]));
    for (token, query) in
        [(&legacy, "topic=a"), (&valid, "match=a"), (&legacy, "match=a"), (&valid, "topic=a")]
    {
        let mut stream = server.subscribe(&format!("{query}&last_event_id=x"), &[&bearer(token)]).await;
        assert_eq!(
            stream.head.contains("\r\nlast-event-id: earliest"),
            query.starts_with("topic"),
            "{query}"
        );
        assert!(stream.head.contains("mercure-last-event-id: earliest"), "{query}");
        let id = publish(&server, "topic=a&private=on").await.body;
        while field(&mut stream, "id").await.as_deref() != Some(&*id) {}
    }
    let answer = server.request("GET", &format!("{HUB}?topic=a&match=a"), &[], b"").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (400, "dialects-mixed"));
}

#[tokio::test]
async fn a_cookie_carries_the_token_and_a_header_counts_before_it() {
    let server = Server::start(Settings { anonymous: false, ..settings() }).await;
    let cookie =
        format!("Cookie: a=b; __Secure-mercure_access_token={}", subscriber_token(&json!([{"match": "a"}])));
    let mut stream = server.subscribe("match=a", &[&cookie]).await;
    publish(&server, "topic=a&private=on&id=1").await;
    assert_eq!(field(&mut stream, "id").await.as_deref(), Some("1"));
    let answer =
        server.request("GET", &format!("{HUB}?match=a"), &[&cookie, "Authorization: Bearer x"], b"").await;
    assert_eq!(answer.status, 401);
    let token = sign("publisher", &claims(&json!([detail("publish", &json!([{"match": "*"}]))])));
    let cookie = format!("Cookie: __Secure-mercure_access_token={token}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let elsewhere = format!("Origin: http://{}", server.address);
    for (origin, status) in [
        // The hub's public URL is what counts, not where the request went to, and its scheme as well.
        ("Origin: http://localhost", 200),
        ("Referer: http://localhost/page", 200),
        ("Origin: https://localhost", 403),
        (elsewhere.as_str(), 403),
        ("Origin: https://evil.example", 403),
        ("Referer: https://evil.example/x", 403),
        ("X: no origin", 403),
    ] {
        let answer = server.request("POST", HUB, &[&cookie, form, origin], b"topic=a").await;
        assert_eq!(answer.status, status, "{origin}");
    }
}

/// Who lists subscriptions and then follows their events must not keep one whose end no event tells.
#[tokio::test]
async fn each_dialect_lists_the_subscriptions_whose_events_it_has() {
    let server = Server::start(both()).await;
    let _v1 = server.subscribe("match=both", &[]).await;
    let _legacy = server.subscribe("topic=both", &[]).await;
    let list = async |header: &str| {
        let answer = server.request("GET", &format!("{HUB}/subscriptions"), &[header], b"").await;
        let document: Value = serde_json::from_str(&answer.body).expect("JSON");
        let all = document["subscriptions"].as_array().expect("a list").clone();
        (all, answer.header("etag").expect("a tag").to_owned())
    };
    let legacy = Signer::parse("subscriber", None).expect("a key");
    let legacy = bearer(&legacy.sign("JWT", r#"{"mercure":{"subscribe":["*"]}}"#));
    let (v1, legacy) = (list(&subscriber(&json!([{"match": "*"}]))).await, list(&legacy).await);
    assert_eq!((v1.0.len(), legacy.0.len()), (1, 1));
    assert_eq!((&v1.0[0]["match"], &legacy.0[0]["topic"]), (&json!("both"), &json!("both")));
    assert_ne!(v1.1, legacy.1);
}

#[tokio::test]
async fn the_header_is_the_first_cursor_and_the_answer_names_what_precedes() {
    let server = Server::start(settings()).await;
    let stream = server.subscribe("match=a&last_event_id=earliest", &[]).await;
    assert!(stream.head.contains("mercure-last-event-id: earliest\r\n"));
    for id in ["1", "same", "2", "same", "3"] {
        publish(&server, &format!("topic=a&id={id}")).await;
    }
    for (query, header, answer, first) in [
        ("match=a&last_event_id=2", "X: y", "2", "same"),
        ("match=a&last_event_id=1", "Last-Event-ID: 2", "2", "same"),
        ("match=a&last_event_id=same", "X: y", "same", "2"),
        ("match=a&last_event_id=unknown", "X: y", "earliest", "1"),
        ("match=a&last_event_id=earliest", "X: y", "earliest", "1"),
    ] {
        let mut stream = server.subscribe(query, &[header]).await;
        assert!(
            stream.head.contains(&format!("mercure-last-event-id: {answer}\r\n")),
            "{query}: {}",
            stream.head
        );
        assert!(!stream.head.contains("\r\nlast-event-id"));
        assert_eq!(field(&mut stream, "id").await.as_deref(), Some(first), "{query}");
    }
    let stream = server.subscribe("match=a", &[]).await;
    assert_eq!(header(&stream.head, "mercure-last-event-id"), Some("3"), "without a cursor, too");
}

#[tokio::test]
async fn a_blank_cursor_is_answered_with_the_end_of_the_log_and_replays_nothing() {
    // Subscription events would be the last in the log.
    let hub = petasos_hub::Settings { subscriptions: false, ..Default::default() };
    let server = Server::start_with(settings(), hub).await;
    let mut answer = "earliest".to_owned();
    for (number, (method, target, header, body)) in [
        ("GET", "?match=a&last_event_id=", "X: y", ""),
        ("GET", "?match=a&last_event_id", "X: y", ""),
        ("GET", "?match=a", "Last-Event-ID:", ""),
        ("GET", "?match=a&last_event_id=&last_event_id=", "Last-Event-ID: ", ""),
        ("QUERY", "", "X: y", "match=a&last_event_id="),
        ("QUERY", "?last_event_id=", "X: y", "match=a&last_event_id=0"),
    ]
    .into_iter()
    .enumerate()
    {
        let length = format!("Content-Length: {}", body.len());
        let form = "Content-Type: application/x-www-form-urlencoded";
        let mut stream =
            server.stream(method, &format!("{HUB}{target}"), &[header, form, &length], body.as_bytes()).await;
        assert!(
            stream.head.contains(&format!("mercure-last-event-id: {answer}\r\n")),
            "{target} {body}: {}",
            stream.head
        );
        assert!(!stream.head.contains("\r\nlast-event-id"));
        answer = number.to_string();
        publish(&server, &format!("topic=a&id={answer}")).await;
        assert_eq!(field(&mut stream, "id").await, Some(answer.clone()), "{target} {body}");
    }
}

#[tokio::test]
async fn of_a_repeated_cursor_the_newest_that_is_known_counts() {
    let server = Server::start(settings()).await;
    for id in ["1", "2", "3"] {
        publish(&server, &format!("topic=a&id={id}")).await;
    }
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (target, header, body, answer) in [
        ("?last_event_id=1&last_event_id=2", "X: y", "match=a", "2"),
        ("?last_event_id=2&last_event_id=1&last_event_id=x", "X: y", "match=a", "2"),
        ("", "X: y", "match=a&last_event_id=2&last_event_id=1", "2"),
        ("?last_event_id=2", "X: y", "match=a&last_event_id=3", "2"),
        ("?last_event_id=x", "X: y", "match=a&last_event_id=3", "earliest"),
        ("?last_event_id=3", "Last-Event-ID: 2", "match=a", "2"),
        ("?last_event_id=2&lastEventID=3", "X: y", "match=a", "2"),
    ] {
        let headers = [header, form, &format!("Content-Length: {}", body.len())];
        let mut stream = server.stream("QUERY", &format!("{HUB}{target}"), &headers, body.as_bytes()).await;
        assert!(
            stream.head.contains(&format!("mercure-last-event-id: {answer}\r\n")),
            "{target}: {}",
            stream.head
        );
        let first = if answer == "2" { "3" } else { "1" };
        assert_eq!(field(&mut stream, "id").await.as_deref(), Some(first), "{target}");
    }
}

#[tokio::test]
async fn subscriptions_are_announced_and_listed_in_the_form_of_1_0() {
    let server = Server::start(settings()).await;
    let everything = subscriber(&json!([{"match": "*"}]));
    let events = "match_urlpattern=/.well-known/mercure/subscriptions/:type/:match/:subscriber";
    let mut watcher = server.subscribe(events, &[&everything]).await;
    let own: Value =
        serde_json::from_str(&field(&mut watcher, "data").await.expect("its own")).expect("JSON");
    assert_eq!((&own["match_type"], &own["active"]), (&json!("urlpattern"), &json!(true)));
    let mut details =
        detail("subscribe", &json!([{"match": "https://example.com/:x", "match_type": "urlpattern"}]));
    details["payload"] = json!({"foo": "bar"});
    let token = bearer(&sign("subscriber", &claims(&json!([details]))));
    let stream = server.subscribe("match_urlpattern=https://example.com/:selector", &[&token]).await;
    let event = watcher.event().await;
    assert!(event.starts_with("event: mercure\nid: urn:uuid:"), "{event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let document: Value = serde_json::from_str(data).expect("JSON");
    let subscriber_id = document["subscriber"].as_str().expect("an id").to_owned();
    let path = format!(
        "{HUB}/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aselector/{}",
        subscriber_id.replace(':', "%3A")
    );
    assert_eq!(
        document,
        json!({
            "id": path, "type": "subscription", "match_type": "urlpattern", "match": "https://example.com/:selector",
            "subscriber": subscriber_id, "active": true, "payload": {"foo": "bar"},
        })
    );
    let single = server.request("GET", &path, &[&everything], b"").await;
    assert_eq!((single.status, single.header("content-type")), (200, Some("application/json")));
    assert_eq!(serde_json::from_str::<Value>(&single.body).expect("JSON"), document);
    let event_id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    assert_eq!(
        single.header("link"),
        Some(&*format!(
            "<http://localhost/.well-known/mercure>; rel=\"mercure\"; last-event-id=\"{event_id}\"; \
             type=\"mercure\"; content-type=\"application/json\""
        ))
    );
    assert_eq!(single.header("cache-control"), Some("must-revalidate"));
    let etag = format!("If-None-Match: {}", single.header("etag").expect("an entity tag"));
    let unchanged = server.request("GET", &path, &[&everything, &etag], b"").await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
    for (path, count) in [
        ("/subscriptions", 2),
        ("/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aselector", 1),
        ("/subscriptions/exact/https%3A%2F%2Fexample.com%2F%3Aselector", 0),
    ] {
        let path = format!("{HUB}{path}");
        let answer = server.request("GET", &format!("{path}?last_event_id=x"), &[&everything], b"").await;
        let collection: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((&collection["id"], &collection["type"]), (&json!(path), &json!("subscriptions")));
        assert_eq!(collection["subscriptions"].as_array().map(Vec::len), Some(count), "{path}");
    }
    let here = subscriber(&json!([{"match": format!("{HUB}/subscriptions")}]));
    assert_eq!(server.request("GET", &format!("{HUB}/subscriptions"), &[&here], b"").await.status, 200);
    assert_eq!(server.request("GET", &path, &[&here], b"").await.status, 403);
    let pattern = json!([{"match": "/.well-known/mercure/subscriptions/*", "match_type": "urlpattern"}]);
    assert_eq!(server.request("GET", &path, &[&subscriber(&pattern)], b"").await.status, 200);
    drop(stream);
    let ended: Value = serde_json::from_str(&field(&mut watcher, "data").await.expect("data")).expect("JSON");
    assert_eq!((&ended["id"], &ended["active"]), (&json!(path), &json!(false)));
    assert_eq!(server.request("GET", &path, &[&everything], b"").await.status, 404);
}

#[tokio::test]
async fn metadata_describes_the_hub() {
    let server = Server::start(settings()).await;
    let path = "/.well-known/oauth-protected-resource/.well-known/mercure";
    let answer = server.request("GET", path, &[], b"").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(document["resource"], RESOURCE);
    assert_eq!(document["mercure_matcher_types_supported"], json!(["exact", "urlpattern"]));
    assert_eq!(server.request("POST", path, &[], b"").await.status, 405);
    let unknown = Server::start(both()).await;
    assert_eq!(unknown.request("GET", path, &[], b"").await.status, 404);
}

#[tokio::test]
async fn streams_are_limited_by_address_and_by_token() {
    let limits = |per_address, per_token| Settings {
        streams: StreamLimits { per_address, per_token, ..StreamLimits::default() },
        ..settings()
    };
    let server = Server::start(limits(2, 0)).await;
    let (first, _second) = (server.subscribe("match=a", &[]).await, server.subscribe("match=a", &[]).await);
    let refused = server.request("GET", &format!("{HUB}?match=a"), &[], b"").await;
    assert_eq!((refused.status, problem(&refused).as_str()), (429, "too-many-streams"));
    assert!(refused.header("retry-after").is_some());
    let spoofed = server.request("GET", &format!("{HUB}?match=a"), &["X-Forwarded-For: 1.2.3.4"], b"").await;
    assert_eq!(spoofed.status, 429);
    assert_eq!(server.request("HEAD", &format!("{HUB}?match=a"), &[], b"").await.status, 200);
    drop(first);
    while server.connections.service().hub().stats().subscribers > 1 {
        tokio::task::yield_now().await;
    }
    let server = Server::start(limits(0, 1)).await;
    let (one, other) = (subscriber(&json!([{"match": "a"}])), subscriber(&json!([{"match": "b"}])));
    let _held = server.subscribe("match=a", &[&one]).await;
    assert_eq!(server.request("GET", &format!("{HUB}?match=a"), &[&one], b"").await.status, 429);
    server.subscribe("match=a", &[&other]).await;
    server.subscribe("match=a", &[]).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_its_longest_life() {
    let server = Server::start(settings()).await;
    let mut claims = claims(&json!([detail("subscribe", &json!([{"match": "a"}]))]));
    claims["exp"] = json!(now() + 5);
    let mut stream = server.subscribe("match=a", &[&bearer(&sign("subscriber", &claims))]).await;
    assert_eq!(stream.chunk().await, None);
    let hub = petasos_hub::Settings {
        keep_alive: None,
        lifetime_max: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let server = Server::start_with(settings(), hub).await;
    assert_eq!(server.subscribe("match=a", &[]).await.chunk().await, None);
}

/// A peer that is gone without a word looks the same from here: what it is sent stays unacknowledged.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_subscriber_that_takes_nothing_is_let_go_of_and_its_subscription_ends() {
    let server = Server::start(Settings { write_timeout: Duration::from_millis(500), ..settings() }).await;
    let everything = subscriber(&json!([{"match": "*"}]));
    let events = "match_urlpattern=/.well-known/mercure/subscriptions/exact/a/:subscriber";
    let mut watcher = server.subscribe(events, &[&everything]).await;
    let _stalled = server.subscribe("match=a", &[]).await;
    assert!(watcher.event().await.contains("\"active\":true"));
    // More than the buffers of both ends hold.
    let body = format!("topic=a&data={}", "x".repeat(1_000_000));
    for _ in 0..16 {
        assert_eq!(publish(&server, &body).await.status, 200);
    }
    assert!(watcher.event().await.contains("\"active\":false"));
}
