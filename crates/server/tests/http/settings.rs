//! Settings that change while the hub runs.

use std::time::Duration;

use petasos_auth::{Key, Signer};
use petasos_server::{Settings, StreamLimits};

use crate::client::{HUB, Server, publisher, settings, subscriber};

const SOON: Option<Duration> = Some(Duration::from_millis(1));

fn keys(secrets: &[&str]) -> petasos_auth::Keys {
    secrets.iter().map(|secret| Key::parse(secret, &[]).expect("a key")).collect::<Vec<_>>().into()
}

fn with_subscriber_keys(secrets: &[&str]) -> Settings {
    let mut settings = settings();
    settings.issuers.trusted[0].subscriber = keys(secrets);
    settings
}

fn by(secret: &str) -> String {
    let token = Signer::parse(secret, None).expect("a key").sign("JWT", r#"{"mercure":{"subscribe":["*"]}}"#);
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn streams_of_a_withdrawn_key_end_and_all_others_stay() {
    let server = Server::start(settings()).await;
    let mut old = server.subscribe("topic=a", &[&subscriber()]).await;
    let mut anonymous = server.subscribe("topic=a", &[]).await;
    server.connections.set_settings(with_subscriber_keys(&["new", "subscriber"]));
    server.connections.service().revoke(SOON).await;
    let mut new = server.subscribe("topic=a", &[&by("new")]).await;
    for (number, stay) in [(1, true), (2, false)] {
        assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x").await.status, 200);
        for stream in [&mut anonymous, &mut new] {
            assert!(stream.event().await.contains("data: x"), "{number}");
        }
        if stay {
            assert!(old.event().await.contains("data: x"));
            server.connections.set_settings(with_subscriber_keys(&["new"]));
            server.connections.service().revoke(SOON).await;
            assert_eq!(old.chunk().await, None, "its proper end");
        }
    }
    let target = format!("{HUB}?topic=a");
    assert_eq!(server.request("GET", &target, &[&subscriber()], b"").await.status, 401);
    // Without anonymous subscribers, those that are here end, too.
    let alone = Settings { anonymous: false, ..with_subscriber_keys(&["new"]) };
    server.connections.set_settings(alone);
    server.connections.service().revoke(SOON).await;
    assert_eq!(anonymous.chunk().await, None);
    assert_eq!(server.request("GET", &target, &[], b"").await.status, 401);
    assert_eq!(server.publish_with(&publisher(), b"topic=a&data=y").await.status, 200);
    assert!(new.event().await.contains("data: y"));
}

#[tokio::test]
async fn no_stream_ends_where_that_is_not_wanted() {
    let server = Server::start(settings()).await;
    let mut old = server.subscribe("topic=a", &[&subscriber()]).await;
    server.connections.set_settings(with_subscriber_keys(&["new"]));
    server.connections.service().revoke(None).await;
    assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x").await.status, 200);
    assert!(old.event().await.contains("data: x"));
}

#[tokio::test]
async fn bounds_and_limits_are_those_in_force_when_a_request_begins() {
    let server = Server::start(settings()).await;
    let _first = server.subscribe("topic=a", &[]).await;
    let mut tight = Settings { streams: StreamLimits { total: 1, ..StreamLimits::default() }, ..settings() };
    tight.limits.body_bytes_max = 8;
    server.connections.set_settings(tight);
    assert_eq!(server.request("GET", &format!("{HUB}?topic=a"), &[], b"").await.status, 429);
    assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x").await.status, 413);
    server.connections.set_settings(settings());
    let mut second = server.subscribe("topic=a", &[]).await;
    assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x").await.status, 200);
    assert!(second.event().await.contains("data: x"));
}
