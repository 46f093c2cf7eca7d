//! The connections of a node, and the task that keeps them: it notices when the server becomes unavailable and when it
//! answers again.

use std::{future::Future, sync::Arc, time::Duration};

use ::redis::{Script, ToRedisArgs, aio::MultiplexedConnection, cmd};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use super::{
    endpoint::{Endpoint, is_primary},
    failure::Failure,
    script::{Answer, HEAD, NONE, Scripts},
    settings::Settings,
};
use crate::{
    retry::Backoff,
    shared::{
        capacity::{Capacity, PROBE_INTERVAL},
        health::Health,
    },
};

/// What connects a node with its log. Its task ends with it.
pub(super) struct Link {
    pub(super) scripts: Arc<Scripts>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) settings: Arc<Settings>,
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    lines: watch::Sender<Option<Lines>>,
    health: Health,
    /// A call got no answer, or a bad one.
    doubt: Notify,
    /// Whether the server takes writes.
    capacity: Capacity,
}

/// Two connections: answers to readers do not wait behind large batches, nor behind what waits for replicas.
#[derive(Clone)]
pub(super) struct Lines {
    pub(super) reads: MultiplexedConnection,
    pub(super) writes: MultiplexedConnection,
}

/// How often the server is asked whether it is there, if nobody asks it anything else.
const PING_INTERVAL: Duration = Duration::from_secs(1);

impl Link {
    /// Connects, which has to succeed the first time.
    pub(super) async fn open(
        settings: Arc<Settings>,
        scripts: Arc<Scripts>,
        endpoint: Arc<Endpoint>,
    ) -> Result<Arc<Self>, Failure> {
        let lines = connect(&settings, &scripts, &endpoint).await?;
        let shared = Arc::new(Shared {
            lines: watch::Sender::new(Some(lines)),
            health: Health::new("Redis"),
            doubt: Notify::new(),
            capacity: Capacity::new("Redis"),
        });
        let keeper = tokio::spawn(keep(
            Arc::clone(&shared),
            Arc::clone(&settings),
            Arc::clone(&scripts),
            Arc::clone(&endpoint),
        ));
        Ok(Arc::new(Self { scripts, endpoint, settings, shared, keeper }))
    }

    pub(super) fn is_available(&self) -> bool {
        self.shared.health.is_available()
    }

    /// Has the keeper look at its connections now. After silence the server counts as unavailable until it answers.
    pub(super) fn doubt(&self, failure: &Failure) {
        if let Failure::Silence = failure {
            self.shared.health.set_unavailable(failure);
        }
        if failure.refuses_writes() {
            self.shared.capacity.refused(0, failure);
        }
        self.shared.doubt.notify_one();
    }

    pub(super) fn capacity(&self) -> &Capacity {
        &self.shared.capacity
    }

