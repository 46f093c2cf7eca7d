//! Who is subscribed on all nodes that share a log: the optional half of a transport.
//!
//! A node records what its subscribers did, and the log tells it, as one: the event is appended exactly if the fact is
//! new. So a record may be tried again after an unknown end, and whoever ends what a dead node left behind does not have
//! to agree with others who do the same.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_protocol::{
    subscription::{SubscriberId, Subscription},
    update::Update,
};

use crate::TransportError;

/// One hub from its start to its stop, a random number. A process that starts again is another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u128);

impl NodeId {
    /// From a random number.
    pub fn new(random: u128) -> Self {
        Self(random)
    }

    /// From what its `Display` wrote: 32 hexadecimal digits.
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
    /// Who.
    pub subscriber: SubscriberId,
    /// Whether it is there now.
    pub active: bool,
    /// What it subscribes to, at least one.
    pub subscriptions: Arc<[Subscription]>,
    /// The updates that tell it, in order: appended exactly if the fact is new.
    pub events: Vec<Update>,
}

/// A subscriber whose node is gone.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// The node that recorded it.
    pub node: NodeId,
    /// What it subscribed to, at least one.
    pub subscriptions: Arc<[Subscription]>,
}

/// A part of the recorded subscribers, in the order in which they were recorded.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The subscriptions of each.
    pub subscribers: Vec<Arc<[Subscription]>>,
    /// The value of `after` for the next page; `None`: there is no further page.
    pub next: Option<u64>,
}

/// Whether a node's lease ran when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It runs: what the node has recorded stands.
    Kept,
    /// It did not run. Others may have ended some or all of what the node had recorded.
    Ended,
}

/// Subscribers of one page. Few, because each may have a hundred matchers.
pub const PAGE_SUBSCRIBERS: usize = 64;

/// The subscribers of all nodes.
#[async_trait]
pub trait Registry: Send + Sync {
    /// How long a node counts as alive after its last renewal.
    fn lease(&self) -> Duration;

    /// Begins or prolongs the node's lease, and says whether it ran until now. After [`Lease::Ended`] the node records
    /// all its subscribers anew, of whom those that still stand make no event.
    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError>;

    /// Records facts of one node in their order and appends the events of those that are new: an arrival of someone who
    /// is not there, a departure of someone who is. An error means that each of the first facts may have been recorded:
    /// the same facts can be given again. [`Lease::Ended`]: the node has no lease, and nothing was recorded. So a lease
    /// that ends after a part of the facts was recorded is an error.
    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError>;

    /// Subscribers of nodes that have no lease, at most `limit`.
    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError>;

    /// Records departures for a node that has no lease; of one that has, nothing is recorded. As with
    /// [`Registry::record`], only what is new makes events, so several nodes may do the same at once.
    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError>;

    /// Ends the node's lease now.
    async fn resign(&self, node: NodeId) -> Result<(), TransportError>;

    /// A page of the subscribers that were recorded after `after`, in the order in which they were recorded; 0 gives
    /// the first page. With `text`, only subscribers with a matcher of that text. A page has at most `limit`
    /// subscribers. It may have fewer, even none, though further pages follow: only [`Page::next`] tells. Matchers are
    /// returned as texts, and not compiled.
    ///
    /// A subscriber that stays from the first page to the last is in one of the pages.
    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError>;

    /// All subscriptions, or those whose matcher has that text, in the order in which they were recorded.
    async fn list(&self, text: Option<&str>) -> Result<Vec<Subscription>, TransportError> {
        let (mut found, mut after) = (Vec::new(), Some(0));
        while let Some(place) = after {
            let page = self.page(text, place, PAGE_SUBSCRIBERS).await?;
            let all = page.subscribers.iter().flat_map(|all| all.iter());
            found.extend(all.filter(|each| text.is_none_or(|text| each.matcher.as_str() == text)).cloned());
            after = page.next;
        }
        Ok(found)
    }
}
