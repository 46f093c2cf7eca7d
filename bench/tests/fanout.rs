//! The tool against its own floor, in one process.

use std::{net::SocketAddr, thread, time::Duration};

use petasos_bench::{
    bare::{Bare, Stopper},
    crowd::Manner,
    publishers::{Extent, Pace, Plan},
    report::Report,
    scenario::{Churn, Fanout, Routing, Setup, Slow},
    target::{Body, Credentials, Dialect, Place, Protocol, Selection, Target},
    tls::Trust,
};

/// A server that ends with this value.
struct Server {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Server {
    fn start() -> Self {
        let bare = Bare::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, stopper) = (bare.address().expect("bound"), bare.stopper());
        Self { address, stopper, thread: Some(thread::spawn(|| bare.serve())) }
    }

    fn setup(&self, body: Body) -> Setup {
        let place = place(&format!("http://{}/", self.address));
        Setup {
            target: Target {
                subscribe: place.clone(),
                publish: place,
                dialect: Dialect::V1,
                body,
                publisher: Credentials::None,
                subscriber: Credentials::None,
                topic: "https://bench.example/test".to_owned(),
                protocol: Protocol::Http1,
            },
            server: None,
            manner: Manner { connecting_max: 8, patience: Duration::from_secs(20), keeps_cursors: false },
            settle: Duration::from_millis(1),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.stop().expect("woken");
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn place(url: &str) -> Place {
    Place::parse(url, Protocol::Http1, Trust::System).expect("a URL")
}

fn value(report: &Report, name: &str) -> f64 {
    report.value(name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

#[test]
fn every_subscriber_gets_every_update_once() {
    let server = Server::start();
    for (body, pace) in [(Body::Form, Pace::Closed), (Body::Raw, Pace::Rate(2_000.0))] {
        let plan = Plan { pace, extent: Extent::Updates(100) };
        let fanout = Fanout { subscribers: 20, publishers: 3, plan, bytes: 100 };
        let report = fanout.run(&server.setup(body)).expect("it runs");
        assert_eq!(report.faults, [""; 0], "{report}");
        assert_eq!(value(&report, "updates"), 100.0);
        assert_eq!(value(&report, "deliveries"), 2_000.0);
        assert!(value(&report, "latency_p50_ms") > 0.0, "{report}");
    }
}

#[test]
fn updates_larger_than_sockets_arrive_whole() {
    let server = Server::start();
    let plan = Plan { pace: Pace::Closed, extent: Extent::Updates(3) };
    let fanout = Fanout { subscribers: 3, publishers: 1, plan, bytes: 300_000 };
    let report = fanout.run(&server.setup(Body::Form)).expect("it runs");
    assert_eq!((report.faults.len(), value(&report, "deliveries")), (0, 9.0), "{report}");
}

#[test]
fn an_update_that_nobody_gets_is_lost() {
    let server = Server::start();
    let mut setup = server.setup(Body::Form);
    setup.target.publish = place(&format!("http://{}/?topic={{topic}}", server.address));
    // The time after which nothing more is expected.
    setup.manner.patience = Duration::from_secs(3);
    let plan = Plan { pace: Pace::Closed, extent: Extent::Updates(3) };
    // With the topic in the URL the form has none, and the floor does not look there.
    let fanout = Fanout { subscribers: 2, publishers: 1, plan, bytes: 100 };
    let report = fanout.run(&setup).expect("it runs");
    assert_eq!(report.faults, ["lost: 6"], "{report}");
}

#[test]
fn a_topic_is_found_among_many() {
    let server = Server::start();
    let routing = Routing {
        topics: vec![1, 35],
        topics_per_connection: 10,
        plan: Plan { pace: Pace::Closed, extent: Extent::Updates(20) },
        selection: Selection::Exact,
        bytes: 100,
    };
    let report = routing.run(&server.setup(Body::Form)).expect("it runs");
    assert_eq!(report.faults, [""; 0], "{report}");
    assert!(value(&report, "35_topics_latency_p99_ms") > 0.0);
}

#[test]
fn who_comes_and_goes_is_answered() {
    let server = Server::start();
    let plan = Plan { pace: Pace::Rate(1_000.0), extent: Extent::Updates(100) };
    let report = Churn { subscribers: 4, rate: None, plan, bytes: 100 }
        .run(&server.setup(Body::Form))
        .expect("it runs");
    assert_eq!(report.faults, [""; 0], "{report}");
    assert!(value(&report, "connects") > 4.0, "{report}");
}

#[test]
fn who_never_reads_is_not_waited_for() {
    let server = Server::start();
    let slow = Slow {
        subscribers: 10,
        stalled_percent: 30,
        stalled_buffer_bytes: 1_024,
        publishers: 1,
        plan: Plan { pace: Pace::Closed, extent: Extent::Updates(50) },
        bytes: 10_000,
    };
    let report = slow.run(&server.setup(Body::Form)).expect("it runs");
    assert_eq!(report.faults, [""; 0], "{report}");
    assert_eq!((value(&report, "stalled"), value(&report, "with_deliveries")), (3.0, 350.0), "{report}");
}
