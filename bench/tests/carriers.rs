//! The tool against a hub, in one process: HTTP/1.1 and HTTP/2, with TLS and without.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use petasos_auth::{Issuer, Issuers, Key};
use petasos_bench::{
    Failure,
    crowd::Manner,
    publishers::{Extent, Pace, Plan},
    report::Report,
    scenario::{Churn, Fanout, Idle, Routing, Setup, Slow, Storm},
    target::{Body, Credentials, Dialect, Place, Protocol, Selection, Target},
    tls::Trust,
};
use petasos_hub::{Hub, MemoryTransport};
use petasos_server::{Certificate, Connections, Listener, Service, Settings, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);

/// A hub on a thread of its own; both end with this value.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(tls: Option<Tls>, settings: Settings) -> Self {
        Self::start_with(tls, settings, petasos_hub::Settings::default())
    }

    fn start_with(tls: Option<Tls>, settings: Settings, streams: petasos_hub::Settings) -> Self {
        let (started, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut listener = Listener::bind("127.0.0.1", 0).await.expect("bind");
                if let Some(tls) = tls {
                    listener = listener.with_tls(tls);
                }
                let log = Arc::new(MemoryTransport::new(1_000));
                let hub = Hub::start(log, streams).await.expect("start");
                let connections = Connections::new(Service::new(hub, settings));
                started.send(listener.address()).expect("waited for");
                tokio::select! {
                    () = listener.serve(connections, Duration::ZERO) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("started");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn settings() -> Settings {
    let key = || vec![Key::parse("a key", &[]).expect("a key")].into();
    Settings {
        issuers: Issuers {
            trusted: vec![Issuer {
                id: "https://a.example".to_owned(),
                publisher: key(),
                subscriber: key(),
                authorization_server: false,
            }],
            resource: "https://a.example/.well-known/mercure".to_owned(),
            compat: true,
            prefixes: false,
        },
        anonymous: true,
        ..Settings::default()
    }
}

/// A certificate that nobody has signed: what a hub offers, and the file that a client trusts.
fn certificate(name: &str) -> (Tls, PathBuf) {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let CertifiedKey { cert, signing_key } = made;
    let file = std::env::temp_dir().join(format!("petasos-bench-{}-{name}.pem", petasos_bench::unique()));
    fs::write(&file, cert.pem()).expect("written");
    let certificate = Certificate::parse(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes());
    (Tls::new(vec![certificate.expect("a certificate")]).expect("an offer"), file)
}

const H2: Protocol = Protocol::Http2 { streams_per_connection: 1 };
const SHARED: Protocol = Protocol::Http2 { streams_per_connection: 7 };

fn setup(server: &Server, is_tls: bool, protocol: Protocol, trust: Trust<'_>) -> Setup {
    let scheme = if is_tls { "https" } else { "http" };
    let place = Place::parse(&format!("{scheme}://{}/.well-known/mercure", server.address), protocol, trust);
    let place = place.expect("a URL");
    let key = |key: &str| Credentials::Key {
        key: key.to_owned(),
        issuer: "https://a.example".to_owned(),
        audience: "https://a.example/.well-known/mercure".to_owned(),
    };
    Setup {
        target: Target {
            subscribe: place.clone(),
            publish: place,
            dialect: Dialect::Legacy,
            body: Body::Form,
            publisher: key("a key"),
            subscriber: Credentials::None,
            topic: format!("https://bench.example/{}", petasos_bench::unique()),
            protocol,
        },
        server: None,
        manner: Manner { connecting_max: 16, patience: PATIENCE, keeps_cursors: false },
        settle: Duration::from_millis(1),
    }
}

/// Runs a check over each protocol, with TLS and without.
fn everywhere(check: impl Fn(&str, Setup)) {
    let (offer, file) = certificate("everywhere");
    for (is_tls, server) in
        [(false, Server::start(None, settings())), (true, Server::start(Some(offer), settings()))]
    {
        for protocol in [Protocol::Http1, H2, SHARED] {
            check(
                &format!("{protocol:?}, TLS: {is_tls}"),
                setup(&server, is_tls, protocol, Trust::File(&file)),
            );
        }
    }
    fs::remove_file(file).expect("removed");
}

fn ran(name: &str, report: Result<Report, Failure>) -> Report {
    let report = report.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    assert_eq!(report.faults, [""; 0], "{name}: {report}");
    report
}

fn value(report: &Report, name: &str) -> f64 {
    report.value(name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

#[test]
fn every_update_arrives_once_over_every_protocol() {
    everywhere(|name, setup| {
        for (pace, bytes) in [(Pace::Closed, 200), (Pace::Rate(1_000.0), 40_000)] {
            let plan = Plan { pace, extent: Extent::Updates(60) };
            let fanout = Fanout { subscribers: 20, publishers: 9, plan, bytes };
            // A topic of its own, since the numbers of updates begin again.
            let target = Target { topic: format!("{}/{bytes}", setup.target.topic), ..setup.target.clone() };
            let report = ran(name, fanout.run(&Setup { target, ..setup.clone() }));
            assert_eq!(value(&report, "deliveries"), 1_200.0, "{name}");
            assert!(value(&report, "latency_p50_ms") > 0.0, "{name}");
        }
    });
}

#[test]
fn every_scenario_runs_over_every_protocol() {
    everywhere(|name, mut setup| {
        let plan = Plan { pace: Pace::Rate(400.0), extent: Extent::Updates(80) };
        ran(name, Idle { subscribers: 20, rounds: 2 }.run(&setup));
        let report = ran(name, Churn { subscribers: 10, rate: None, plan, bytes: 200 }.run(&setup));
        assert!(value(&report, "connects") > 10.0, "{name}: {report}");
        let routing = Routing {
            topics: vec![1, 90],
            topics_per_connection: 10,
            plan,
            selection: Selection::Exact,
            bytes: 200,
        };
        ran(name, routing.run(&setup));
        setup.target.topic.push_str("/slow");
        let slow = Slow {
            subscribers: 20,
            stalled_percent: 40,
            stalled_buffer_bytes: 1_024,
            publishers: 1,
            plan,
            bytes: 4_000,
        };
        let report = ran(name, slow.run(&setup));
        assert_eq!((value(&report, "stalled"), value(&report, "with_deliveries")), (8.0, 960.0), "{name}");
        setup.target.topic.push_str("/storm");
        setup.manner = Manner { connecting_max: 20, keeps_cursors: true, ..setup.manner };
        let report = ran(name, Storm { subscribers: 20, before: 3, missed: 50, bytes: 200 }.run(&setup));
        assert_eq!(value(&report, "deliveries"), 1_000.0, "{name}");
    });
}

#[test]
fn subscribers_share_connections_and_publishers_do() {
    let fanout = |subscribers| {
        // Three of subscribers, two of publishers; none of a run before.
        let server = Server::start(None, Settings { connections_max: 5, ..settings() });
        let setup = setup(&server, false, SHARED, Trust::System);
        let plan = Plan { pace: Pace::Closed, extent: Extent::Updates(10) };
        Fanout { subscribers, publishers: 8, plan, bytes: 200 }.run(&setup)
    };
    assert_eq!(value(&ran("five", fanout(21)), "deliveries"), 210.0);
    // For a sixth one, the hub closes one that has not asked for anything yet, or the sixth.
    let failure = fanout(36).expect_err("the hub closes one").to_string();
    assert!(failure.starts_with("subscriber "), "{failure}");
}

#[test]
fn a_certificate_is_verified_unless_it_is_not_to_be() {
    let (offer, own) = certificate("own");
    let (_, other) = certificate("other");
    let server = Server::start(Some(offer), settings());
    for protocol in [Protocol::Http1, SHARED] {
        for (trust, is_trusted) in [
            (Trust::File(&own), true),
            (Trust::Anything, true),
            (Trust::File(&other), false),
            (Trust::System, false),
        ] {
            let outcome = Idle { subscribers: 2, rounds: 1 }.run(&setup(&server, true, protocol, trust));
            assert_eq!(outcome.is_ok(), is_trusted, "{protocol:?} {trust:?}: {outcome:?}");
            if let Err(failure) = outcome {
                assert!(failure.to_string().contains("certificate"), "{failure}");
            }
        }
    }
    fs::write(&other, "nothing").expect("written");
    let place = Place::parse("https://127.0.0.1/", H2, Trust::File(&other));
    assert!(place.expect_err("nothing to trust").to_string().contains("it has no certificate"));
    for file in [own, other] {
        fs::remove_file(file).expect("removed");
    }
}

#[test]
fn a_server_without_http2_is_an_error() {
    let (offer, file) = certificate("without");
    for (is_tls, tls, said) in [(true, Some(offer), "does not speak this version of HTTP"), (false, None, "")]
    {
        let server = Server::start(tls, Settings { http2: false, ..settings() });
        let outcome = Idle { subscribers: 1, rounds: 1 }.run(&setup(&server, is_tls, H2, Trust::File(&file)));
        let failure = outcome.expect_err("no HTTP/2").to_string();
        assert!(failure.contains(said), "{failure}");
        let fanout = Fanout {
            subscribers: 1,
            publishers: 1,
            plan: Plan { pace: Pace::Closed, extent: Extent::Updates(1) },
            bytes: 200,
        };
        assert!(fanout.run(&setup(&server, is_tls, Protocol::Http1, Trust::File(&file))).is_ok());
    }
    fs::remove_file(file).expect("removed");
}

#[test]
fn what_a_server_refuses_fails_a_run() {
    let server = Server::start(None, settings());
    for protocol in [Protocol::Http1, SHARED] {
        let mut setup = setup(&server, false, protocol, Trust::System);
        let fanout = Fanout {
            subscribers: 3,
            publishers: 2,
            plan: Plan { pace: Pace::Closed, extent: Extent::Updates(4) },
            bytes: 200,
        };
        setup.target.publisher = Credentials::None;
        let report = fanout.run(&setup).expect("it runs");
        assert_eq!(value(&report, "refused"), 4.0, "{report}");
        assert!(report.faults.contains(&"publishes were refused with status 401".to_owned()), "{report}");
        setup.target.subscriber = Credentials::Token("none".to_owned());
        let failure = fanout.run(&setup).expect_err("nobody is let in").to_string();
        assert!(failure.contains("answered with status 401"), "{failure}");
    }
}

#[test]
fn streams_that_a_server_ends_fail_a_run() {
    let ends = petasos_hub::Settings { lifetime_max: Some(Duration::from_millis(1)), ..Default::default() };
    let server = Server::start_with(None, settings(), ends);
    for protocol in [Protocol::Http1, SHARED] {
        // Longer than any stream lives.
        let plan = Plan { pace: Pace::Rate(20.0), extent: Extent::Updates(40) };
        let fanout = Fanout { subscribers: 8, publishers: 1, plan, bytes: 200 };
        let mut setup = setup(&server, false, protocol, Trust::System);
        setup.manner.patience = Duration::from_secs(3);
        match fanout.run(&setup) {
            Ok(report) => {
                assert_eq!(value(&report, "closed_by_server"), 8.0, "{report}");
                assert!(report.faults.iter().any(|fault| fault.contains("the stream has ended")), "{report}");
            }
            // One of them has ended before all had begun.
            Err(failure) => assert!(failure.to_string().contains("the stream has ended"), "{failure}"),
        }
    }
}
