//! What happens once for each update, each subscriber or each request, without a socket: encoding, matching, tokens.
//!
//! The index of a shard is private to the hub; `petasos-bench routing` measures it from outside.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use criterion::{BatchSize, Criterion, Throughput};
use petasos_auth::{Algorithm, Issuer, Issuers, Key, Signer, Verifier};
use petasos_protocol::{
    Limits,
    event::EventId,
    matcher::{Matcher, MatcherType},
    request,
    token::Role,
    topic::{HubUrl, Topic},
    update::Update,
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encoding(&mut criterion);
    matching(&mut criterion);
    tokens(&mut criterion);
    criterion.final_summary();
}

/// From the body of a publish request to the bytes that all subscribers share.
fn encoding(criterion: &mut Criterion) {
    let (hub, limits) = (HubUrl::default(), Limits::default());
    let id = || EventId::from_uuid("e1ee88e2-532a-4d6f-ba70-f0f8bd584022");
    let mut group = criterion.benchmark_group("publish");
    for (name, data) in [
        ("200 bytes", "x".repeat(200)),
        ("100 lines of 99 bytes", format!("{}\n", "x".repeat(99)).repeat(100)),
    ] {
        let body = format!("topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data={}", data.replace('\n', "%0A"));
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(format!("parse, {name}"), |bencher| {
            bencher.iter(|| request::publish(black_box(body.as_bytes()), &hub, &limits).expect("valid"));
        });
        group.bench_function(format!("encode, {name}"), |bencher| {
            let draft = || request::publish(body.as_bytes(), &hub, &limits).expect("valid");
            bencher.iter_batched(draft, |draft| Update::publish(draft, id), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// One matcher of each type against a topic that it selects and against one that it does not.
fn matching(criterion: &mut Criterion) {
    let (hub, limits) = (HubUrl::default(), Limits::default());
    let parse = |matcher_type, text| Matcher::parse(matcher_type, text, &hub, &limits).expect("valid");
    let template = |text| Matcher::selector(text, &limits).expect("valid");
    let matchers = [
        ("exact", parse(MatcherType::Exact, "https://example.com/books/1/chapters/2")),
        ("URL pattern", parse(MatcherType::UrlPattern, "https://example.com/books/:book/chapters/:chapter")),
        (
            "URL pattern with an expression",
            parse(MatcherType::UrlPattern, r"https://example.com/books/(\d+)/chapters/(\d+)"),
        ),
        ("URI template", template("https://example.com/books/{book}/chapters/{chapter}")),
    ];
    let topics = [
        ("selected", Topic::unchecked("https://example.com/books/1/chapters/2", &hub)),
        ("not selected", Topic::unchecked("https://example.com/books/1/pages/2", &hub)),
    ];
    let mut group = criterion.benchmark_group("match");
    for (kind, matcher) in &matchers {
        for (outcome, topic) in &topics {
            assert_eq!(matcher.matches(topic), *outcome == "selected", "{kind}");
            group.bench_function(format!("{kind}, {outcome}"), |bencher| {
                bencher.iter(|| black_box(matcher).matches(black_box(topic)));
            });
        }
    }
    group.finish();
}

/// From the text of a token to what it grants.
fn tokens(criterion: &mut Criterion) {
    const SECRET: &str = "a shared secret of at least 32 bytes";
    const RSA: [&str; 2] = [
        include_str!("../../crates/auth/tests/keys/rsa.pem"),
        include_str!("../../crates/auth/tests/keys/rsa.pub.pem"),
    ];
    const P256: [&str; 2] = [
        include_str!("../../crates/auth/tests/keys/p256.pem"),
        include_str!("../../crates/auth/tests/keys/p256.pub.pem"),
    ];
    const ACCESS: &str = r#"{"iss":"https://issuer.example","aud":"https://hub.example/.well-known/mercure","sub":"a",
        "client_id":"b","iat":1,"exp":4102444800,"jti":"c","authorization_details":[{"actions":["publish"],
        "type":"https://mercure.rocks/authorization-detail","topics":[{"match":"*"}]}]}"#;
    const LEGACY: &str = r#"{"mercure":{"publish":["*"]}}"#;
    let mut group = criterion.benchmark_group("token");
    for (name, [private, public], algorithm, typ, claims) in [
        ("0.x, HS256", [SECRET; 2], Algorithm::HS256, "JWT", LEGACY),
        ("1.0, HS256", [SECRET; 2], Algorithm::HS256, "at+jwt", ACCESS),
        ("1.0, ES256", P256, Algorithm::ES256, "at+jwt", ACCESS),
        ("1.0, RS256", RSA, Algorithm::RS256, "at+jwt", ACCESS),
    ] {
        let token = Signer::parse(private, Some(algorithm)).expect("a key").sign(typ, claims);
        let key = Key::parse(public, &[]).expect("a key");
        let issuers = Issuers {
            trusted: vec![Issuer {
                id: "https://issuer.example".to_owned(),
                publisher: vec![key].into(),
                subscriber: vec![].into(),
                authorization_server: false,
            }],
            resource: "https://hub.example/.well-known/mercure".to_owned(),
            compat: true,
            prefixes: false,
        };
        let verifier = || Verifier::new(issuers.clone(), HubUrl::default(), Limits::default());
        let verify = |verifier: &Verifier| {
            at_once(verifier.verify(black_box(&token), Role::Publisher, 2.0))
                .unwrap_or_else(|reason| panic!("{name}: {reason}"))
        };
        group.bench_function(format!("{name}, for the first time"), |bencher| {
            bencher.iter_batched_ref(verifier, |verifier| verify(verifier), BatchSize::SmallInput);
        });
        let verifier = verifier();
        group.bench_function(format!("{name}, again"), |bencher| bencher.iter(|| verify(&verifier)));
    }
    group.finish();
}

/// The output of a future that has nothing to wait for: the keys are here.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("fixed keys are waited for"),
    }
}