    /// Changes with new connections, which are a reason to give up older ones: the server may be another.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Lines>> {
        self.shared.lines.subscribe()
    }

    /// The connections, as soon as there are any.
    pub(super) async fn lines(&self, deadline: Instant) -> Result<Lines, Failure> {
        let mut lines = self.watch();
        let wait = time::timeout_at(deadline, lines.wait_for(Option::is_some));
        // The sender lives as long as this value.
        wait.await.ok().and_then(Result::ok).and_then(|lines| lines.clone()).ok_or(Failure::Silence)
    }

    /// The connections, as soon as the server answers. A paused server would do what it was sent when it goes on, after
    /// the publisher got an error.
    pub(super) async fn lines_that_answer(&self, deadline: Instant) -> Result<Lines, Failure> {
        let available = time::timeout_at(deadline, self.shared.health.until_available()).await;
        available.map_err(|_| Failure::Silence)?;
        self.lines(deadline).await
    }

    /// Runs a script that can be run twice, as often as it takes until the time is up.
    pub(super) async fn call(&self, script: &Script, arguments: impl ToRedisArgs) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut backoff = Backoff::new();
        loop {
            let failure = match self.attempt(script, &arguments, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.may_pass() || time::timeout_at(deadline, backoff.wait()).await.is_err() {
                return Err(failure);
            }
        }
    }

    /// Runs a script once, where a second call would have another answer.
    pub(super) async fn call_once(
        &self,
        script: &Script,
        arguments: impl ToRedisArgs,
    ) -> Result<Answer, Failure> {
        self.attempt(script, arguments, Instant::now() + self.settings.timeout).await
    }

    /// Asks something once that is not of the log.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.settings.timeout;
        let reads = self.lines(deadline).await?.reads;
        within(deadline, question(reads)).await.inspect_err(|failure| self.doubt(failure))
    }

    async fn attempt(
        &self,
        script: &Script,
        arguments: impl ToRedisArgs,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        // Holds the connection for reads only: the connection for writes must end when it is given up, with the
        // commands that wait in it.
        let mut reads = self.lines(deadline).await?.reads;
        let answer = within(deadline, self.scripts.call(&mut reads, script, arguments)).await;
        answer.inspect_err(|failure| self.doubt(failure))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Silence is a failure, too.
pub(super) async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    time::timeout_at(deadline, call).await.unwrap_or(Err(Failure::Silence))
}

async fn connect(settings: &Settings, scripts: &Scripts, endpoint: &Endpoint) -> Result<Lines, Failure> {
    let mut reads = endpoint.connect().await?;
    let writes = endpoint.connect().await?;
    within(Instant::now() + settings.timeout, scripts.call_first(&mut reads, &HEAD, NONE)).await?;
    Ok(Lines { reads, writes })
}

async fn keep(shared: Arc<Shared>, settings: Arc<Settings>, scripts: Arc<Scripts>, endpoint: Arc<Endpoint>) {
    loop {
        let current = shared.lines.borrow().clone();
        if let Some(mut lines) = current {
            let failure = watch_over(&shared, &settings, &scripts, &mut lines).await;
            shared.health.set_unavailable(&failure);
            shared.lines.send_replace(None);
        }
        let mut backoff = Backoff::new();
        let lines = loop {
            match connect(&settings, &scripts, &endpoint).await {
                Ok(lines) => break lines,
                Err(failure) => shared.health.set_unavailable(&failure),
            }
            backoff.wait().await;
        };
        shared.lines.send_replace(Some(lines));
        shared.health.set_available();
    }
}

/// Asks again and again until there is no answer, or one that ends the use of these connections.
async fn watch_over(shared: &Shared, settings: &Settings, scripts: &Scripts, lines: &mut Lines) -> Failure {
    let mut looked_at = Instant::now();
    loop {
        // An error of the timer is the interval's end.
        let _ = time::timeout(PING_INTERVAL, shared.doubt.notified()).await;
        let deadline = Instant::now() + settings.timeout;
        let Lines { reads, writes } = lines;
        let (one, other) = tokio::join!(
            within(deadline, is_there(reads, scripts)),
            within(deadline, async { Ok(cmd("PING").exec_async(writes).await?) }),
        );
        if let Err(failure) = one.and(other) {
            return failure;
        }
        shared.health.set_available();
        // A trial write: the reasons for refusing writes differ, and not every user may ask for the server's settings.
        if !shared.capacity.has_room() && looked_at.elapsed() >= PROBE_INTERVAL {
            looked_at = Instant::now();
            match within(deadline, scripts.probe(&mut lines.writes)).await {
                Ok(()) => shared.capacity.took(),
                Err(failure) => tracing::debug!(reason = %failure, "Redis has no room yet"),
            }
        }
    }
}

/// Whether the server takes writes and has the log: a node of a cluster may live on and have it no more.
async fn is_there(connection: &mut MultiplexedConnection, scripts: &Scripts) -> Result<(), Failure> {
    is_primary(connection).await?;
    scripts.call(connection, &HEAD, NONE).await?;
    Ok(())
}
