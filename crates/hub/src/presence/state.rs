//! Who is subscribed to this node, and which arrivals and departures have still to be recorded.
//!
//! Plain data with synchronous methods: no clock, no random numbers, nothing that waits. An arrival becomes due when its
//! subscriber comes, a departure when its subscriber has left and the arrival has been recorded. Each due fact has a
//! ticket, a number that only grows; facts are recorded in the order of their tickets, so those of one subscriber in
//! their order.
//!
//! **Bounds.** What is due is bounded by the subscribers that are here, by those that have been recorded and have left,
//! and by [`Bounds::brief`]: a subscriber that came and left before its arrival could be recorded is kept only while fewer
//! such subscribers than that wait, a batch that is being recorded not counted. Beyond it, its arrival and its departure are
//! dropped together: no list and no event ever shows that subscriber. Nothing else is lost: every subscriber that is here is
//! listed in the end, and every subscriber that has been announced gets a departure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use petasos_protocol::subscription::Subscription;

use crate::{
    budget::Weight,
    log::registry::{PAGE_SUBSCRIBERS, Page},
};

/// The subscriptions of this node's subscribers.
pub(crate) struct State {
    bounds: Bounds,
    /// Subscribers that are here, in the order of their arrival, which is the order in which they are listed.
    here: BTreeMap<u64, Subscriber>,
    by_text: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Subscribers that have left and whose departure has still to be recorded.
    left: BTreeMap<u64, Subscriber>,
    /// The subscribers with a fact to record, by its ticket. The ticket of a first arrival is the subscriber's number.
    due: BTreeMap<u64, u64>,
    /// Bytes of the budget that the subscribers in `due` take.
    due_bytes: usize,
    /// The last number that was given to a subscriber or, as a ticket, to a fact.
    last: u64,
    /// Facts with this ticket or an earlier one are not gathered any longer: somebody waits for them.
    urgent: u64,
    /// Arrivals and departures ever.
    revision: u64,
    /// What subscribers take that left before their first arrival was recorded.
    brief: Size,
    dropped: Dropped,
}

/// Bounds for what is kept and for what is recorded together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Subscribers that left before their arrival was recorded, and the bytes of the budget that they may take.
    pub(crate) brief: Size,
    /// Facts that are recorded together, and the bytes of the budget that their subscribers may take.
    pub(crate) batch: Size,
    /// Subscriptions that are recorded together, each of which is an event.
    pub(crate) batch_subscriptions: usize,
}

/// A number of subscribers or facts, and the bytes of the budget that the subscribers take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl Size {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

impl Default for Bounds {
    /// A store takes a batch as one message or statement. An event is several times as long as its matcher, hence the
    /// bytes. Brief subscribers come at 20,000 a second at most (`petasos-bench churn` on two cores), so a store may
    /// pause for most of a second before one is dropped.
    fn default() -> Self {
        Self {
            brief: Size { count: 16_384, bytes: 16 * 1024 * 1024 },
            batch: Size { count: 128, bytes: 1024 * 1024 },
            batch_subscriptions: 512,
        }
    }
}

/// A subscriber, and its part of the budget, which is held until its departure has been recorded.
struct Subscriber {
    subscriptions: Arc<[Subscription]>,
    weight: Arc<Weight>,
    record: Record,
}

/// What the registry has of a subscriber.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    /// Nothing. The arrival is due, or is being recorded for the first time.
    None,
    /// Perhaps the arrival: its recording had no answer, and the arrival is due again. It is recorded before the departure
    /// even if the subscriber has left, so that the departure is an event.
    Unknown,
    /// It had the arrival before the node's lease ended; another node may have expired it since. Of a subscriber that is
    /// here, the arrival is due again; of one that has left, the departure is, which makes no event if it was expired.
    InDoubt,
    /// The arrival.
    Arrived,
}

impl Record {
    /// Whether no answer has confirmed the arrival.
    fn is_unconfirmed(self) -> bool {
        matches!(self, Self::None | Self::Unknown)
    }
}

/// A fact on its way to the registry. The subscriber stays in the state until [`State::recorded`].
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    ticket: u64,
    number: u64,
    /// Whether it is an arrival.
    pub(crate) active: bool,
    pub(crate) subscriptions: Arc<[Subscription]>,
}

/// Subscribers that were dropped.
#[derive(Debug, Clone, Copy, Default)]
struct Dropped {
    ever: u64,
    /// Since the last time that something was recorded.
    lately: u64,
}

/// What a departure means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Whether the worker has to be woken.
    pub(crate) wakes: bool,
    /// Whether the subscriber is the first that was dropped since something was recorded.
    pub(crate) is_first_dropped: bool,
}

impl Announcement {
    /// A number that is greater for what became due later.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }
}

