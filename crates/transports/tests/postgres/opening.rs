//! What is said to whoever opens a log that cannot be used as it is.

use std::process::Command;

use petasos_transports::Options;

use crate::{
    kit::{Port, certificate, updates::*},
    server::{Postgres, try_open},
};

async fn refusal(url: &str) -> String {
    let error = try_open(url, &Options::default()).await.err().expect(url).to_string();
    assert!(!error.contains("hunter2") && !error.contains("secret"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do() {
    let server = Postgres::durable().await;
    let port = server.0.port;
    let error = refusal(&format!("postgres://postgres:hunter2@127.0.0.1:{port}/postgres")).await;
    assert!(error.contains("password"), "{error}");
    let error = refusal(&server.url_of("nowhere", "")).await;
    assert!(error.contains("\"nowhere\"") && error.contains("createdb"), "{error}");
    let error = refusal(&server.url_of("postgres", "colour=red")).await;
    assert!(error.contains("colour"), "{error}");
    let error = refusal(&server.url_of("postgres", "sslmode=require")).await;
    assert!(error.contains("TLS"), "{error}");
    let closed = Port::hold();
    let url = format!("postgres://postgres:hunter2@127.0.0.1:{}/postgres", closed.number());
    let error = refusal(&url).await;
    assert!(error.contains("refused"), "{error}");
    let later = server.open("name=later", &Options::default()).await;
    server.client().await.batch_execute("UPDATE later_meta SET version = 2").await.expect("it works");
    let error = refusal(&server.url_of("postgres", "name=later")).await;
    assert!(error.contains("update petasos"), "{error}");
    drop(later);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named() {
    let server = Postgres::durable().await;
    let admin = server.client().await;
    admin.batch_execute("CREATE ROLE hub LOGIN PASSWORD 'hunter2'").await.expect("it works");
    let url = format!("postgres://hub:hunter2@127.0.0.1:{}/postgres", server.0.port);
    let error = refusal(&url).await;
    assert!(error.contains("CREATE SCHEMA AUTHORIZATION \"hub\""), "{error}");
    admin.batch_execute("CREATE SCHEMA AUTHORIZATION hub").await.expect("it works");
    let log = try_open(&url, &Options::default()).await.expect("it opens");
    append(&*log, "a").await;
    // Where the tables are somebody else's.
    admin
        .batch_execute("CREATE ROLE other LOGIN PASSWORD 'hunter2'; GRANT USAGE ON SCHEMA hub TO other")
        .await
        .expect("it works");
    let url =
        format!("postgres://other:hunter2@127.0.0.1:{}/postgres?options=-csearch_path%3Dhub", server.0.port);
    let error = refusal(&url).await;
    assert!(error.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON"), "{error}");
    admin
        .batch_execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA hub TO other")
        .await
        .expect("it works");
    let peer = try_open(&url, &Options::default()).await.expect("it opens");
    append(&*peer, "b").await;
    assert_eq!(kept_ids(&*log).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_open_an_empty_database_together_make_one_log() {
    let server = Postgres::durable().await;
    let url = server.url_of("postgres", "");
    let opening = (0..6).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { try_open(&url, &Options::default()).await.expect("it opens") })
    });
    let mut nodes = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        nodes.push(opened.await.expect("opened"));
    }
    for (node, id) in nodes.iter().zip(["a", "b", "c", "d", "e", "f"]) {
        append(&**node, id).await;
    }
    assert_eq!(kept_ids(&*nodes[0]).await, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_keep_logs_apart() {
    let server = Postgres::durable().await;
    let one = server.open("name=one", &Options::default()).await;
    let other = server.open("name=One", &Options::default()).await;
    append(&*one, "a").await;
    assert!(kept_ids(&*other).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_durable_whatever_the_default_is() {
    let server =
        Postgres::with(&["synchronous_commit=off", "default_transaction_isolation=serializable"]).await;
    let log = server.open("", &Options::default()).await;
    let check = "CREATE FUNCTION check_setting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('synchronous_commit') <> 'on' OR current_setting('transaction_isolation') <> 'read committed'
            THEN RAISE EXCEPTION 'not durable'; END IF;
            RETURN new; END $$;
        CREATE TRIGGER check_setting BEFORE INSERT ON mercure_log FOR EACH ROW EXECUTE FUNCTION check_setting()";
    server.client().await.batch_execute(check).await.expect("it works");
    append(&*log, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_as_far_as_it_is_asked_for() {
    let mut server = Postgres::durable().await;
    let directory = server.0.directory().to_owned();
    let server_certificate = directory.join("data/server.crt");
    certificate::make(&directory.join("data"), true);
    for (made, name) in [("cert.pem", "server.crt"), ("key.pem", "server.key")] {
        std::fs::rename(directory.join("data").join(made), directory.join("data").join(name))
            .expect("renamed");
    }
    std::fs::copy(&server_certificate, directory.join("ca.pem")).expect("copied");
    let owned = Command::new("chown")
        .arg("--reference")
        .arg(directory.join("data/PG_VERSION"))
        .args([directory.join("data/server.key"), server_certificate])
        .status();
    assert!(owned.expect("chown").success());
    server.client().await.batch_execute("ALTER SYSTEM SET ssl = on").await.expect("it works");
    server.0.end("INT");
    server.0.restart();
    server.client().await;
    let (port, ca) = (server.0.port, directory.join("ca.pem"));
    let url = |host: &str, parameters: &str| {
        format!("postgres://postgres:secret@{host}:{port}/postgres?{parameters}")
    };
    let ca = format!("ca={}", ca.display());
    let is_encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'petasos' AND NOT ssl";
    for (host, parameters) in [
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", format!("sslmode=require&{ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&{ca}")),
        ("localhost", format!("sslmode=verify-full&{ca}&hostaddr=127.0.0.1")),
    ] {
        let log = try_open(&url(host, &parameters), &Options::default()).await;
        let log = log.unwrap_or_else(|error| panic!("{parameters}: {error}"));
        append(&*log, "a").await;
        let plain = server.client().await.query_one(is_encrypted, &[]).await.expect("query");
        assert_eq!(plain.get::<_, i64>(0), 0, "{parameters}");
    }
    let error = refusal(&url("127.0.0.1", &format!("sslmode=verify-full&{ca}"))).await;
    assert!(error.contains("certificate"), "another name: {error}");
    let error = refusal(&url("127.0.0.1", "sslmode=verify-ca&ca=system")).await;
    assert!(error.contains("certificate") || error.contains("ca:"), "an unknown issuer: {error}");
}
