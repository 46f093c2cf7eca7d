//! Requests of browsers from other origins, of proxies, and of clients that compress.

use petasos_server::{Origins, Settings};

use crate::client::{Answer, FORM, HUB, Server, publisher, settings, subscriber};

fn detail(answer: &Answer) -> String {
    let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("problem details");
    problem["detail"].as_str().expect("a sentence").to_owned()
}

#[tokio::test]
async fn a_body_with_a_coding_is_refused_and_the_header_is_named() {
    let server = Server::start(settings()).await;
    let mut stream = server.subscribe("topic=*", &[]).await;
    let form = b"topic=a&id=coded";
    for coding in ["gzip", "GZIP", "br", "deflate", "zstd", "x-unknown", "identity, gzip", "\"identity\""] {
        let coding = format!("Content-Encoding: {coding}");
        for method in ["POST", "QUERY"] {
            let answer = server.request(method, HUB, &[&publisher(), FORM, &coding], form).await;
            // A publisher's token subscribes nobody.
            let expected = if method == "POST" { 415 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {coding}");
        }
        let answer = server.request("QUERY", HUB, &[FORM, &coding], form).await;
        assert_eq!(answer.status, 415, "{coding}");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
        assert!(answer.body.contains("urn:petasos:problem:content-encoding"));
        assert!(detail(&answer).contains("without the header Content-Encoding"));
    }
    let twice = ["Content-Encoding: identity", "Content-Encoding: gzip"];
    let answer = server.request("POST", HUB, &[&publisher(), FORM, twice[0], twice[1]], form).await;
    assert_eq!(answer.status, 415);
    for coding in ["Content-Encoding: identity", "Content-Encoding: Identity , ", "Content-Encoding:"] {
        let answer = server.request("POST", HUB, &[&publisher(), FORM, coding], b"topic=a&id=plain").await;
        assert_eq!(answer.status, 200, "{coding}");
        assert!(stream.event().await.starts_with("id: plain\n"), "nothing was published before");
    }
}

#[tokio::test]
async fn a_body_with_a_transfer_coding_beside_chunked_is_refused() {
    if crate::is_http2() {
        // It knows no such field.
        return;
    }
    let server = Server::start(settings()).await;
    let mut stream = server.subscribe("topic=*", &[]).await;
    let form = b"e\r\ntopic=a&id=two\r\n0\r\n\r\n";
    let coded = "Transfer-Encoding: gzip, chunked";
    let answer = server.request("POST", HUB, &[&publisher(), FORM, coded], form).await;
    assert_eq!(answer.status, 501);
    assert!(detail(&answer).contains("Transfer-Encoding"));
    let plain = "Transfer-Encoding: Chunked";
    let answer = server.request("POST", HUB, &[&publisher(), FORM, plain], form).await;
    assert_eq!(answer.status, 200);
    assert!(stream.event().await.starts_with("id: two\n"), "nothing was published before");
}

#[tokio::test]
async fn a_preflight_allows_what_an_allowed_origin_asks_for() {
    let cors = Origins::parse(["https://*.example.com"]).expect("origins");
    let server = Server::start(Settings { cors, ..settings() }).await;
    let names = "Access-Control-Request-Headers: hx-request,hx-target,traceparent,x-csrf-token";
    for target in [HUB, "/.well-known/mercure/subscriptions"] {
        let asked = ["Origin: https://app.example.com", "Access-Control-Request-Method: GET", names];
        let answer = server.request("OPTIONS", target, &asked, b"").await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        let allowed = answer.header("access-control-allow-headers").expect("names");
        for name in ["authorization", "hx-request", "hx-target", "traceparent", "x-csrf-token"] {
            assert!(allowed.split(", ").any(|other| other == name), "{name}: {allowed}");
        }
        let answer =
            server.request("OPTIONS", target, &["Origin: https://evilexample.com", names], b"").await;
        assert_eq!(answer.status, 204);
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-allow"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_subscription_whose_slashes_a_proxy_decoded_is_explained() {
    let server = Server::start(settings()).await;
    let api = format!("{HUB}/subscriptions");
    for path in [
        "/https://example.com/books/1",
        "/https:/example.com/books/1/urn:uuid:1",
        "/https:/example.com",
        "/exact/https:/example.com",
        "/exact/https://example.com/books/1",
        "/a/b/c/urn:uuid:1",
        "/a/b/c",
    ] {
        let answer = server.request("GET", &format!("{api}{path}"), &[&subscriber()], b"").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(detail(&answer).contains("%2F") && detail(&answer).contains("proxy_pass"), "{path}");
    }
    for path in [
        format!("{api}/a/urn:uuid:1"),
        format!("{api}x/a/b/c/d"),
        format!("{HUB}/a/b/c/d"),
        "/a/b:/c".to_owned(),
    ] {
        let answer = server.request("GET", &path, &[&subscriber()], b"").await;
        assert_eq!(
            (answer.status, detail(&answer).as_str()),
            (404, "there is nothing at this path"),
            "{path}"
        );
    }
}