impl State {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            here: BTreeMap::new(),
            by_text: HashMap::new(),
            left: BTreeMap::new(),
            due: BTreeMap::new(),
            due_bytes: 0,
            last: 0,
            urgent: 0,
            revision: 0,
            brief: Size::default(),
            dropped: Dropped::default(),
        }
    }

    /// Adds a subscriber. Returns its number, and whether the worker has to be woken.
    pub(crate) fn enter(&mut self, subscriptions: Arc<[Subscription]>, weight: Arc<Weight>) -> (u64, bool) {
        // From 1: pages begin after 0.
        let number = self.next_number();
        self.revision += 1;
        for subscription in &*subscriptions {
            self.by_text.entry(subscription.matcher.shared()).or_default().insert(number);
        }
        let bytes = weight.bytes();
        self.here.insert(number, Subscriber { subscriptions, weight, record: Record::None });
        (number, self.make_due(number, number, bytes))
    }

    /// Removes a subscriber. `None`: it has left already.
    pub(crate) fn leave(&mut self, number: u64) -> Option<Departure> {
        let subscriber = self.here.remove(&number)?;
        self.revision += 1;
        for subscription in &*subscriber.subscriptions {
            let text = subscription.matcher.as_str();
            if let Some(numbers) = self.by_text.get_mut(text) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_text.remove(text);
                }
            }
        }
        let bytes = subscriber.weight.bytes();
        let mut departure = Departure { wakes: false, is_first_dropped: false };
        match subscriber.record {
            // An arrival that is being recorded is not due, and stays.
            Record::None if !self.has_room(bytes) && self.due.contains_key(&number) => {
                self.due.remove(&number);
                self.due_bytes -= bytes;
                self.dropped.ever += 1;
                self.dropped.lately += 1;
                departure.is_first_dropped = self.dropped.lately == 1;
                return Some(departure);
            }
            // The departure is due when the arrival has been recorded.
            Record::None | Record::Unknown => self.brief.add(bytes),
            // The arrival is due again, or is being recorded; the departure takes its turn.
            Record::InDoubt => {}
            Record::Arrived => {
                let ticket = self.next_number();
                departure.wakes = self.make_due(ticket, number, bytes);
            }
        }
        self.left.insert(number, subscriber);
        Some(departure)
    }

    /// All who are here leave. True: the worker has to be woken.
    pub(crate) fn leave_all(&mut self) -> bool {
        let all: Vec<u64> = self.here.keys().copied().collect();
        all.into_iter().filter_map(|number| self.leave(number)).any(|departure| departure.wakes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let Size { count, bytes: bytes_max } = self.bounds.brief;
        self.brief.count < count && self.brief.bytes.saturating_add(bytes) <= bytes_max
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// True: the worker has to be woken, because it waits for the first fact or for a whole batch.
    fn make_due(&mut self, ticket: u64, number: u64, bytes: usize) -> bool {
        let was_batch = self.is_batch();
        self.due.insert(ticket, number);
        self.due_bytes += bytes;
        self.due.len() == 1 || self.is_batch() && !was_batch
    }

    /// Whether what is due is as much as is recorded together.
    pub(crate) fn is_batch(&self) -> bool {
        self.due.len() >= self.bounds.batch.count || self.due_bytes >= self.bounds.batch.bytes
    }

    /// Takes the facts that are recorded together next: the first that are due, at least one if there is any, at most one
    /// of each subscriber. Given again after an unknown end, an arrival and a departure of one subscriber would both be
    /// new once more.
    pub(crate) fn take(&mut self) -> Vec<Announcement> {
        let Bounds { batch, batch_subscriptions, .. } = self.bounds;
        let mut taken = Vec::new();
        let (mut size, mut subscriptions) = (Size::default(), 0);
        while let Some((&ticket, &number)) = self.due.first_key_value() {
            let (subscriber, is_here) =
                self.find(number).expect("a subscriber stays until nothing of it is due");
            let bytes = subscriber.weight.bytes();
            size.add(bytes);
            subscriptions += subscriber.subscriptions.len();
            let fits = size.count <= batch.count
                && size.bytes <= batch.bytes
                && subscriptions <= batch_subscriptions;
            if !fits && !taken.is_empty() {
                break;
            }
            let active = is_here || subscriber.record.is_unconfirmed();
            let subscriptions = Arc::clone(&subscriber.subscriptions);
            taken.push(Announcement { ticket, number, active, subscriptions });
            self.due.pop_first();
            self.due_bytes -= bytes;
        }
        taken
    }

    fn find(&self, number: u64) -> Option<(&Subscriber, bool)> {
        let here = self.here.get(&number).map(|subscriber| (subscriber, true));
        here.or_else(|| self.left.get(&number).map(|subscriber| (subscriber, false)))
    }

    /// The facts have been recorded, or are lost for good.
    pub(crate) fn recorded(&mut self, facts: &[Announcement]) {
        for Announcement { number, active, .. } in facts {
            if !active {
                self.left.remove(number);
            } else if let Some(subscriber) = self.here.get_mut(number) {
                subscriber.record = Record::Arrived;
            } else if let Some(subscriber) = self.left.get_mut(number) {
                let bytes = subscriber.weight.bytes();
                if std::mem::replace(&mut subscriber.record, Record::Arrived).is_unconfirmed() {
                    self.brief.remove(bytes);
                }
                let ticket = self.next_number();
                self.make_due(ticket, *number, bytes);
            }
        }
    }

    /// Nothing of the facts was recorded at the last attempt: they are due again. `is_unknown`: an earlier attempt had no
    /// answer, so some may have been recorded then.
    pub(crate) fn put_back(&mut self, facts: &[Announcement], is_unknown: bool) {
        for Announcement { ticket, number, .. } in facts {
            let here = self.here.get_mut(number);
            let Some(subscriber) = here.or_else(|| self.left.get_mut(number)) else { continue };
            if is_unknown && subscriber.record == Record::None {
                subscriber.record = Record::Unknown;
            }
            let bytes = subscriber.weight.bytes();
            self.make_due(*ticket, *number, bytes);
        }
    }

    /// The node's lease had ended, so other nodes may have expired what was recorded: the arrival of each subscriber that
    /// is here is due again, unless it is still due or being recorded.
    pub(crate) fn record_again(&mut self) {
        let recorded = self.here.iter_mut().filter(|(_, subscriber)| subscriber.record == Record::Arrived);
        for (number, subscriber) in recorded {
            subscriber.record = Record::InDoubt;
            self.last += 1;
            self.due.insert(self.last, *number);
            self.due_bytes += subscriber.weight.bytes();
        }
    }

    /// The first ticket that is due.
    pub(crate) fn first_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|(ticket, _)| *ticket)
    }

    /// The ticket of the fact that became due last. Facts that become due later have greater tickets.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.last
    }

    /// What is due now is recorded without gathering. Returns the ticket of the last fact of it.
    pub(crate) fn hurry(&mut self) -> u64 {
        self.urgent = self.last;
        self.last
    }

    /// The last ticket that somebody waits for.
    pub(crate) fn urgent(&self) -> u64 {
        self.urgent
    }

    /// Whether some subscriber has two facts to record, one after the other.
    pub(crate) fn has_brief(&self) -> bool {
        self.brief.count > 0
    }

    /// A number that changes with the subscribers that are here.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Something was recorded. Returns how many subscribers have been dropped since the last time.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped.lately)
    }

    /// A page of subscribers that are here, after the number `after`, those with a matcher of that text or all.
    pub(crate) fn page(&self, text: Option<&str>, after: u64) -> Page {
        let later = (Bound::Excluded(after), Bound::Unbounded);
        let share =
            |(number, subscriber): (&u64, &Subscriber)| (*number, Arc::clone(&subscriber.subscriptions));
        let page: Vec<_> = match text {
            None => self.here.range(later).take(PAGE_SUBSCRIBERS).map(share).collect(),
            Some(text) => {
                let numbers = self.by_text.get(text).into_iter().flat_map(|all| all.range(later));
                let known = |number| self.here.get_key_value(number);
                numbers.take(PAGE_SUBSCRIBERS).filter_map(known).map(share).collect()
            }
        };
        let next = page.last().map(|(number, _)| *number).filter(|_| page.len() == PAGE_SUBSCRIBERS);
        Page { subscribers: page.into_iter().map(|(_, all)| all).collect(), next }
    }
}

#[cfg(test)]
impl State {
    /// Subscribers here; subscribers that have left and were recorded; brief ones; facts that are due; dropped ever.
    pub(crate) fn census(&self) -> Census {
        let recorded = self.left.values().filter(|subscriber| !subscriber.record.is_unconfirmed()).count();
        Census {
            here: self.here.len(),
            recorded,
            brief: self.brief,
            brief_found: self.left.len() - recorded,
            due: self.due.len(),
            due_bytes: self.due_bytes,
            dropped: self.dropped.ever,
        }
    }
}

/// What a state holds.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) here: usize,
    /// Have left, and were recorded.
    pub(crate) recorded: usize,
    /// Have left before they were recorded, as counted.
    pub(crate) brief: Size,
    /// The same, as found.
    pub(crate) brief_found: usize,
    pub(crate) due: usize,
    pub(crate) due_bytes: usize,
    pub(crate) dropped: u64,
}
