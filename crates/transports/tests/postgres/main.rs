//! The log in PostgreSQL against a real server.

#![cfg(feature = "postgres")]
#![expect(unreachable_pub, reason = "a test's modules are seen by nobody else")]

#[path = "../faults/mod.rs"]
mod faults;
#[path = "../support/mod.rs"]
mod support;

mod losses;
mod nodes;
mod opening;
mod outages;
mod retention;
mod server;
mod updates;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use petasos_hub::{
    conformance::{CHECKS, Subject},
    transport::Transport,
};
use petasos_transports::{Options, Retention};

use server::Postgres;

struct Logs {
    server: Postgres,
    made: AtomicUsize,
    last: Mutex<Options>,
}

#[async_trait]
impl Subject for Logs {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let retention = Retention { entries_max: history_max, ..Retention::default() };
        let options = Options { retention, ..Options::default() };
        *self.last.lock().expect("whole") = options.clone();
        self.server.open(&format!("name=log-{number}&lease=2s"), &options).await
    }

    async fn pause(&self) -> bool {
        self.server.signal_all("STOP");
        true
    }

    async fn resume(&self) {
        self.server.signal_all("CONT");
    }

    async fn peer(&self) -> Option<Arc<dyn Transport>> {
        let number = self.made.load(Ordering::Relaxed);
        let options = self.last.lock().expect("whole").clone();
        Some(self.server.open(&format!("name=log-{number}&lease=2s"), &options).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    // The checks wait a minute for 20,000 commits one after the other, whatever the disk can do.
    let logs = Logs {
        server: Postgres::with(&["fsync=off"]).await,
        made: AtomicUsize::new(0),
        last: Mutex::default(),
    };
    for (name, check) in CHECKS {
        let began = std::time::Instant::now();
        eprintln!("{name}");
        check(&logs).await;
        eprintln!("    took {:?}", began.elapsed());
    }
}
