//! The requests of the JetStream API that a log needs, in the form that servers have understood since 2.9.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use async_nats::Message;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    failure::{Failure, Refusal, codes},
    link::{Answer, Link, Sent},
};
use crate::retry::Backoff;

/// A stream as its leader has it.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) config: Value,
    created: String,
    pub(super) state: State,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    #[serde(default)]
    first_ts: String,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

impl Info {
    /// When the oldest message was stored.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        let oldest = humantime::parse_rfc3339(&self.state.first_ts).ok();
        oldest.filter(|_| self.state.messages > 0)
    }

    /// When the stream was made, in microseconds: a stream that is made anew has a later one.
    pub(super) fn epoch(&self) -> Result<u64, Failure> {
        let malformed = || Failure::Malformed("when the stream was made".to_owned());
        let created = humantime::parse_rfc3339(&self.created).map_err(|_| malformed())?;
        let since = created.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| malformed())?;
        u64::try_from(since.as_micros()).map_err(|_| malformed())
    }
}

/// A message as the leader of its stream has stored it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) payload: Bytes,
    /// Its headers as they are sent.
    headers: String,
}

impl Kept {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

/// What a consumer is to deliver.
pub(super) struct ConsumerConfig<'a> {
    pub(super) name: &'a str,
    pub(super) from: u64,
    pub(super) headers_only: bool,
    /// Only messages of these subjects.
    pub(super) filter: Option<&'a str>,
}

/// The answer to a publish.
#[derive(Debug, Deserialize)]
pub(super) struct Ack {
    pub(super) seq: u64,
}

/// An ephemeral consumer that nobody asks anything is gone after this time: longer than any pull, so that only dead
/// ones go.
const CONSUMER_IDLE: Duration = Duration::from_secs(90);

impl Link {
    pub(super) async fn account(&self) -> Result<(), Failure> {
        self.call::<Value>("INFO", &Value::Null).await.map(drop)
    }

    pub(super) async fn info(&self, stream: &str) -> Result<Info, Failure> {
        self.call(&format!("STREAM.INFO.{stream}"), &Value::Null).await
    }

