//! The streams of a hub, and what each has to be: the log, the subscribers, the leases of the nodes, and documents once there
//! is one.

use std::time::Duration;

use petasos_hub::TransportError;
use petasos_hub::registry::NodeId;
use petasos_hub::transport::{HUB_EVENTS_MIN, events_max};
use serde_json::{Value, json};

use super::{
    api::Info,
    failure::{Failure, codes},
    link::Link,
};
use crate::{OpenError, shared::pace::MARGIN_ENTRIES};

/// The names and the settings of the streams.
pub(super) struct Streams {
    pub(super) log: String,
    pub(super) subscribers: String,
    pub(super) leases: String,
    pub(super) documents: String,
    /// Subjects of the log, by origin.
    pub(super) updates: String,
    pub(super) events: String,
    name: String,
    replicas: u32,
    lease: Duration,
    entries_max: usize,
}

/// The server remembers the ids of events for this time at least, and takes no event twice: two nodes that expire the same
/// subscriber do so at about the same time.
const DUPLICATES_MIN: Duration = Duration::from_secs(120);

impl Streams {
    pub(super) fn new(link: &Link, entries_max: usize) -> Self {
        let settings = &link.settings;
        let name = settings.name.clone();
        Self {
            // A hub's name has no "+", so that the names of two hubs never meet.
            log: name.clone(),
            subscribers: format!("{name}+subscribers"),
            leases: format!("{name}+leases"),
            documents: format!("{name}+documents"),
            updates: format!("{name}.updates"),
            events: format!("{name}.events"),
            replicas: settings.replicas,
            lease: settings.lease,
            entries_max,
            name,
        }
    }

    pub(super) fn subscriber_subject(&self, node: &str, subscriber: &str) -> String {
        format!("{}.subscribers.{node}.{subscriber}", self.name)
    }

    pub(super) fn lease_subject(&self, node: &str) -> String {
        format!("{}.leases.{node}", self.name)
    }

    pub(super) fn document_subject(&self, document: &str) -> String {
        format!("{}.documents.{document}", self.name)
    }

    /// How many subscription events readers see.
    pub(super) fn events_max(&self) -> usize {
        events_max(self.entries_max)
    }

    /// How many messages of each subject the server keeps: what readers see, and what followers may still be on their
    /// way to.
    fn physical_max(&self) -> u64 {
        let kept = self.entries_max.max(HUB_EVENTS_MIN).saturating_add(MARGIN_ENTRIES) as u64;
        // What the server counts in.
        kept.min(i64::MAX as u64)
    }

    /// Makes the log if it is not there, or checks it.
    pub(super) async fn ensure_log(&self, link: &Link) -> Result<Info, OpenError> {
        let wanted = self.stream(
            &self.log,
            &[&self.updates, &self.events],
            self.physical_max(),
            Duration::ZERO,
            DUPLICATES_MIN.max(self.lease * 3),
        );
        ensure(link, &self.log, wanted).await
    }

    /// Makes all streams that are not there, and checks the others.
    pub(super) async fn ensure(&self, link: &Link) -> Result<Info, OpenError> {
        let subjects = self.subscriber_subject("*", "*");
        let wanted = self.stream(&self.subscribers, &[&subjects], 1, Duration::ZERO, DUPLICATES_MIN);
        ensure(link, &self.subscribers, wanted).await?;
        self.ensure_leases(link).await?;
        self.ensure_log(link).await
    }

    /// Makes the stream of documents if it is not there, or checks it.
    pub(super) async fn ensure_documents(&self, link: &Link) -> Result<(), OpenError> {
        let subjects = self.document_subject("*");
        let wanted = self.stream(&self.documents, &[&subjects], 1, Duration::ZERO, DUPLICATES_MIN);
        ensure(link, &self.documents, wanted).await.map(drop)
    }

    /// The server removes a lease that has not been renewed in time. All nodes have the same length: the first one's.
    async fn ensure_leases(&self, link: &Link) -> Result<(), OpenError> {
        let subjects = self.lease_subject("*");
        let duplicates = self.lease.min(DUPLICATES_MIN);
        let wanted = self.stream(&self.leases, &[&subjects], 1, self.lease, duplicates);
        let info = ensure(link, &self.leases, wanted.clone()).await?;
        let age = number(&info.config, "max_age");
        if age == self.lease.as_nanos() as u64 {
            return Ok(());
        }
        let leases =
            link.subjects(&self.leases, &subjects).await.map_err(|failure| refused(link, &failure))?;
        // Marks of resigned leases do not count.
        let is_lease =
            |subject: &String| subject.rsplit('.').next().is_some_and(|node| NodeId::parse(node).is_some());
        if leases.iter().any(is_lease) {
            return Err(OpenError::Refused(format!(
                "nodes run with a lease of {}: write ?lease={0}, or stop them all first",
                humantime::format_duration(Duration::from_nanos(age))
            )));
        }
        let mut config = info.config;
        for name in ["max_age", "duplicate_window"] {
            config[name] = wanted[name].clone();
        }
        link.update(&self.leases, &config).await.map_err(|failure| refused(link, &failure))?;
        Ok(())
    }

