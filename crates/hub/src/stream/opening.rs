//! The beginning of a stream: its part of the budget, where it begins in the log, and its presence.

use std::{sync::Arc, time::Duration};

use petasos_protocol::{
    Dialect, matcher::Matcher, request::SubscribeRequest, sse::Remark, subscription::Subscription,
    token::Grants, topic::HubUrl,
};
use tokio::time::Instant;

use crate::{
    SubscribeError,
    fanout::shard::Shard,
    ids,
    interest::Interest,
    metrics::outcome::StreamCarrier,
    node::{Node, retry},
    presence::Presence,
    stream::{
        beginning::Beginning,
        carrier::Carrier,
        life::Life,
        polled::session::Session,
        subscriber::{Counted, Naming, Subscriber},
    },
};

/// Finds where to begin, reads the first page if there is one, and registers the subscriptions.
pub(crate) async fn open(
    node: Arc<Node>,
    shard: Shard<Carrier>,
    presence: Option<&Arc<Presence>>,
    request: SubscribeRequest,
    grants: Arc<Grants>,
    close_at: Option<Instant>,
) -> Result<Session, SubscribeError> {
    let (dialect, multiplex) = (request.dialect, request.multiplex);
    // First: a subscriber that is refused costs nothing else.
    let weight = node.budget.take_matchers(&request.matchers)?;
    let granted = node.budget.take_grants(&grants)?;
    let interest = Arc::new(Interest::new(request.matchers, grants));
    let receives_events = interest.receives_events(&node.settings.url);
    let Beginning { history, trimmed: forgiven, cursor, replay } = match &request.cursor {
        None => Beginning::at_end(&node, receives_events).await?,
        Some(cursor) => Beginning::find(&node, cursor, receives_events, multiplex, &shard).await?,
    };
    let presence = match presence {
        Some(presence) => {
            let subscriptions = subscriptions(dialect, &interest, &node.settings.url);
            Some(presence.enter(subscriptions, Arc::clone(&weight)))
        }
        None => None,
    };
    let outlived = node.timing.lifetime_max().and_then(|max| Instant::now().checked_add(lifetime(max)));
    let retry = node.timing.retry().map(|time| retry(time.mul_f64(0.9), time.mul_f64(1.1)));
    let counted = Counted { dialect, carrier: StreamCarrier::Polled };
    node.metrics.stream_opened(counted.dialect, counted.carrier);
    if let Some(outcome) = replay {
        node.metrics.replay(outcome);
    }
    let mut subscriber = Subscriber {
        interest,
        naming: Naming::None,
        passed: multiplex.then(|| cursor.clone()),
        forgiven,
        admission: None,
        close_at: close_at.into_iter().chain(outlived).min(),
        presence,
        counted: Some(counted),
        ended: None,
        weight: Some((weight, granted)),
        node,
    };
    if multiplex {
        subscriber.name_cursors();
    }
    let remark = multiplex.then_some(Remark::Multiplex);
    Ok(Session::new(Life::new(subscriber, history), shard, cursor, retry, remark))
}

/// Follows what is announced from now on, without being a subscriber.
pub(crate) async fn watch(node: Arc<Node>, shard: Shard<Carrier>) -> Result<Session, SubscribeError> {
    let Beginning { history, trimmed: forgiven, cursor, .. } = Beginning::at_end(&node, true).await?;
    let interest = Arc::new(Interest::in_subscriptions(&node.settings.url));
    let subscriber = Subscriber {
        node,
        interest,
        naming: Naming::None,
        passed: None,
        forgiven,
        admission: None,
        close_at: None,
        presence: None,
        counted: None,
        ended: None,
        weight: None,
    };
    Ok(Session::bare(Life::new(subscriber, history), shard, cursor))
}

/// The lifetime of one stream: up to a tenth less than the longest, so that streams that began together do not come back
/// together.
fn lifetime(max: Duration) -> Duration {
    max.mul_f64(1.0 - ids::fraction() / 10.0)
}

/// The subscriptions of one new subscriber, one for each matcher.
fn subscriptions(dialect: Dialect, interest: &Interest, hub: &HubUrl) -> Arc<[Subscription]> {
    let subscriber = ids::subscriber();
    let subscription = |matcher: &Matcher| Subscription {
        dialect,
        matcher: matcher.into(),
        subscriber,
        payload: interest.grants.payload(matcher, hub).cloned(),
    };
    interest.matchers.iter().map(subscription).collect()
}
