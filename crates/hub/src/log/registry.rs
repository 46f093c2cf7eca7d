//! The subscribers of all nodes that share a log: the optional half of a transport.
//!
//! A node records that a subscriber has come or has gone, and the registry appends the events of that fact in the same
//! step, exactly if the fact is new. So a node may record a fact again when it had no answer, and several nodes may expire
//! the subscribers of a dead node without agreeing on who does.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_protocol::{
    subscription::{SubscriberId, Subscription},
    update::Update,
};

use crate::TransportError;

/// The id of one hub from its start to its stop, a random number. A process that starts again is another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u128);

impl NodeId {
    /// From a random number.
    pub fn new(random: u128) -> Self {
        Self(random)
    }

    /// From the text that `Display` writes: 32 hexadecimal digits. `None` for every other text.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A subscriber has come or has gone.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// Whether it has come.
    pub active: bool,
    /// Its subscriptions, at least one.
    pub subscriptions: Arc<[Subscription]>,
    /// The updates that announce the fact, in order, one for each subscription.
    pub events: Vec<Update>,
}

/// A subscriber of a node that has no lease.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// The node that recorded the subscriber.
    pub node: NodeId,
    /// The subscriptions of the subscriber, at least one.
    pub subscriptions: Arc<[Subscription]>,
}

/// A part of the recorded subscribers, in the order in which they were recorded.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The subscriptions of each subscriber.
    pub subscribers: Vec<Arc<[Subscription]>>,
    /// The value of `after` for the next page; `None`: there is no further page.
    pub next: Option<u64>,
}

/// Whether a node had a lease when the registry was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It had one: what the node has recorded stands.
    Kept,
    /// It had none. Other nodes may have expired some or all of the subscribers that the node had recorded.
    Ended,
}

/// Subscribers in one page. Few, because each may have a hundred matchers.
pub const PAGE_SUBSCRIBERS: usize = 64;

/// The subscribers of all nodes.
///
/// **Answers.** Each method answers within a bounded time, that of the transport's time-outs. No method waits for an
/// unavailable store to come back.
///
/// **Order.** A node has at most one call of [`renew`](Registry::renew) or [`record`](Registry::record) at a time, and at
/// most one of [`abandoned`](Registry::abandoned) or [`expire`](Registry::expire) beside it. A call that had no answer may
/// still take effect, but not after a later call of the same node has.
///
/// **Errors.** Each method may fail with
/// - [`TransportError::Unavailable`]: the store does not answer. A method that writes may or may not have written. The
///   same call can be made again.
/// - [`TransportError::Closed`]: the log was closed. No later call will work.
///
/// Methods that write may fail with two more:
/// - [`TransportError::Full`]: the store has no room, and nothing more was written. The same call can be made again.
/// - [`TransportError::Failed`]: the log takes nothing any more. What was to be written is lost.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The time for which a node has a lease after its last renewal.
    fn lease(&self) -> Duration;

    /// Begins or prolongs the node's lease, and says whether it had one until now. After [`Lease::Ended`] the node records
    /// all its subscribers again; those that still stand make no event. [`Lease::Ended`] is answered once: without an
    /// answer, the node takes its lease as ended.
    ///
    /// # Errors
    /// Those of every method that writes. After [`TransportError::Unavailable`] the lease may have been renewed.
    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError>;

    /// Records facts of one node in their order, at most one of each subscriber. Appends the events of those that are new:
    /// the arrival of a subscriber that is not recorded, the departure of one that this node has recorded.
    /// [`Lease::Ended`]: the node has no lease, and nothing was recorded.
    ///
    /// # Errors
    /// Those of every method that writes. After each error but [`TransportError::Closed`] a first part of the facts may
    /// have been recorded, and the same facts, with the same events, can be given again. A lease that ends after a part
    /// was recorded is [`TransportError::Unavailable`].
    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError>;

    /// Finds subscribers of nodes that have no lease, at most `limit`.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] and [`TransportError::Closed`], as in every method.
    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError>;

    /// Records departures of the subscribers of a node that has no lease. If the node has a lease, nothing is recorded. As
    /// with [`Registry::record`], only what is new makes events, so several nodes may expire the same subscribers at once.
    ///
    /// # Errors
    /// Those of every method that writes. A first part of the departures may have been recorded.
    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError>;

    /// Ends the node's lease now.
    ///
    /// # Errors
    /// Those of every method that writes. The lease may have ended.
    async fn resign(&self, node: NodeId) -> Result<(), TransportError>;

    /// A page of the subscribers that were recorded after `after`, in the order in which they were recorded; 0 gives
    /// the first page. With `text`, only subscribers with a matcher of that text. A page has at most `limit`
    /// subscribers. It may have fewer, even none, though further pages follow: only [`Page::next`] tells. Matchers are
    /// returned as texts, and not compiled.
    ///
    /// A subscriber that stays from the first page to the last is in one of the pages.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] and [`TransportError::Closed`], as in every method.
    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError>;

    /// All subscriptions, or those whose matcher has that text, in the order in which they were recorded. Takes memory for
    /// each of them.
    ///
    /// # Errors
    /// Those of [`Registry::page`].
    async fn list(&self, text: Option<&str>) -> Result<Vec<Subscription>, TransportError> {
        all(text, Some(0), |after| self.page(text, after, PAGE_SUBSCRIBERS)).await
    }
}

/// A page that is being read.
type Reading<'a> = Pin<Box<dyn Future<Output = Result<Page, TransportError>> + Send + 'a>>;

/// Reads pages from `after` to the last one, and gives the subscriptions in them, those whose matcher has that text or all.
pub(crate) async fn all<'a>(
    text: Option<&str>,
    mut after: Option<u64>,
    page: impl Fn(u64) -> Reading<'a> + Send,
) -> Result<Vec<Subscription>, TransportError> {
    let mut found = Vec::new();
    while let Some(position) = after {
        let Page { subscribers, next } = page(position).await?;
        let all = subscribers.iter().flat_map(|all| all.iter());
        found.extend(all.filter(|each| text.is_none_or(|text| each.matcher.as_str() == text)).cloned());
        after = next;
    }
    Ok(found)
}
