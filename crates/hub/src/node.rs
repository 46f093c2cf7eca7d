//! What all streams of one node share: the log, how far the node has delivered it, its health and its counters.
//!
//! A node knows neither its shards nor its streams. Each stream holds its node, so a node lives until its last handle and
//! its last stream are gone.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    TransportError,
    budget::Budget,
    delivered::Delivered,
    health::Health,
    log::transport::{Head, Transport},
    settings::Settings,
    stream::replay::Replays,
};

/// What all streams of one node share.
pub(crate) struct Node {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) settings: Settings,
    pub(crate) replays: Replays,
    pub(crate) budget: Arc<Budget>,
    pub(crate) health: Arc<Health>,
    pub(crate) counters: Counters,
    delivered: watch::Receiver<Delivered>,
    /// The tail first, then the worker of presence.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Counters of one node since its start, but for `subscribers`, which counts open streams.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    pub(crate) subscribers: AtomicUsize,
    pub(crate) lagged: AtomicU64,
}

impl Node {
    /// `tasks`: the tail first. They end with the node. Starts the tasks that compare history on the current tokio runtime.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        settings: Settings,
        health: Arc<Health>,
        delivered: watch::Receiver<Delivered>,
        tasks: Vec<JoinHandle<()>>,
    ) -> Arc<Self> {
        let budget = Budget::new(settings.subscribers_bytes_max);
        Arc::new(Self {
            transport,
            settings,
            replays: Replays::start(),
            budget,
            health,
            counters: Counters::default(),
            delivered,
            tasks: Mutex::new(tasks),
        })
    }

    /// Where a stream without a cursor begins: at the end of the log. While the store is unavailable, at the end of what
    /// this node has delivered, so that a new subscriber waits like those that are here.
    pub(crate) async fn head(&self) -> Result<Head, TransportError> {
        // An unavailable store is not asked: an answer may take long.
        if self.transport.is_readable() {
            match self.transport.head().await {
                Err(TransportError::Unavailable(_)) => {}
                head => return head,
            }
        }
        Ok(self.delivered.borrow().head.clone())
    }

    /// How far this node has delivered the log.
    pub(crate) fn delivered(&self) -> Delivered {
        self.delivered.borrow().clone()
    }

    /// The end of the log as far as it is known without asking a store: the end of a log in memory, else the end of what this
    /// node has delivered.
    pub(crate) async fn known_head(&self) -> Result<Head, TransportError> {
        match self.transport.outlives_process() {
            true => Ok(self.delivered.borrow().head.clone()),
            false => self.transport.head().await,
        }
    }

    /// Waits until this node has delivered everything up to `head`, or its tail has ended.
    pub(crate) async fn has_delivered(&self, head: &Head) {
        let mut delivered = self.delivered.clone();
        // An error means that the tail has ended: nothing more will be delivered.
        let _ = delivered.wait_for(|delivered| delivered.head.position >= head.position).await;
    }

    /// The tail first, then the worker of presence. Only the first call gets them.
    pub(crate) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a stream until the guard is dropped.
    pub(crate) fn count_subscriber(self: &Arc<Self>) -> Counted {
        self.counters.subscribers.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in self.take_tasks() {
            task.abort();
        }
    }
}

/// An open stream, as far as it is counted.
pub(crate) struct Counted(Arc<Node>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