    fn stream(
        &self,
        name: &str,
        subjects: &[&str],
        per_subject: u64,
        age: Duration,
        duplicates: Duration,
    ) -> Value {
        json!({
            "name": name,
            "description": "made by petasos",
            "subjects": subjects,
            "retention": "limits",
            "storage": "file",
            "num_replicas": self.replicas,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msg_size": -1,
            "max_msgs_per_subject": per_subject,
            "max_age": age.as_nanos() as u64,
            // A stream whose bytes an operator bounds must refuse appends, not lose what the hub promises to keep.
            "discard": "new",
            "duplicate_window": duplicates.as_nanos() as u64,
            "allow_direct": true,
        })
    }
}

async fn ensure(link: &Link, stream: &str, wanted: Value) -> Result<Info, OpenError> {
    let info = match link.info(stream).await {
        Err(failure) if failure.is(codes::STREAM_NOT_FOUND) => {
            // Another node may make it at the same time, which is no error if it makes the same.
            match link.create(stream, &wanted).await {
                Ok(info) => return Ok(info),
                Err(failure) => link.info(stream).await.map_err(|_| refused(link, &failure))?,
            }
        }
        info => info.map_err(|failure| refused(link, &failure))?,
    };
    check(stream, &info.config, &wanted)?;
    // Grown only: nodes with different settings would else take turns.
    let mut config = info.config.clone();
    let mut changed = false;
    for name in ["max_msgs_per_subject", "duplicate_window"] {
        if signed(&config, name) != -1 && number(&config, name) < number(&wanted, name) {
            config[name] = wanted[name].clone();
            changed = true;
        }
    }
    if config["allow_direct"] != true {
        config["allow_direct"] = true.into();
        changed = true;
    }
    if !changed {
        return Ok(info);
    }
    tracing::info!(stream, "the stream is changed to what the settings need");
    link.update(stream, &config).await.map_err(|failure| refused(link, &failure))
}

/// Refuses a stream that would lose what the hub promises to keep.
fn check(stream: &str, config: &Value, wanted: &Value) -> Result<(), OpenError> {
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let subjects: Vec<_> = config["subjects"].as_array().into_iter().flatten().collect();
    let has_subjects =
        wanted["subjects"].as_array().into_iter().flatten().all(|each| subjects.contains(&each));
    let bounded = ["max_msgs", "max_bytes"].iter().any(|name| signed(config, name) > 0);
    let ages = number(wanted, "max_age") == 0 && number(config, "max_age") > 0;
    let problem = if !has_subjects || subjects.len() != wanted["subjects"].as_array().map_or(0, Vec::len) {
        "it has other subjects"
    } else if text("retention") != "limits" {
        "its retention is not \"limits\""
    } else if bounded && text("discard") != "new" {
        "it is bounded and discards old messages when it is full: set discard to \"new\", or lift the bound"
    } else if ages {
        "it removes messages by age: set max_age to 0"
    } else if config["no_ack"] == true || config["sealed"] == true {
        "it takes no messages, or confirms none"
    } else {
        let (replicas, wished) = (number(config, "num_replicas").max(1), number(wanted, "num_replicas"));
        if replicas != wished {
            tracing::warn!(
                stream,
                replicas,
                wished,
                "the stream has another number of replicas: edit it with \"nats stream edit\""
            );
        }
        if text("storage") == "memory" {
            tracing::warn!(stream, "the stream is in memory: it is lost when its servers restart");
        }
        return Ok(());
    };
    Err(OpenError::Refused(format!(
        "the stream \"{stream}\" in NATS cannot be used: {problem}; or choose another ?name="
    )))
}

/// A failure at start, with what to do about it.
pub(super) fn refused(link: &Link, failure: &Failure) -> OpenError {
    let name = &link.settings.name;
    if let Some(text) = link.denials.take() {
        return OpenError::Refused(format!(
            "the NATS server refuses a request ({text}): let the user publish to \"$JS.API.>\" and \"{name}.>\", \
             and subscribe to \"_INBOX.>\""
        ));
    }
    match failure {
        failure if failure.is(codes::NOT_ENABLED) || failure.is(codes::NOT_ENABLED_FOR_ACCOUNT) => {
            not_enabled()
        }
        Failure::Refused(refusal) if refusal.code < 500 || refusal.description.contains("replicas") => {
            OpenError::Refused(format!("NATS refuses a stream: {refusal}"))
        }
        failure => TransportError::unavailable(failure.to_string()).into(),
    }
}

pub(super) fn not_enabled() -> OpenError {
    OpenError::Refused(
        "JetStream is not enabled: start nats-server with \"-js\" or \"jetstream {}\" in its configuration, and \
         enable it for the account"
            .to_owned(),
    )
}

fn signed(config: &Value, name: &str) -> i64 {
    config[name].as_i64().unwrap_or(0)
}

fn number(config: &Value, name: &str) -> u64 {
    u64::try_from(signed(config, name)).unwrap_or(0)
}

/// How many messages of each subject the server keeps.
pub(super) fn kept_per_subject(info: &Info) -> u64 {
    match signed(&info.config, "max_msgs_per_subject") {
        limit if limit > 0 => limit as u64,
        _ => u64::MAX,
    }
}
