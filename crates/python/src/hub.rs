//! `Hub`: the hub inside this process.

use std::{
    future::poll_fn,
    mem,
    os::{fd::IntoRawFd, unix::net::UnixStream as Pair},
    sync::Arc,
    time::Duration,
};

use petasos::{Config, IssuerConfig, KeyConfig, Log, Secret};
use petasos_hub::Closed;
use petasos_protocol::{
    Limits, Reject,
    event::{EventId, EventType, Retry},
    topic::{HubUrl, Topics},
    update::Draft,
};
use petasos_server::metrics::Format;
use pyo3::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::OwnedWriteHalf},
};

use crate::{
    InvalidUpdate, KeyBytes,
    engine::{Engine, Settings},
    failure::Failure,
};

#[pyclass(module = "flask_mercure_sse._native", frozen)]
pub(crate) struct Hub {
    settings: Settings,
    /// Warnings about arguments that work and are probably not meant. Each begins with the argument's name.
    #[pyo3(get)]
    warnings: Vec<String>,
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (
        *,
        publisher_key=None,
        subscriber_key=None,
        anonymous=true,
        subscriptions=true,
        publish=true,
        keep_alive=15.0,
        retry=3.0,
        history_max=None,
        cors_origins=vec![],
        publish_origins=vec![],
        cookie_name="mercureAuthorization".to_owned(),
        subscription_event_type=Some("Subscription".to_owned()),
        cors_loopback_credentials=false,
        public_url=None,
        transport=None,
        own_process=false,
        exposed=false,
    ))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        clippy::needless_pass_by_value,
        reason = "keyword arguments of Python"
    )]
    fn new(
        publisher_key: Option<KeyBytes>,
        subscriber_key: Option<KeyBytes>,
        anonymous: bool,
        subscriptions: bool,
        publish: bool,
        keep_alive: f64,
        retry: f64,
        history_max: Option<usize>,
        cors_origins: Vec<String>,
        publish_origins: Vec<String>,
        cookie_name: String,
        subscription_event_type: Option<String>,
        cors_loopback_credentials: bool,
        public_url: Option<String>,
        transport: Option<String>,
        own_process: bool,
        exposed: bool,
    ) -> PyResult<Self> {
        let wrong = |setting: &'static str| {
            move |problem: String| InvalidUpdate::new_err(format!("{setting}: {problem}"))
        };
        let seconds = |setting, value| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| wrong(setting)("give seconds, 0 or more".to_owned()))
        };
        let (keep_alive, retry) = (seconds("keep_alive", keep_alive)?, seconds("retry", retry)?);
        let mut config = Config { exposed, own_process, ..Config::default() };
        config.issuers.push(IssuerConfig {
            publisher: KeyConfig::new(publisher_key.map(Secret::new)),
            subscriber: KeyConfig::new(subscriber_key.map(Secret::new)),
            ..IssuerConfig::default()
        });
        if let Some(url) = public_url {
            config.set_public_url(&url).map_err(wrong("public_url"))?;
        }
        if let Some(url) = transport {
            config.log = Log::parse(&url).map_err(|error| wrong("transport")(error.to_string()))?;
        }
        if let Some(updates) = history_max {
            config.log.retention.entries_max = updates;
        }
        config.hub.keep_alive = Some(keep_alive);
        config.hub.retry = Some(retry);
        config.hub.subscriptions = subscriptions;
        let event_type =
            subscription_event_type.map(|value| EventType::parse(&value, &config.http.limits)).transpose();
        config.hub.subscription_event_type =
            event_type.map_err(|reject| wrong("subscription_event_type")(reject.to_string()))?;
        config.http.issuers.compat = true;
        config.http.issuers.prefixes = true;
        config.http.anonymous = anonymous;
        config.http.publish = publish;
        config.http.cors = petasos::origins(&cors_origins).map_err(wrong("cors_origins"))?;
        if cors_loopback_credentials {
            config.http.cors = config.http.cors.with_loopback_credentials();
        }
        config.http.publish_origins =
            petasos::publish_origins(&publish_origins).map_err(wrong("publish_origins"))?;
        config.http.cookie_name = petasos::cookie_name(&cookie_name).map_err(wrong("cookie_name"))?;
        config.http.legacy_cookie_name = None;
        let has_store = config.log.is_stored();
        let checked = config.check().map_err(|error| InvalidUpdate::new_err(error.to_string()))?;
        let warnings = checked.warnings().iter().map(ToString::to_string).collect();
        Ok(Self { settings: Settings::new(checked, has_store), warnings })
    }

    #[pyo3(signature = (topics, data="", private=false, id=None, r#type=None, retry=None))]
    #[expect(clippy::too_many_arguments, reason = "a Python signature")]
    fn publish(
        &self,
        py: Python<'_>,
        topics: TopicNames,
        data: &str,
        private: bool,
        id: Option<&str>,
        r#type: Option<&str>,
        retry: Option<&str>,
    ) -> PyResult<String> {
        let engine = self.engine(py)?;
        let hub = engine.connections.service().hub();
        let topics = Vec::from(topics);
        let draft = draft(hub.url(), &topics, data, private, id, r#type, retry)?;
        let _room = engine.reserve(&topics, data)?;
        Ok(py.detach(|| engine.block_on(publish(hub, draft)))?)
    }

    /// The returned descriptor yields one line: "ok" and the id, or the name of an exception and its text.
    #[pyo3(signature = (topics, data="", private=false, id=None, r#type=None, retry=None))]
    #[expect(clippy::too_many_arguments, reason = "a Python signature")]
    fn submit(
        &self,
        py: Python<'_>,
        topics: TopicNames,
        data: &str,
        private: bool,
        id: Option<&str>,
        r#type: Option<&str>,
        retry: Option<&str>,
    ) -> PyResult<i32> {
        let engine = self.engine(py)?;
        let hub = engine.connections.service().hub().clone();
        let topics = Vec::from(topics);
        let draft = draft(hub.url(), &topics, data, private, id, r#type, retry)?;
        let room = engine.reserve(&topics, data)?;
        let (client, mut server) = pair(&engine)?;
        engine.runtime().spawn(async move {
            let _room = room;
            let answer = match publish(&hub, draft).await {
                Ok(id) => format!("ok {id}"),
                Err(failure) => failure.line(),
            };
            // An error means that the caller no longer waits for the answer.
            let _ = server.write_all(answer.as_bytes()).await;
        });
        Ok(client.into_raw_fd())
    }

    /// The engine serves the other end like any connection.
    #[pyo3(signature = (*, may_pass_client=false))]
    fn connect(&self, py: Python<'_>, may_pass_client: bool) -> PyResult<i32> {
        let engine = self.engine(py)?;
        if may_pass_client {
            self.settings.make_room(&engine);
        }
        let Some(admission) = engine.connections.admit() else {
            return Err(
                Failure::no_room("the hub has as many connections as it may have, or it stops").into()
            );
        };
        let (client, server) = pair(&engine)?;
        let connections = engine.connections.clone();
        engine.runtime().spawn(async move {
            match may_pass_client {
                true => connections.serve_application(server, admission).await,
                false => connections.serve(server, None, admission).await,
            }
        });
        Ok(client.into_raw_fd())
    }

    /// Returns before the store is asked where the log ends, which may take seconds.
    fn watch_subscriptions(&self, py: Python<'_>) -> PyResult<i32> {
        let engine = self.engine(py)?;
        let (client, server) = pair(&engine)?;
        let hub = engine.connections.service().hub().clone();
        engine.runtime().spawn(async move {
            let (mut end, mut server) = server.into_split();
            let mut nothing = [0];
            tokio::select! {
                () = write_subscription_events(&hub, &mut server) => {}
                // The reader never writes: the read returns once the reader has closed its end.
                _ = end.read(&mut nothing) => {}
            }
        });
        Ok(client.into_raw_fd())
    }

    /// Returns before the streams have ended.
    fn end_passed(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine(py)?;
        let hub = engine.connections.service().hub().clone();
        engine.runtime().spawn(async move { hub.end_carried().await });
        Ok(())
    }

    fn last_event_id(&self, py: Python<'_>) -> PyResult<String> {
        let engine = self.engine(py)?;
        let hub = engine.connections.service().hub();
        let id = py.detach(|| engine.block_on(hub.last_event_id())).map_err(Failure::from)?;
        Ok(id.into())
    }

    fn metrics(&self, py: Python<'_>) -> Option<String> {
        let engine = self.settings.running()?;
        let samples = py.detach(|| engine.block_on(engine.connections.metrics()));
        Some(Format::Prometheus.render(&samples))
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.engine(py).map(drop)
    }

    fn stop(&self, py: Python<'_>) {
        self.settings.stop(py);
    }
}

/// Publishes an update and returns its id.
///
/// # Errors
/// The failures of `Hub.publish`. A hub that has failed meanwhile is no hub that was stopped: another attempt starts it
/// again.
async fn publish(hub: &petasos_hub::Hub, draft: Draft) -> Result<String, Failure> {
    match hub.publish(draft).await {
        Ok(id) => Ok(id.as_str().to_owned()),
        Err(_) if hub.has_failed() => Err(Failure::hub_failed()),
        Err(error) => Err(error.into()),
    }
}

/// Writes subscription events until the hub or its log ends, or the reader has closed its end.
async fn write_subscription_events(hub: &petasos_hub::Hub, to: &mut OwnedWriteHalf) {
    let mut begins = true;
    loop {
        let mut session = match hub.watch_subscriptions().await {
            Ok(session) => session,
            Err(error) => return tracing::warn!(%error, "subscription events cannot be watched"),
        };
        // The comment tells the reader that it gets every event from here on.
        if mem::take(&mut begins) && to.write_all(b":\n").await.is_err() {
            return;
        }
        while let Some(frame) = poll_fn(|cx| session.poll_next(cx)).await {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
        // After a lost log there is another one, and a lagging reader goes on with the events that follow. A hub that has
        // failed ends its streams in the same way, and sends no more.
        if hub.has_failed() || !matches!(session.closed(), Some(Closed::LogLost | Closed::Lagged)) {
            return;
        }
        tracing::warn!("subscription events were missed: signals are sent for those that follow");
    }
}

/// The topics of an update, as Python gives them.
#[derive(FromPyObject)]
enum TopicNames {
    One(String),
    Several(Vec<String>),
}

impl From<TopicNames> for Vec<String> {
    fn from(names: TopicNames) -> Self {
        match names {
            TopicNames::One(name) => vec![name],
            TopicNames::Several(names) => names,
        }
    }
}

impl Hub {
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        self.settings.engine(py)
    }
}

/// Checks an update by the rules of the protocol.
///
/// # Errors
/// `InvalidUpdate`, with the rule that the update breaks.
pub(crate) fn draft(
    hub: &HubUrl,
    topics: &[String],
    data: &str,
    private: bool,
    id: Option<&str>,
    event_type: Option<&str>,
    retry: Option<&str>,
) -> PyResult<Draft> {
    let draft = || {
        let limits = Limits::default();
        if data.len() > limits.body_bytes_max {
            let (what, max) = ("the data in bytes", limits.body_bytes_max);
            return Err(Reject::TooLarge { what, max });
        }
        Ok(Draft {
            topics: Topics::parse(topics.iter().map(String::as_str), hub, &limits)?,
            data: data.to_owned(),
            private,
            id: id.map(|id| EventId::parse(id, &limits)).transpose()?,
            event_type: event_type.map(|value| EventType::parse(value, &limits)).transpose()?,
            retry: retry.map(Retry::parse).transpose()?,
        })
    };
    draft().map_err(|reject| InvalidUpdate::new_err(reject.to_string()))
}

/// Makes the two ends of a connection: one for Python, in non-blocking mode, and one for the engine.
///
/// # Errors
/// `NoRoom` if the process may open no more files.
fn pair(engine: &Engine) -> Result<(Pair, UnixStream), Failure> {
    let (client, server) = Pair::pair()?;
    client.set_nonblocking(true)?;
    server.set_nonblocking(true)?;
    let _context = engine.runtime().enter();
    Ok((client, UnixStream::from_std(server)?))
}
