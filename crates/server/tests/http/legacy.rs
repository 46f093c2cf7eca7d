//! Protocol 0.x, request by request.

use std::time::Duration;

use petasos_auth::Signer;
use petasos_hub::{Hub, MemoryTransport};
use petasos_server::{Connections, Origins, Service, Settings, StreamLimits};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::client::{Answer, HUB, PATIENCE, Server, header, settings};

fn token(secret: &str, claims: &str) -> String {
    Signer::parse(secret, None).expect("a key").sign("JWT", claims)
}

fn publisher(topics: &str) -> String {
    format!(
        "Authorization: Bearer {}",
        token("publisher", &format!(r#"{{"mercure":{{"publish":{topics}}}}}"#))
    )
}

fn subscriber_token(topics: &str) -> String {
    token("subscriber", &format!(r#"{{"mercure":{{"subscribe":{topics},"payload":{{"user":7}}}}}}"#))
}

fn subscriber(topics: &str) -> String {
    format!("Authorization: Bearer {}", subscriber_token(topics))
}

impl Server {
    pub(crate) async fn publish(&self, body: &str) -> Answer {
        self.publish_with(&publisher("[\"*\"]"), body.as_bytes()).await
    }
}

#[tokio::test]
async fn an_update_reaches_subscribers_of_canonical_alternate_template_and_wildcard() {
    let server = Server::start(settings()).await;
    let mut streams = Vec::new();
    for query in
        ["topic=/books/1", "topic=alternate", "topic=/books/{id}", "topic=*", "topic=x&topic=/books/1"]
    {
        streams.push(server.subscribe(query, &[]).await);
    }
    let answer = server.publish("topic=/books/1&topic=alternate&data=a%0Ab&type=t&retry=5&id=urn:x").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "urn:x"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    for stream in &mut streams {
        assert_eq!(stream.event().await, "event: t\nid: urn:x\nretry: 5\ndata: a\ndata: b\n\n");
    }
}

#[tokio::test]
async fn a_generated_id_is_a_urn_uuid_and_is_the_events_id() {
    let server = Server::start(settings()).await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    let answer = server.publish("topic=a").await;
    assert!(answer.body.starts_with("urn:uuid:") && answer.body.len() == 45, "{}", answer.body);
    assert_eq!(stream.event().await, format!("id: {}\ndata: \n\n", answer.body));
}

#[tokio::test]
async fn a_stream_has_the_headers_that_proxies_and_browsers_need() {
    let server = Server::start(settings()).await;
    let stream = server.subscribe("topic=a", &[]).await;
    assert_eq!(header(&stream.head, "content-type"), Some("text/event-stream"));
    let caching = header(&stream.head, "cache-control").expect("a field");
    assert!(caching.contains("no-store") && caching.contains("no-transform"), "{caching}");
    assert_eq!(header(&stream.head, "x-accel-buffering"), Some("no"));
    assert_eq!(header(&stream.head, "last-event-id"), None);
}

#[tokio::test]
async fn private_updates_follow_header_query_and_cookie_tokens() {
    let server = Server::start(settings()).await;
    let token = subscriber_token(r#"["/u/{id}"]"#);
    let mut anonymous = server.subscribe("topic=/u/1", &[]).await;
    let mut by_header = server.subscribe("topic=/u/1", &[&format!("Authorization: Bearer {token}")]).await;
    let mut by_query = server.subscribe(&format!("topic=/u/1&authorization={token}"), &[]).await;
    let mut by_cookie =
        server.subscribe("topic=/u/1", &[&format!("Cookie: mercureAuthorization={token}")]).await;
    // A weaker token in the stronger place wins.
    let weak = subscriber("[]");
    let mut header_wins = server
        .subscribe(
            &format!("topic=/u/1&authorization={token}"),
            &[&weak, &format!("Cookie: mercureAuthorization={token}")],
        )
        .await;
    server.publish("topic=/u/1&id=secret&private=").await;
    server.publish("topic=/u/1&id=open").await;
    for stream in [&mut by_header, &mut by_query, &mut by_cookie] {
        assert!(stream.event().await.starts_with("id: secret\n"));
        assert!(stream.event().await.starts_with("id: open\n"));
    }
    for stream in [&mut anonymous, &mut header_wins] {
        assert!(stream.event().await.starts_with("id: open\n"));
    }
}

#[tokio::test]
async fn every_spelling_of_a_cursor_replays_and_is_answered() {
    let server = Server::start(settings()).await;
    for id in ["1", "2", "3"] {
        server.publish(&format!("topic=a&id={id}")).await;
    }
    for (query, headers) in [
        ("topic=a", vec!["Last-Event-ID: 1"]),
        ("topic=a&lastEventID=3", vec!["Last-Event-ID: 1"]),
        ("topic=a&lastEventID=1", vec![]),
        ("topic=a&lastEventId=1", vec![]),
        ("topic=a&Last-Event-ID=1", vec![]),
        ("topic=a&last_event_id=1", vec![]),
    ] {
        let mut stream = server.subscribe(query, &headers).await;
        assert_eq!(header(&stream.head, "last-event-id"), Some("1"), "{query}");
        assert_eq!(header(&stream.head, "mercure-last-event-id"), Some("1"), "{query}");
        assert!(stream.event().await.starts_with("id: 2\n"));
        assert!(stream.event().await.starts_with("id: 3\n"));
    }
    for cursor in ["earliest", "unknown", &"x".repeat(2_000), "%23", "%01"] {
        let mut stream = server.subscribe(&format!("topic=a&lastEventID={cursor}"), &[]).await;
        assert_eq!(header(&stream.head, "last-event-id"), Some("earliest"));
        assert!(stream.event().await.starts_with("id: 1\n"));
    }
}

/// A blank line behind a comment is an empty message to several client libraries.
#[tokio::test]
async fn a_comment_is_one_line_in_every_framing() {
    let keep_alive = Some(Duration::from_millis(5));
    let hub = petasos_hub::Settings { keep_alive, retry: None, subscriptions: false, ..Default::default() };
    let server = Server::start_with(settings(), hub).await;
    for (version, comments) in
        [("HTTP/1.0", ":\n:\n:\n"), ("HTTP/1.1", "2\r\n:\n\r\n2\r\n:\n\r\n2\r\n:\n\r\n")]
    {
        let mut stream = server.open(&format!("GET {HUB}?topic=a {version}\r\nHost: h\r\n\r\n"), b"").await;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(
                timeout(PATIENCE, stream.read_line(&mut line)).await.expect("a head").expect("UTF-8"),
                0
            );
        }
        let mut body = vec![0; comments.len()];
        timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("comments").expect("open");
        assert_eq!(String::from_utf8(body).expect("UTF-8"), comments, "{version}");
    }
}

/// A polyfill adds the id of its last event, in its own spelling, to a URL that its page has made with an older one.
#[tokio::test]
async fn of_several_cursors_in_a_url_the_newest_that_is_known_counts() {
    let server = Server::start(settings()).await;
    for id in ["1", "2", "3"] {
        server.publish(&format!("topic=a&id={id}")).await;
    }
    for (query, headers, answer) in [
        ("topic=a&lastEventID=1&lastEventId=2", vec![], "2"),
        ("topic=a&lastEventId=2&lastEventID=1", vec![], "2"),
        ("topic=a&Last-Event-ID=1&lastEventID=unknown&last_event_id=2", vec![], "2"),
        ("lastEventID=2&topic=a&lastEventID=1", vec![], "2"),
        ("topic=a&lastEventID=earliest&lastEventId=2", vec![], "2"),
        ("topic=a&lastEventID=&lastEventId=2&Last-Event-ID=", vec![], "2"),
        ("topic=a&lastEventID=unknown&lastEventId=other", vec![], "earliest"),
        ("topic=a&lastEventID=3&lastEventId=1", vec!["Last-Event-ID: 2"], "2"),
        ("topic=a&lastEventID=2&lastEventId=1", vec!["Last-Event-ID: unknown"], "earliest"),
        ("topic=a&lastEventID=3", vec!["Last-Event-ID: 1", "Last-Event-ID: 2"], "2"),
    ] {
        let mut stream = server.subscribe(query, &headers).await;
        for name in ["last-event-id", "mercure-last-event-id"] {
            assert_eq!(header(&stream.head, name), Some(answer), "{query} {headers:?}");
        }
        let first = if answer == "2" { "id: 3\n" } else { "id: 1\n" };
        assert!(stream.event().await.starts_with(first), "{query} {headers:?}");
        let head = server.request("HEAD", &format!("{HUB}?{query}"), &headers, b"").await;
        assert_eq!(head.header("last-event-id"), Some(answer), "{query} {headers:?}");
    }
    let many: String = (0..17).map(|number| format!("&lastEventID={number}")).collect();
    let refused = server.request("GET", &format!("{HUB}?topic=a{many}"), &[], b"").await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("different last event ids exceeds the limit of 16"), "{}", refused.body);
}

#[tokio::test]
async fn a_blank_cursor_is_answered_and_replays_nothing() {
    // Subscription events would be the last in the log.
    let hub = petasos_hub::Settings { subscriptions: false, ..Default::default() };
    let server = Server::start_with(settings(), hub).await;
    let blank = ["lastEventID", "lastEventId", "Last-Event-ID", "last_event_id"];
    let mut requests: Vec<_> = blank.iter().map(|name| (format!("topic=a&{name}="), vec![])).collect();
    requests.push(("topic=a".to_owned(), vec!["Last-Event-ID:"]));
    let mut answer = "earliest".to_owned();
    for (query, headers) in &requests {
        let mut stream = server.subscribe(query, headers).await;
        for name in ["last-event-id", "mercure-last-event-id"] {
            assert_eq!(header(&stream.head, name), Some(&*answer), "{query} {headers:?}");
        }
        let head = server.request("HEAD", &format!("{HUB}?{query}"), headers, b"").await;
        assert_eq!(head.header("last-event-id"), Some(&*answer), "{query} {headers:?}");
        answer = server.publish("topic=a").await.body;
        assert!(stream.event().await.starts_with(&format!("id: {answer}\n")), "{query} {headers:?}");
        // The event before the first one that is sent may be invisible to the subscriber.
        answer = server.publish("topic=elsewhere&private=").await.body;
    }
}

/// As with a site behind Basic authentication, whose browsers send that to every path.
#[tokio::test]
async fn another_scheme_in_the_authorization_header_is_no_token() {
    let server = Server::start(settings()).await;
    let token = subscriber_token(r#"["a"]"#);
    let cookie = format!("Cookie: mercureAuthorization={token}");
    for other in ["Basic eDp5", "Negotiate YII=", "Digest username=\"a\", uri=\"/\"", "ApiKey k", ""] {
        let other = format!("Authorization: {other}");
        let mut by_cookie = server.subscribe("topic=a", &[&other, &cookie]).await;
        let mut by_query = server.subscribe(&format!("topic=a&authorization={token}"), &[&other]).await;
        let mut by_header =
            server.subscribe("topic=a", &[&other, &format!("Authorization: Bearer {token}")]).await;
        let mut anonymous = server.subscribe("topic=a", &[&other]).await;
        server.publish("topic=a&id=secret&private=").await;
        server.publish("topic=a&id=open").await;
        for stream in [&mut by_cookie, &mut by_query, &mut by_header] {
            assert!(stream.event().await.starts_with("id: secret\n"), "{other}");
        }
        assert!(anonymous.event().await.starts_with("id: open\n"), "{other}");
    }
    let published = server.request("POST", HUB, &["Authorization: Basic eDp5"], b"topic=a").await;
    assert_eq!(published.status, 401);
    assert!(!published.header("www-authenticate").expect("a challenge").contains("error="));
    assert!(
        published.body.contains("the scheme of its Authorization header is not Bearer"),
        "{}",
        published.body
    );
    let bare = server.request("POST", HUB, &[&format!("Authorization: {token}")], b"topic=a").await;
    assert_eq!(bare.status, 400, "a token without its scheme is an error of its sender");
    assert!(bare.body.contains("send \\\"Bearer\\\", a space and the token"), "{}", bare.body);
    assert!(!bare.body.contains(&token));
}

/// A browser keeps a cookie for each path and domain, and sends all of them.
#[tokio::test]
async fn among_cookies_one_that_verifies_is_enough() {
    let server = Server::start(settings()).await;
    let expired = token("subscriber", r#"{"mercure":{"subscribe":["*"]},"exp":1}"#);
    let (valid, forged) =
        (subscriber_token(r#"["a"]"#), token("another key", r#"{"mercure":{"subscribe":["*"]}}"#));
    let legacy = |token: &str| format!("mercureAuthorization={token}");
    let present = |token: &str| format!("__Secure-mercure_access_token={token}");
    for cookies in [
        [legacy(&expired), legacy(&valid)],
        [legacy(&valid), legacy(&expired)],
        [legacy(""), legacy(&valid)],
        [legacy("no token"), legacy(&valid)],
        [present(&expired), legacy(&valid)],
        [present(&forged), present(&valid)],
        [legacy(&forged), present(&valid)],
    ] {
        let one_field = format!("Cookie: a=b; {}; {}", cookies[0], cookies[1]);
        let [first, second] = cookies.each_ref().map(|cookie| format!("Cookie: {cookie}"));
        for headers in [vec![&*one_field], vec![&*first, &*second]] {
            let mut stream = server.subscribe("topic=a", &headers).await;
            server.publish("topic=a&id=secret&private=").await;
            assert!(stream.event().await.starts_with("id: secret\n"), "{cookies:?}");
        }
    }
    let refuse = async |cookies: &[String]| {
        let refused = server
            .request("GET", &format!("{HUB}?topic=a"), &[&format!("Cookie: {}", cookies.join("; "))], b"")
            .await;
        assert_eq!(refused.status, 401, "{cookies:?}");
        assert!(refused.header("www-authenticate").is_some_and(|value| value.contains("invalid_token")));
        refused.body
    };
    assert!(refuse(&[legacy(&expired)]).await.contains("the token is not valid"));
    assert!(refuse(&[legacy(&expired), legacy("")]).await.contains("the token is not valid"));
    assert!(
        refuse(&[legacy(&expired), present(&forged)])
            .await
            .contains("none of the tokens in the hub's cookies")
    );
    // No more are verified than the limit says, and the answer does not claim more.
    let stale: Vec<_> = (0..100)
        .map(|number| legacy(&token("another key", &format!(r#"{{"mercure":{{}},"jti":"{number}"}}"#))))
        .collect();
    let body = refuse(&[&stale[..], &[legacy(&valid)]].concat()).await;
    assert!(body.contains("none of the first 8 tokens in the hub's cookies is valid"), "{body}");
    let cookie = format!("Cookie: {}; {}", legacy(&valid), stale.join("; "));
    drop(server.subscribe("topic=a", &[&cookie]).await);
}

#[tokio::test]
async fn a_publishers_cookies_are_tried_one_after_the_other_and_keep_their_rules_of_origin() {
    let server = Server::start(settings()).await;
    let [stale, valid] =
        ["another key", "publisher"].map(|key| token(key, r#"{"mercure":{"publish":["*"]}}"#));
    let cookies = format!("Cookie: mercureAuthorization={stale}; mercureAuthorization={valid}");
    let own = format!("Origin: http://{}", server.address);
    for (origin, status) in [(&*own, 200), ("Origin: https://evil.example", 403), ("X: no origin", 403)] {
        let form = "Content-Type: application/x-www-form-urlencoded";
        let headers = [&*cookies, form, "Authorization: Basic eDp5", origin];
        assert_eq!(server.request("POST", HUB, &headers, b"topic=a").await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason_and_publish_nothing() {
    let server = Server::start(settings()).await;
    let mut stream = server.subscribe("topic=*", &[]).await;
    for (body, status, code) in [
        (&b"data=x"[..], 400, "topic-missing"),
        (b"topic=*", 400, "topic-wildcard"),
        (b"topic=/.well-known/mercure/subscriptions/x", 400, "topic-reserved"),
        (b"topic=a&topic=https://e.x/%2Ewell-known/mercure", 400, "topic-reserved"),
        (b"topic=a%0Ab", 400, "character-forbidden"),
        (b"topic=a&id=x%0Adata: y", 400, "character-forbidden"),
        (b"topic=a&id=%23x", 400, "id-reserved"),
        (b"topic=a&id=earliest", 400, "id-reserved"),
        (b"topic=a&type=x%0D%0Adata:", 400, "character-forbidden"),
        (b"topic=a&type=mercure", 400, "type-reserved"),
        (b"topic=a&retry=1.5", 400, "retry-invalid"),
        (b"topic=a&data=%FF", 400, "not-utf8"),
        (b"topic=a&data=\xff", 400, "not-utf8"),
        (&[b'&'; 0], 400, "topic-missing"),
        (&vec![b'x'; 1024 * 1024 + 1], 413, "too-large"),
        ("topic=a&".repeat(101).as_bytes(), 413, "too-large"),
        (format!("topic={}", "a".repeat(4097)).as_bytes(), 413, "too-large"),
    ] {
        let answer = server.publish_with(&publisher("[\"*\"]"), body).await;
        assert_eq!(answer.status, status, "{code}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains(&format!("urn:petasos:problem:{code}")), "{code}: {}", answer.body);
    }
    for content_type in ["Content-Type: application/json", "X-No-Content-Type: 1"] {
        let answer = server.request("POST", HUB, &[&publisher("[\"*\"]"), content_type], b"topic=a").await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("content-type"));
    }
    server.publish("topic=a&id=first").await;
    assert!(stream.event().await.starts_with("id: first\n"), "nothing was published before");
}

#[tokio::test]
async fn bad_subscriptions_are_refused() {
    let server = Server::start(settings()).await;
    let many: Vec<String> = (0..101).map(|number| format!("topic={number}")).collect();
    for (query, code) in [
        ("", "matcher-missing"),
        ("x=y", "matcher-missing"),
        ("topic=%00", "character-forbidden"),
        ("topic=%FF", "not-utf8"),
        ("match_x=a", "matcher-unsupported"),
        ("topic=a&match_exact=a", "dialects-mixed"),
        (&many.join("&"), "too-many"),
    ] {
        let answer = server.request("GET", &format!("{HUB}?{query}"), &[], b"").await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(code), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn tokens_are_asked_for_checked_and_explained_as_rfc_6750_says() {
    let server = Server::start(Settings { anonymous: false, ..settings() }).await;
    let wrong_key = format!("Authorization: Bearer {}", token("other", r#"{"mercure":{"publish":["*"]}}"#));
    let expired =
        format!("Authorization: Bearer {}", token("publisher", r#"{"mercure":{"publish":["*"]},"exp":1}"#));
    let no_claim = format!("Authorization: Bearer {}", token("publisher", "{}"));
    let bad_claim = format!("Authorization: Bearer {}", token("publisher", r#"{"mercure":"x"}"#));
    for (header, status, challenge) in [
        ("X-None: 1", 401, "Bearer realm=\"mercure\""),
        ("Authorization: Basic eDp5", 401, "Bearer realm=\"mercure\""),
        ("Authorization: Bearer", 400, "Bearer realm=\"mercure\", error=\"invalid_request\""),
        ("Authorization: Bearer x", 401, "Bearer realm=\"mercure\", error=\"invalid_token\""),
        (&wrong_key, 401, "Bearer realm=\"mercure\", error=\"invalid_token\""),
        (&expired, 401, "Bearer realm=\"mercure\", error=\"invalid_token\""),
        (&bad_claim, 401, "Bearer realm=\"mercure\", error=\"invalid_token\""),
        (&no_claim, 403, "Bearer realm=\"mercure\", error=\"insufficient_scope\""),
        (&publisher("[\"b\"]"), 403, "Bearer realm=\"mercure\", error=\"insufficient_scope\""),
    ] {
        let answer = server.publish_with(header, b"topic=a&topic=b").await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (status, Some(challenge)), "{header}");
    }
    assert_eq!(server.publish_with(&publisher("[\"{x}\"]"), b"topic=a&topic=b").await.status, 200);
    let target = format!("{HUB}?topic=a");
    assert_eq!(server.request("GET", &target, &[], b"").await.status, 401);
    assert_eq!(
        server.request("GET", &target, &[&publisher("[\"*\"]")], b"").await.status,
        401,
        "another role's key"
    );
    server.subscribe("topic=a", &[&subscriber("[]")]).await;
}

#[tokio::test]
async fn a_cookie_publishes_from_the_own_origin_only() {
    let server = Server::start(Settings {
        publish_origins: Origins::parse(["https://app.example"]).expect("origins"),
        ..settings()
    })
    .await;
    let cookie =
        format!("Cookie: mercureAuthorization={}", token("publisher", r#"{"mercure":{"publish":["*"]}}"#));
    let form = "Content-Type: application/x-www-form-urlencoded";
    let own = format!("Origin: http://{}", server.address);
    for (headers, status) in [
        (vec![cookie.as_str(), form], 403),
        (vec![&cookie, form, "Origin: https://evil.example"], 403),
        (vec![&cookie, form, "Origin: null"], 403),
        (vec![&cookie, form, "Origin: https://app.example"], 200),
        (vec![&cookie, form, "Referer: https://app.example/page"], 200),
        (vec![&cookie, form, &own], 200),
    ] {
        assert_eq!(server.request("POST", HUB, &headers, b"topic=a").await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let server = Server::start(settings()).await;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let claims = format!(r#"{{"mercure":{{"subscribe":["*"]}},"exp":{}}}"#, now + 0.3);
    let header = format!("Authorization: Bearer {}", token("subscriber", &claims));
    let mut stream = server.subscribe("topic=a", &[&header]).await;
    assert_eq!(stream.chunk().await, None, "a proper end, so that the browser comes back");
}

#[tokio::test]
async fn methods_and_paths_that_do_not_exist_are_refused() {
    let server = Server::start(settings()).await;
    for (method, target, status) in [
        ("PUT", HUB, 405),
        ("DELETE", HUB, 405),
        ("POST", "/.well-known/mercure/subscriptions", 405),
        ("GET", "/", 404),
        ("GET", "/.well-known/mercure/", 404),
        ("GET", "/.well-known/mercure/x", 404),
        ("GET", "/.well-known/mercurex", 404),
    ] {
        let answer = server.request(method, target, &[], b"").await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
    let quiet = Server::start(Settings { publish: false, ..settings() }).await;
    let answer = quiet.publish("topic=a").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS, QUERY")));
}

#[tokio::test]
async fn head_answers_like_get_and_subscribes_nobody() {
    let server = Server::start(settings()).await;
    server.publish("topic=a&id=1").await;
    let answer = server.request("HEAD", &format!("{HUB}?topic=a&lastEventID=1"), &[], b"").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("last-event-id"), Some("1"));
    let refused = server.request("HEAD", HUB, &[], b"").await;
    assert_eq!((refused.status, refused.body.as_str()), (400, ""));
    assert_eq!(server.connections.service().hub().stats().subscribers, 0);
}

#[tokio::test]
async fn scripts_of_listed_origins_may_read_and_others_may_not() {
    let server = Server::start(Settings {
        cors: Origins::parse(["https://a.example"]).expect("origins"),
        ..settings()
    })
    .await;
    let preflight = server.request("OPTIONS", HUB, &["Origin: https://a.example"], b"").await;
    assert_eq!(preflight.status, 204);
    assert!(
        preflight.header("access-control-allow-headers").is_some_and(|value| value.contains("authorization"))
    );
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://a.example"));
    let stream = server.subscribe("topic=a&lastEventID=earliest", &["Origin: https://a.example"]).await;
    assert_eq!(header(&stream.head, "access-control-allow-credentials"), Some("true"));
    assert!(
        header(&stream.head, "access-control-expose-headers")
            .is_some_and(|value| value.contains("last-event-id"))
    );
    let stream = server.subscribe("topic=a", &["Origin: https://evil.example"]).await;
    assert_eq!(header(&stream.head, "access-control-allow-origin"), None);
    let refused = server.request("GET", HUB, &["Origin: https://a.example"], b"").await;
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://a.example"),
        "errors can be read, too"
    );
    assert!(
        refused.header("access-control-expose-headers").is_some_and(|value| value.contains("retry-after")),
        "and when to come back"
    );
}

#[tokio::test]
async fn subscriptions_are_listed_with_the_documents_of_0_x() {
    let server = Server::start(settings()).await;
    let all = "/.well-known/mercure/subscriptions";
    let reader = subscriber(r#"["/.well-known/mercure/subscriptions{/topic}{/subscriber}"]"#);
    assert_eq!(server.request("GET", all, &[], b"").await.status, 401);
    assert_eq!(server.request("GET", all, &[&subscriber("[\"a\"]")], b"").await.status, 403);
    let empty = server.request("GET", all, &[&reader], b"").await;
    assert_eq!(empty.status, 200);
    assert!(
        empty.body.contains(r#""lastEventID":"earliest""#) && empty.body.contains(r#""subscriptions":[]"#)
    );

    let mut watcher =
        server.subscribe("topic=/.well-known/mercure/subscriptions{/topic}{/subscriber}", &[&reader]).await;
    watcher.event().await;
    let visitor = server.subscribe("topic=https://example.com/{id}", &[&subscriber("[]")]).await;
    let event = watcher.event().await;
    assert!(event.contains(r#""payload":{"user":7}"#) && event.contains(r#""active":true"#), "{event}");

    let listed = server.request("GET", all, &[&reader], b"").await;
    assert_eq!(listed.header("content-type"), Some("application/ld+json"));
    assert_eq!(listed.header("cache-control"), Some("must-revalidate"));
    assert_eq!(listed.header("link"), Some("</.well-known/mercure>; rel=\"mercure\""));
    let etag = listed.header("etag").expect("an entity tag").to_owned();
    let again = server.request("GET", all, &[&reader, &format!("If-None-Match: {etag}")], b"").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));

    let topic = format!("{all}/https%3A%2F%2Fexample.com%2F%7Bid%7D");
    let of_topic = server.request("GET", &topic, &[&subscriber(&format!("[\"{topic}\"]"))], b"").await;
    assert_eq!(of_topic.status, 200, "an exact claim names the URL");
    let id = of_topic
        .body
        .split("\"id\":\"")
        .nth(2)
        .and_then(|rest| rest.split('"').next())
        .expect("an id")
        .to_owned();
    let single = server.request("GET", &id, &[&reader], b"").await;
    assert_eq!(single.status, 200);
    assert!(single.body.starts_with(r#"{"@context":"https://mercure.rocks/","#), "{}", single.body);
    assert!(
        single.body.contains(r#""type":"Subscription""#)
            && single.body.contains(r#""lastEventID":"urn:uuid:"#)
    );

    drop(visitor);
    assert!(watcher.event().await.contains(r#""active":false"#), "leaving is noticed without a write");
    assert_eq!(server.request("GET", &id, &[&reader], b"").await.status, 404);
}

#[tokio::test]
async fn untracked_subscriptions_have_no_api() {
    let hub = petasos_hub::Settings { subscriptions: false, ..Default::default() };
    let server = Server::start_with(settings(), hub).await;
    let reader = subscriber("[\"*\"]");
    assert_eq!(
        server.request("GET", "/.well-known/mercure/subscriptions", &[&reader], b"").await.status,
        404
    );
}

#[tokio::test]
async fn streams_and_connections_are_limited() {
    let server = Server::start(Settings {
        streams: StreamLimits { total: 1, ..StreamLimits::default() },
        ..settings()
    })
    .await;
    let _first = server.subscribe("topic=a", &[]).await;
    let second = server.request("GET", &format!("{HUB}?topic=a"), &[], b"").await;
    assert_eq!(second.status, 429);
    assert!(second.header("retry-after").is_some());

    let server = Server::start(Settings { connections_max: 1, ..settings() }).await;
    let first = server.subscribe("topic=a", &[]).await;
    let mut second = server.open("", b"").await;
    assert_eq!(timeout(PATIENCE, second.read(&mut [0])).await.expect("an end").unwrap_or_default(), 0);
    drop(first);
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_cut_off() {
    let short = Duration::from_millis(50);
    let server = Server::start(Settings { head_timeout: short, ..settings() }).await;
    let mut slow_head = server.open("GET / HT", b"").await;
    let mut rest = String::new();
    timeout(PATIENCE, slow_head.read_to_string(&mut rest)).await.expect("an end").expect("UTF-8");
    let server = Server::start(Settings { body_timeout: short, ..settings() }).await;
    let head = format!(
        "POST {HUB} HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 50\r\n\r\n",
        publisher("[\"*\"]")
    );
    let mut slow_body = server.open(&head, b"topic=a").await;
    let mut line = String::new();
    timeout(PATIENCE, slow_body.read_line(&mut line)).await.expect("an answer").expect("UTF-8");
    assert!(line.starts_with("HTTP/1.1 408"), "{line}");
}

/// On a pipe instead of a socket, so that time can be moved.
#[tokio::test]
async fn the_end_of_one_stream_does_not_end_the_next_request_of_its_connection() {
    let hub_settings = petasos_hub::Settings { keep_alive: None, retry: None, ..Default::default() };
    let transport = std::sync::Arc::new(MemoryTransport::new(100));
    let connections =
        Connections::new(Service::new(Hub::start(transport, hub_settings).await.expect("start"), settings()));
    let (client, server) = tokio::io::duplex(64 * 1024);
    let serving = connections.clone();
    let admission = connections.admit().expect("room");
    tokio::spawn(async move { serving.serve(server, None, admission).await });
    let mut client = BufReader::new(client);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let expiring = token("subscriber", &format!(r#"{{"mercure":{{"subscribe":["*"]}},"exp":{}}}"#, now + 3));
    for (header, end) in
        [(format!("Authorization: Bearer {expiring}\r\n"), "0\r\n"), (String::new(), "2\r\n")]
    {
        let request = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        client.get_mut().write_all(request.as_bytes()).await.expect("write");
        let mut line = String::new();
        while line != end {
            line.clear();
            assert_ne!(client.read_line(&mut line).await.expect("UTF-8"), 0);
        }
    }
    // Far past the first stream's end: the second is still served.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1_000)).await;
    let draft = petasos_protocol::request::publish(
        b"topic=a&id=later",
        connections.service().hub().url(),
        &Default::default(),
    );
    connections.service().hub().publish(draft.expect("valid")).await.expect("publish");
    let mut line = String::new();
    while line != "id: later\n" {
        line.clear();
        assert_ne!(client.read_line(&mut line).await.expect("UTF-8"), 0, "the connection was cut");
    }
}

#[tokio::test]
async fn http_1_1_needs_one_host_and_http_1_0_none() {
    let server = Server::start(settings()).await;
    for (head, status) in [
        ("HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400"),
        ("HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = server.open(&format!("HEAD {HUB}?topic=a {head}"), b"").await;
        let mut line = String::new();
        timeout(PATIENCE, stream.read_line(&mut line)).await.expect("an answer").expect("UTF-8");
        assert_eq!(&line[9..12], status, "{head:?}");
    }
}

#[tokio::test]
async fn garbage_is_survived() {
    let server = Server::start(settings()).await;
    for garbage in [
        &b"\0\xff\x16\x03\x01"[..],
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\r\n\r\n",
    ] {
        let mut stream = server.open("", garbage).await;
        stream.get_mut().shutdown().await.expect("half close");
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
    }
    assert_eq!(server.publish("topic=a").await.status, 200);
}

#[tokio::test]
async fn stopping_ends_streams_properly_and_frees_the_port() {
    let server = Server::start(settings()).await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    server.publish("topic=a&id=1").await;
    server.connections.stop().await;
    assert!(stream.event().await.starts_with("id: 1\n"));
    assert_eq!(stream.chunk().await, None);
    timeout(PATIENCE, server.task).await.expect("the server ends").expect("no panic");
    assert!(TcpStream::connect(server.address).await.is_err());
}
