//! The operators' port: what it answers, whom, and what it bounds.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use petasos_server::{Admin, AdminPort, Facts, Route, metrics::table::BUILD_INFO};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    client::{Answer, PATIENCE, Server, settings},
    log::start_faulty,
};

struct Operators {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Operators {
    async fn start(server: &Server, token: Option<&str>) -> Self {
        let facts = Facts {
            version: "1.2.3",
            log: "memory".to_owned(),
            add: Box::new(|samples| samples.push(&BUILD_INFO, &["1.2.3"], true)),
            started: Instant::now(),
        };
        let port = AdminPort::bind("127.0.0.1", 0).await.expect("bind");
        let address = port.address();
        let reload = Route::new(http::Method::POST, "/reload", |_| {
            std::future::ready(http::Response::new(http_body_util::Full::from("reloaded")))
        });
        let admin = Admin::new(&server.connections, facts, token.map(str::as_bytes)).with(reload);
        Self { address, task: tokio::spawn(port.serve(admin)) }
    }

    async fn ask(&self, request: &str, headers: &[&str]) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let mut stream = TcpStream::connect(self.address).await.expect("connect");
        stream
            .write_all(format!("{request} HTTP/1.1\r\n{host}{headers}\r\n").as_bytes())
            .await
            .expect("write");
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("an answer").expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        Answer {
            status: head[9..12].parse().expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

#[tokio::test]
async fn it_answers_metrics_in_both_formats_and_status() {
    let server = Server::start(settings()).await;
    let operators = Operators::start(&server, None).await;
    let _stream = server.subscribe("match=a", &[]).await;
    let plain = operators.ask("GET /metrics", &[]).await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.body.contains("\nmercure_subscribers_connected 1\n"), "{}", plain.body);
    assert!(plain.body.contains("\npetasos_build_info{version=\"1.2.3\"} 1\n"));
    let open =
        operators.ask("GET /metrics?x=y", &["Accept: application/openmetrics-text; version=1.0.0"]).await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.ends_with("\n# EOF\n"));
    let status = operators.ask("GET /status", &[]).await;
    let status: serde_json::Value = serde_json::from_str(&status.body).expect("JSON");
    assert_eq!((&status["version"], &status["log"]["transport"]), (&"1.2.3".into(), &"memory".into()));
    assert_eq!((&status["streams"]["open"], &status["ready"]), (&1.into(), &true.into()));
    assert!(status["uptime_seconds"].as_f64().is_some_and(|uptime| uptime > 0.0));
    assert!(status["rates"]["published_per_second"].is_number());
}

#[tokio::test]
async fn readiness_names_each_check_and_what_it_found() {
    let (server, log) = start_faulty().await;
    let operators = Operators::start(&server, None).await;
    let readiness = async || {
        let answer = operators.ask("GET /readyz", &[]).await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let checks = body["checks"].as_object().expect("checks");
        let failed: Vec<_> = checks.iter().filter(|(_, check)| check["ok"] == false).collect();
        let failed: Vec<_> =
            failed.iter().map(|(name, check)| format!("{name}: {}", check["found"])).collect();
        (answer.status, failed)
    };
    assert_eq!(readiness().await, (200, vec![]));
    log.away();
    assert_eq!(readiness().await, (503, vec!["log: \"it does not answer\"".to_owned()]));
    log.break_down();
    assert_eq!(operators.ask("GET /healthz", &[]).await.status, 503);
    log.back();
    server.connections.service().hub().leave();
    assert_eq!(readiness().await, (503, vec!["drain: \"it is about to stop\"".to_owned()]));
    assert_eq!(operators.ask("GET /healthz", &[]).await.status, 200);
    server.connections.stop().await;
    let (status, failed) = readiness().await;
    assert_eq!((status, failed.last().map(String::as_str)), (503, Some("hub: \"stopping\"")));
}

#[tokio::test]
async fn a_token_is_asked_for_by_all_but_health() {
    let server = Server::start(settings()).await;
    let operators = Operators::start(&server, Some("secret")).await;
    for path in ["GET /metrics", "GET /status", "POST /reload", "HEAD /metrics"] {
        for wrong in [
            &[][..],
            &["Authorization: Bearer secre"],
            &["Authorization: Bearer secrets"],
            &["Authorization: Bearer Secret"],
            &["Authorization: Basic secret"],
            &["Authorization: secret"],
            &["Authorization: "],
        ] {
            let answer = operators.ask(path, wrong).await;
            assert_eq!(answer.status, 401, "{path} {wrong:?}");
            assert!(answer.header("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer ")));
        }
        assert_eq!(operators.ask(path, &["authorization: bearer secret"]).await.status, 200, "{path}");
    }
    for path in ["GET /healthz", "GET /readyz"] {
        assert_eq!(operators.ask(path, &[]).await.status, 200, "{path}");
    }
    // From elsewhere, with a name.
    let named = ["Host: hub.example", "Authorization: Bearer secret"];
    assert_eq!(operators.ask("GET /metrics", &named).await.status, 200);
}

#[tokio::test]
async fn pages_of_a_browser_on_this_machine_learn_nothing_and_change_nothing() {
    let server = Server::start(settings()).await;
    let operators = Operators::start(&server, None).await;
    for headers in [&["Host: rebound.example"][..], &["Origin: https://page.example"], &["Host: "]] {
        for path in ["GET /metrics", "GET /status", "POST /reload"] {
            assert_eq!(operators.ask(path, headers).await.status, 403, "{path} {headers:?}");
        }
        assert_eq!(operators.ask("GET /readyz", headers).await.status, 200);
    }
    for host in ["Host: localhost", "Host: localhost:5501", "Host: 127.0.0.1:5501", "Host: [::1]:5501"] {
        assert_eq!(operators.ask("POST /reload", &[host]).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start(settings()).await;
    let operators = Operators::start(&server, None).await;
    assert_eq!(operators.ask("GET /.well-known/mercure", &[]).await.status, 404);
    let refused = operators.ask("GET /reload", &[]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
    let head = operators.ask("HEAD /metrics", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("connection"), Some("close"), "a connection is for one request");
}

/// A peer that sends no request has its connection for two seconds at most, and less if others need it.
#[tokio::test]
async fn silent_peers_leave_room_for_others() {
    let server = Server::start(settings()).await;
    let operators = Operators::start(&server, None).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(operators.address).await.expect("connect"));
    }
    let answer = timeout(Duration::from_secs(1), operators.ask("GET /healthz", &[])).await;
    assert_eq!(answer.expect("at once").status, 200);
}