    /// The subjects of a stream's messages, of those that a filter selects.
    pub(super) async fn subjects(&self, stream: &str, filter: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            state: Subjects,
        }
        #[derive(Deserialize)]
        struct Subjects {
            #[serde(default)]
            subjects: HashMap<String, u64>,
        }
        let request = json!({"subjects_filter": filter});
        let answer = self.call::<Answer>(&format!("STREAM.INFO.{stream}"), &request).await?;
        Ok(answer.state.subjects.into_keys().collect())
    }

    pub(super) async fn create(&self, stream: &str, config: &Value) -> Result<Info, Failure> {
        self.call(&format!("STREAM.CREATE.{stream}"), config).await
    }

    pub(super) async fn update(&self, stream: &str, config: &Value) -> Result<Info, Failure> {
        self.call(&format!("STREAM.UPDATE.{stream}"), config).await
    }

    /// Creates an ephemeral pull consumer; the answer is how many messages it is to deliver.
    pub(super) async fn consume(&self, stream: &str, config: &ConsumerConfig<'_>) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Created {
            num_pending: u64,
        }
        let mut request = json!({"stream_name": stream, "config": {
            "name": config.name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": config.from.max(1),
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": CONSUMER_IDLE.as_nanos() as u64,
            "headers_only": config.headers_only,
            "mem_storage": true,
            "num_replicas": 1,
        }});
        let mut subject = format!("CONSUMER.CREATE.{stream}.{}", config.name);
        if let Some(filter) = config.filter {
            request["config"]["filter_subject"] = filter.into();
            subject = format!("{subject}.{filter}");
        }
        self.call::<Created>(&subject, &request).await.map(|created| created.num_pending)
    }

    /// Deletes a consumer. A consumer that does not exist is no error.
    pub(super) async fn release(&self, stream: &str, consumer: &str) -> Result<(), Failure> {
        let released =
            self.call::<Value>(&format!("CONSUMER.DELETE.{stream}.{consumer}"), &Value::Null).await;
        match released {
            Err(failure) if !failure.is(codes::CONSUMER_NOT_FOUND) => Err(failure),
            _ => Ok(()),
        }
    }

    /// The newest message of a subject, as the leader has it.
    pub(super) async fn last(&self, stream: &str, subject: &str) -> Result<Option<Kept>, Failure> {
        self.kept(stream, &json!({"last_by_subj": subject})).await
    }

    /// A message by its sequence, from any replica; one that says that it has no such message is not believed.
    pub(super) async fn get(&self, stream: &str, seq: u64) -> Result<Option<Bytes>, Failure> {
        let payload = json!({"seq": seq}).to_string();
        let answer = self.request(&format!("$JS.API.DIRECT.GET.{stream}"), payload.into()).await;
        match answer {
            Ok(answer) if answer.message.status.is_none() => return Ok(Some(answer.message.payload)),
            // A stream that others have made may not allow it.
            Ok(_) | Err(Failure::NoResponders) => {}
            Err(failure) => return Err(failure),
        }
        let kept = self.kept(stream, &json!({"seq": seq})).await?;
        Ok(kept.map(|kept| kept.payload))
    }

    async fn kept(&self, stream: &str, request: &Value) -> Result<Option<Kept>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            seq: u64,
            #[serde(default)]
            data: String,
            #[serde(default)]
            hdrs: String,
        }
        let answer = self.call::<Answer>(&format!("STREAM.MSG.GET.{stream}"), request).await;
        let Stored { seq, data, hdrs } = match answer {
            Ok(answer) => answer.message,
            Err(failure) if failure.is(codes::MESSAGE_NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let decode =
            |text| BASE64_STANDARD.decode(text).map_err(|error| Failure::Malformed(error.to_string()));
        let headers = String::from_utf8_lossy(&decode(hdrs)?).into_owned();
        Ok(Some(Kept { seq, payload: decode(data)?.into(), headers }))
    }

    /// Removes the message with that sequence. False: it was not there any more. If the answer to a first request was lost,
    /// this request counts as the one that has removed it.
    pub(super) async fn delete(&self, stream: &str, seq: u64) -> Result<bool, Failure> {
        let request = json!({"seq": seq, "no_erase": true});
        let (deleted, is_repeated) =
            self.exchange::<Value>(&format!("STREAM.MSG.DELETE.{stream}"), &request).await?;
        match deleted {
            Ok(_) => Ok(true),
            Err(failure)
                if failure.is(codes::SEQUENCE_NOT_FOUND)
                    || failure.is(codes::MESSAGE_NOT_FOUND)
                    || says_gone(&failure) =>
            {
                Ok(is_repeated)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Waits for the answer to a message that has been sent.
    pub(super) async fn published(&self, sent: Sent) -> Result<Ack, Failure> {
        let ack = parse(&self.answer(sent).await?);
        if let Err(failure) = &ack
            && failure.is_leaderless()
        {
            self.health.set_unavailable(failure);
        }
        ack
    }

    async fn call<T: DeserializeOwned>(&self, subject: &str, request: &Value) -> Result<T, Failure> {
        self.exchange(subject, request).await?.0
    }

    /// What the server answers, and whether it was asked more than once. A server that has no leader to ask is asked again
    /// within the time of one request.
    async fn exchange<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &Value,
    ) -> Result<(Result<T, Failure>, bool), Failure> {
        let payload = if request.is_null() { Bytes::new() } else { request.to_string().into() };
        let subject = format!("$JS.API.{subject}");
        let deadline = Instant::now() + self.settings.timeout;
        let mut backoff = Backoff::new();
        loop {
            let Answer { message, is_repeated } = self.request(&subject, payload.clone()).await?;
            match parse(&message) {
                Err(failure) if failure.is_leaderless() && Instant::now() < deadline => backoff.wait().await,
                result => return Ok((result, is_repeated)),
            }
        }
    }
}

/// Servers answer a delete of what is not there with a general error.
fn says_gone(failure: &Failure) -> bool {
    let texts = ["not found", "no message found", "message deleted"];
    matches!(failure, Failure::Refused(refusal) if texts.iter().any(|text| refusal.description.contains(text)))
}

fn parse<T: DeserializeOwned>(message: &Message) -> Result<T, Failure> {
    #[derive(Deserialize)]
    struct Refused {
        error: Option<Refusal>,
    }
    let malformed = |error: serde_json::Error| Failure::Malformed(error.to_string());
    let Refused { error } = serde_json::from_slice(&message.payload).map_err(malformed)?;
    match error {
        Some(refusal) => Err(Failure::Refused(refusal)),
        None => serde_json::from_slice(&message.payload).map_err(malformed),
    }
}
