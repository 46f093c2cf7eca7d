//! A store of a test: a server that a test starts, pauses, ends, wipes and brings back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use petasos_hub::{
    conformance::{CHECKS, Subject},
    transport::Transport,
};

use super::updates::open_log;

/// A running store of its own, which ends with the value. Several nodes may open one log of it.
#[async_trait]
pub trait Store: Send + Sync + Sized {
    /// The signals by which it is ended, each as another accident: an operator, an immediate stop, a crash. It keeps over all
    /// of them what it has acknowledged.
    const ENDS: &'static [&'static str];

    async fn start() -> Self;

    /// The URL of a log. Parameters as in "name=a&lease=2s".
    fn url(&self, parameters: &str) -> String;

    /// It answers nothing from now on, and ends no connection.
    fn pause(&self);

    /// It goes on.
    fn resume(&self);

    /// Ends it with one of [`Self::ENDS`], and waits for that.
    fn end(&mut self, signal: &str);

    /// Starts it again after its end, with all that it had.
    fn come_back(&mut self);

    /// Ends it; it has nothing when it comes back.
    fn lose_everything(&mut self);
}

/// Makes logs with names of their own in one store, for the list of [`petasos_hub::conformance`].
pub struct Logs<S> {
    store: S,
    /// Of all logs, beside their names.
    parameters: String,
    made: AtomicUsize,
    last: Mutex<(String, usize)>,
}

impl<S: Store> Logs<S> {
    pub fn new(store: S, parameters: &str) -> Self {
        Self { store, parameters: parameters.to_owned(), made: AtomicUsize::new(0), last: Mutex::default() }
    }

    /// Runs the whole list.
    pub async fn conform(&self) {
        for (name, check) in CHECKS {
            let began = std::time::Instant::now();
            eprintln!("{name}");
            check(self).await;
            eprintln!("    took {:?}", began.elapsed());
        }
    }
}

#[async_trait]
impl<S: Store> Subject for Logs<S> {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let url = self.store.url(&format!("name=log-{number}&lease=2s{}", self.parameters));
        *self.last.lock().expect("no panic") = (url.clone(), history_max);
        open_log(&url, history_max).await
    }

    async fn peer(&self) -> Option<Arc<dyn Transport>> {
        let (url, history_max) = self.last.lock().expect("no panic").clone();
        Some(open_log(&url, history_max).await)
    }

    async fn pause(&self) -> bool {
        self.store.pause();
        true
    }

    async fn resume(&self) {
        self.store.resume();
    }
}
