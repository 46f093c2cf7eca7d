//! Every bound of state and worker, from both sides.

use std::{sync::Arc, time::Duration};

use petasos_protocol::{
    Dialect,
    matcher::Matcher,
    subscription::{SubscriberId, Subscription},
};

use super::{
    state::{Announcement, Bounds, Departure, Size, State},
    worker::{Answer, BATCH_ABANDONED, Expiry, GATHER, Recording, Worker},
};
use crate::{
    TransportError,
    budget::{Budget, Weight},
    log::registry::{Abandoned, Lease, NodeId, PAGE_SUBSCRIBERS},
};

const BOUNDS: Bounds = Bounds {
    brief: Size { count: 3, bytes: usize::MAX },
    batch: Size { count: 4, bytes: usize::MAX },
    batch_subscriptions: 6,
};

const LEASE: Duration = Duration::from_secs(9);

const MOMENT: Duration = Duration::from_nanos(1);

const PAUSE: Duration = Duration::from_millis(500);

fn subscriptions(number: u128, count: usize) -> Arc<[Subscription]> {
    let subscription = |nth| Subscription {
        dialect: Dialect::V1,
        matcher: (&Matcher::Exact(format!("{nth}").into())).into(),
        subscriber: SubscriberId::from_uuid(number),
        payload: None,
    };
    (0..count).map(subscription).collect()
}

/// What a subscriber with one matcher takes.
fn weight() -> Arc<Weight> {
    Budget::new(usize::MAX / 2).take_matchers(&[Matcher::Exact("0".into())]).expect("room")
}

fn enter(state: &mut State) -> u64 {
    state.enter(subscriptions(1, 1), weight()).0
}

/// The facts that are recorded together next.
fn take(state: &mut State) -> Vec<bool> {
    let taken = state.take();
    state.recorded(&taken);
    active(&taken)
}

fn active(facts: &[Announcement]) -> Vec<bool> {
    facts.iter().map(|fact| fact.active).collect()
}

fn unavailable<T>() -> Result<T, TransportError> {
    Err(TransportError::unavailable("for a test"))
}

#[test]
fn an_arrival_is_due_at_once_and_a_departure_once_the_arrival_is_recorded() {
    let mut state = State::new(BOUNDS);
    let number = enter(&mut state);
    assert!(state.leave(number).is_some() && state.leave(number).is_none());
    assert!(state.has_brief());
    let arrival = state.take();
    assert_eq!((active(&arrival), state.first_due()), (vec![true], None));
    state.recorded(&arrival);
    assert!(!state.has_brief());
    assert_eq!((take(&mut state), take(&mut state)), (vec![false], vec![]));
    assert_eq!(state.census().recorded, 0);
}

#[test]
fn a_batch_ends_at_each_of_its_bounds() {
    let mut state = State::new(BOUNDS);
    for _ in 0..BOUNDS.batch.count + 1 {
        enter(&mut state);
    }
    assert_eq!((take(&mut state).len(), take(&mut state).len()), (4, 1));

    for count in [3, 3, 1] {
        state.enter(subscriptions(1, count), weight());
    }
    assert_eq!((take(&mut state).len(), take(&mut state).len()), (2, 1), "six subscriptions");
    state.enter(subscriptions(1, 7), weight());
    assert_eq!(take(&mut state).len(), 1, "what is larger than a batch is one");

    let bytes = weight().bytes();
    for (bytes, expected) in [(2 * bytes, 2), (2 * bytes - 1, 1)] {
        let mut state = State::new(Bounds { batch: Size { count: 4, bytes }, ..BOUNDS });
        for _ in 0..3 {
            enter(&mut state);
        }
        assert_eq!(state.take().len(), expected);
    }
}

#[test]
fn the_worker_is_woken_for_the_first_fact_and_for_a_whole_batch() {
    let mut state = State::new(BOUNDS);
    let mut wakes = |_| state.enter(subscriptions(1, 1), weight()).1;
    assert_eq!([1, 2, 3, 4, 5].map(&mut wakes), [true, false, false, true, false]);
    let bytes = 2 * weight().bytes();
    let mut state = State::new(Bounds { batch: Size { count: 4, bytes }, ..BOUNDS });
    let mut wakes = |_| state.enter(subscriptions(1, 1), weight()).1;
    assert_eq!([1, 2, 3].map(&mut wakes), [true, true, false]);
    take(&mut state);
    take(&mut state);
    assert!(state.leave_all(), "the departures are due");
}

#[test]
fn subscribers_that_left_before_they_were_recorded_are_dropped_beyond_a_bound() {
    let mut state = State::new(BOUNDS);
    let visit = |state: &mut State| {
        let number = enter(state);
        state.leave(number)
    };
    let kept = Some(Departure { wakes: false, is_first_dropped: false });
    for _ in 0..BOUNDS.brief.count {
        assert_eq!(visit(&mut state), kept);
    }
    assert_eq!(visit(&mut state), Some(Departure { wakes: false, is_first_dropped: true }));
    assert_eq!(visit(&mut state), kept, "it is said once");
    assert_eq!((state.census().dropped, state.census().due, state.take_dropped()), (2, 3, 2));
    assert_eq!(visit(&mut state).map(|departure| departure.is_first_dropped), Some(true));
    enter(&mut state);
    assert_eq!(state.census().due, 4, "a subscriber that stays is never dropped");

    let bytes = weight().bytes();
    for (bytes, dropped) in [(2 * bytes, 0), (2 * bytes - 1, 1)] {
        let mut state = State::new(Bounds { brief: Size { count: 3, bytes }, ..BOUNDS });
        visit(&mut state);
        visit(&mut state);
        assert_eq!(state.census().dropped, dropped);
        assert_eq!(state.census().due_bytes, (2 - dropped as usize) * weight().bytes());
    }
}

#[test]
fn a_subscriber_is_not_dropped_whose_arrival_may_have_been_recorded() {
    for is_unknown in [true, false] {
        let mut state = State::new(Bounds { brief: Size::default(), ..BOUNDS });
        let number = enter(&mut state);
        let facts = state.take();
        state.put_back(&facts, is_unknown);
        state.leave(number);
        assert_eq!(state.census().dropped, u64::from(!is_unknown));
        let expected = if is_unknown { [vec![true], vec![false]] } else { [vec![], vec![]] };
        assert_eq!([take(&mut state), take(&mut state)], expected);
    }
    let mut state = State::new(Bounds { brief: Size::default(), ..BOUNDS });
    let number = enter(&mut state);
    let facts = state.take();
    state.leave(number);
    assert_eq!(state.census().dropped, 0, "it is being recorded");
    state.recorded(&facts);
    assert_eq!(take(&mut state), [false]);
}

#[test]
fn after_a_lease_who_is_here_is_recorded_again_and_who_has_left_departs() {
    let mut state = State::new(BOUNDS);
    let numbers = [(); 3].map(|()| enter(&mut state));
    take(&mut state);
    state.leave(numbers[0]);
    state.record_again();
    assert_eq!(state.census().due, 3);
    state.record_again();
    assert_eq!(state.census().due, 3, "each once");
    state.leave(numbers[1]);
    assert!(!state.has_brief());
    assert_eq!(take(&mut state), [false, false, true]);
    assert!(take(&mut state).is_empty());
    state.record_again();
    assert_eq!(take(&mut state), [true]);
}

#[test]
fn a_page_says_whether_another_may_follow() {
    for (count, lengths) in [(PAGE_SUBSCRIBERS - 1, [63, 0]), (PAGE_SUBSCRIBERS + 1, [64, 1])] {
        let mut state = State::new(BOUNDS);
        for _ in 0..count {
            enter(&mut state);
        }
        for text in [None, Some("0")] {
            let first = state.page(text, 0);
            let next = first.next.map(|after| state.page(text, after));
            let second = next.as_ref().map_or(0, |page| page.subscribers.len());
            assert_eq!([first.subscribers.len(), second], lengths);
            assert_eq!(next.and_then(|page| page.next), None);
        }
        assert!(state.page(Some("1"), 0).subscribers.is_empty());
        let revision = state.revision();
        state.leave(1);
        assert_ne!(state.revision(), revision);
        assert_eq!(state.page(Some("0"), 0).subscribers.len(), count.min(65) - 1);
        state.leave_all();
        assert!(state.page(Some("0"), 0).subscribers.is_empty());
    }
}

/// A worker with a lease, and nothing to do until the next renewal.
fn worker(state: &mut State) -> Worker {
    let mut worker = Worker::new(Some(LEASE));
    let next = worker.next(state, Duration::ZERO);
    assert_eq!((next.recording, next.wake_at), (Some(Recording::Renew), None));
    answer(&mut worker, state, Answer::Renewed(Ok(Lease::Ended)), Duration::ZERO);
    let next = worker.next(state, Duration::ZERO);
    assert!(matches!((next.recording, next.expiring), (None, Some(Expiry::Find))));
    answer(&mut worker, state, Answer::Found(Ok(vec![])), Duration::ZERO);
    worker
}

fn answer(worker: &mut Worker, state: &mut State, answer: Answer, now: Duration) {
    worker.answered(answer, state, now).expect("the log is open");
}

fn recording(worker: &mut Worker, state: &mut State, now: Duration) -> Option<Recording> {
    worker.next(state, now).recording
}

#[test]
fn facts_are_gathered_unless_they_are_a_batch_or_somebody_waits() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    let number = enter(&mut state);
    let next = worker.next(&mut state, MOMENT);
    assert_eq!((next.recording, next.wake_at), (None, Some(MOMENT + GATHER)));
    enter(&mut state);
    assert_eq!(recording(&mut worker, &mut state, GATHER), None);
    assert_eq!(recording(&mut worker, &mut state, MOMENT + GATHER), Some(Recording::Record));
    assert_eq!(active(worker.facts()), [true, true]);
    assert_eq!(recording(&mut worker, &mut state, MOMENT + GATHER), None, "one at a time");

    // A departure that follows its arrival waits for the next time.
    state.leave(number);
    let now = GATHER * 2;
    answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Kept)), now);
    assert_eq!(recording(&mut worker, &mut state, now + GATHER - MOMENT), None);
    let now = now + GATHER * 2 - MOMENT;
    assert_eq!(recording(&mut worker, &mut state, now), Some(Recording::Record));
    answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Kept)), now);

    for _ in 0..BOUNDS.batch.count - 1 {
        enter(&mut state);
    }
    assert_eq!(recording(&mut worker, &mut state, now), None);
    enter(&mut state);
    assert_eq!(recording(&mut worker, &mut state, now), Some(Recording::Record), "a batch");
    answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Kept)), now);

    enter(&mut state);
    let last = state.hurry();
    enter(&mut state);
    assert!(worker.done(&state) < last);
    assert_eq!(recording(&mut worker, &mut state, now), Some(Recording::Record), "somebody waits");
    assert!(worker.done(&state) < last, "it is being recorded");
    answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Kept)), now);
    assert!(worker.done(&state) >= last);
    enter(&mut state);
    assert_eq!(recording(&mut worker, &mut state, now), None, "nobody waits for this one");
}

#[test]
fn a_lease_is_renewed_three_times_in_its_length_and_before_facts() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    let next = worker.next(&mut state, LEASE / 3 - MOMENT);
    assert_eq!((next.recording, next.wake_at), (None, Some(LEASE / 3)));
    enter(&mut state);
    state.hurry();
    assert_eq!(recording(&mut worker, &mut state, LEASE / 3), Some(Recording::Renew));
    answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), LEASE / 3);
    assert_eq!(recording(&mut worker, &mut state, LEASE / 3), Some(Recording::Record));
}

#[test]
fn without_a_registry_there_is_no_lease_and_nobody_expires() {
    let mut state = State::new(BOUNDS);
    let mut worker = Worker::new(None);
    let next = worker.next(&mut state, Duration::MAX);
    assert!(next.recording.is_none() && next.expiring.is_none() && next.wake_at.is_none());
    enter(&mut state);
    state.hurry();
    assert_eq!(recording(&mut worker, &mut state, Duration::ZERO), Some(Recording::Record));
    let failed = Err(TransportError::Failed("for a test".into()));
    answer(&mut worker, &mut state, Answer::Recorded(failed), Duration::ZERO);
    assert!(worker.facts().is_empty(), "what the log will never take is lost");
    assert_eq!(worker.done(&state), state.last_ticket());
}

#[test]
fn facts_without_an_answer_are_recorded_again_after_a_pause_and_nothing_else_before() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    let number = enter(&mut state);
    state.hurry();
    assert_eq!(recording(&mut worker, &mut state, Duration::ZERO), Some(Recording::Record));
    state.leave(number);
    answer(&mut worker, &mut state, Answer::Recorded(unavailable()), Duration::ZERO);
    enter(&mut state);
    state.hurry();
    let next = worker.next(&mut state, PAUSE - MOMENT);
    assert_eq!((next.recording, next.wake_at), (None, Some(PAUSE)));
    assert_eq!(recording(&mut worker, &mut state, PAUSE), Some(Recording::RecordAgain));
    assert_eq!(active(worker.facts()), [true], "the same");
    answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Kept)), PAUSE);
    assert_eq!(recording(&mut worker, &mut state, PAUSE), Some(Recording::Record));
}

#[test]
fn everybody_is_recorded_again_after_a_lease_that_ended_or_may_have() {
    let renewals = [Ok(Lease::Ended), Ok(Lease::Kept)];
    for (renewal, is_again) in renewals.into_iter().zip([true, false]) {
        let mut state = State::new(BOUNDS);
        let mut worker = worker(&mut state);
        enter(&mut state);
        take(&mut state);
        assert_eq!(recording(&mut worker, &mut state, LEASE), Some(Recording::Renew));
        answer(&mut worker, &mut state, Answer::Renewed(renewal), LEASE);
        assert_eq!(state.first_due().is_some(), is_again);
        if !is_again {
            // A renewal without an answer may have been the one to say so.
            assert_eq!(recording(&mut worker, &mut state, LEASE * 2), Some(Recording::Renew));
            answer(&mut worker, &mut state, Answer::Renewed(unavailable()), LEASE * 2);
            assert_eq!(recording(&mut worker, &mut state, LEASE * 2 + PAUSE - MOMENT), None);
            let now = LEASE * 2 + PAUSE;
            assert_eq!(recording(&mut worker, &mut state, now), Some(Recording::Renew));
            answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), now);
            assert!(state.first_due().is_some());
        }
    }
}

#[test]
fn facts_of_a_node_without_a_lease_wait_for_the_renewal() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    enter(&mut state);
    take(&mut state);
    enter(&mut state);
    for pause in [Duration::ZERO, PAUSE, PAUSE] {
        state.hurry();
        assert_eq!(recording(&mut worker, &mut state, MOMENT), Some(Recording::Record));
        answer(&mut worker, &mut state, Answer::Recorded(Ok(Lease::Ended)), MOMENT);
        if !pause.is_zero() {
            assert_eq!(recording(&mut worker, &mut state, pause), None, "a lease that always ends");
            break;
        }
        assert_eq!(recording(&mut worker, &mut state, MOMENT), Some(Recording::Renew));
        answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), MOMENT);
        assert_eq!(state.census().due, 2, "whatever the renewal says");
    }
    assert_eq!(recording(&mut worker, &mut state, MOMENT + PAUSE), Some(Recording::Renew));
}

fn abandoned(node: u128, subscriber: u128) -> Abandoned {
    Abandoned { node: NodeId::new(node), subscriptions: subscriptions(subscriber, 1) }
}

/// The node whose subscribers are expired next, and how many they are; `None`: they are looked for first.
fn expiring(worker: &mut Worker, state: &mut State, now: Duration) -> Option<Option<(NodeId, usize)>> {
    worker.next(state, now).expiring.map(|expiry| match expiry {
        Expiry::Find => None,
        Expiry::Expire(node, subscribers) => Some((node, subscribers.len())),
    })
}

#[test]
fn subscribers_of_dead_nodes_are_looked_for_after_a_renewal_and_at_once_after_a_whole_batch() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    assert_eq!(expiring(&mut worker, &mut state, Duration::ZERO), None);
    for count in [BATCH_ABANDONED - 1, BATCH_ABANDONED] {
        assert_eq!(recording(&mut worker, &mut state, LEASE), Some(Recording::Renew));
        answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), Duration::ZERO);
        assert_eq!(expiring(&mut worker, &mut state, Duration::ZERO), Some(None));
        let found = (0..count).map(|number| abandoned(7, number as u128)).collect();
        answer(&mut worker, &mut state, Answer::Found(Ok(found)), Duration::ZERO);
        let node = NodeId::new(7);
        assert_eq!(expiring(&mut worker, &mut state, Duration::ZERO), Some(Some((node, count))));
        assert_eq!(expiring(&mut worker, &mut state, Duration::ZERO), None, "one at a time");
        answer(&mut worker, &mut state, Answer::Expired(Ok(())), Duration::ZERO);
        // Of the second batch the first subscriber is the same as before: nothing has come of it.
        let again = expiring(&mut worker, &mut state, Duration::ZERO);
        assert_eq!(again, None);
    }
    assert_eq!(expiring(&mut worker, &mut state, PAUSE - MOMENT), None);
    assert_eq!(expiring(&mut worker, &mut state, PAUSE), Some(None));
    let found = (0..BATCH_ABANDONED).map(|number| abandoned(7, 100 + number as u128)).collect();
    answer(&mut worker, &mut state, Answer::Found(Ok(found)), PAUSE);
    assert!(matches!(expiring(&mut worker, &mut state, PAUSE), Some(Some(_))));
    answer(&mut worker, &mut state, Answer::Expired(Ok(())), PAUSE);
    assert_eq!(expiring(&mut worker, &mut state, PAUSE), Some(None), "there may be more");
}

#[test]
fn an_expiry_that_fails_is_tried_again_later_and_later_and_holds_nothing_up() {
    let mut state = State::new(BOUNDS);
    let mut worker = worker(&mut state);
    assert_eq!(recording(&mut worker, &mut state, LEASE / 3), Some(Recording::Renew));
    let mut now = LEASE / 3;
    answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), now);
    for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
        assert_eq!(expiring(&mut worker, &mut state, now), Some(None));
        let found = vec![abandoned(7, 1), abandoned(8, 2), abandoned(7, 3)];
        answer(&mut worker, &mut state, Answer::Found(Ok(found)), now);
        let next = worker.next(&mut state, now);
        assert!(
            matches!(next.expiring, Some(Expiry::Expire(node, all)) if node == NodeId::new(7) && all.len() == 2)
        );
        answer(&mut worker, &mut state, Answer::Expired(unavailable()), now);
        let other = expiring(&mut worker, &mut state, now);
        assert_eq!(other, Some(Some((NodeId::new(8), 1))), "others have their turn");
        answer(&mut worker, &mut state, Answer::Expired(Ok(())), now);
        assert_eq!(expiring(&mut worker, &mut state, now + pause - MOMENT), None);
        now += pause;
        // Recording goes on.
        if worker.next(&mut state, now - MOMENT).recording == Some(Recording::Renew) {
            answer(&mut worker, &mut state, Answer::Renewed(Ok(Lease::Kept)), now - MOMENT);
        }
    }
    assert_eq!(expiring(&mut worker, &mut state, now), Some(None));
    answer(&mut worker, &mut state, Answer::Found(unavailable()), now);
    assert_eq!(expiring(&mut worker, &mut state, now + Duration::from_secs(30) - MOMENT), None);
    now += Duration::from_secs(30);
    assert_eq!(expiring(&mut worker, &mut state, now), Some(None));
    answer(&mut worker, &mut state, Answer::Found(Ok(vec![])), now);
    assert_eq!(expiring(&mut worker, &mut state, now + LEASE), None, "nothing is left");
}

#[test]
fn nothing_is_asked_for_once_the_log_is_closed() {
    let answers: [fn() -> Answer; 4] = [
        || Answer::Renewed(Err(TransportError::Closed)),
        || Answer::Recorded(Err(TransportError::Closed)),
        || Answer::Found(Err(TransportError::Closed)),
        || Answer::Expired(Err(TransportError::Closed)),
    ];
    for answer in answers {
        let mut state = State::new(BOUNDS);
        let mut worker = worker(&mut state);
        let closed = worker.answered(answer(), &mut state, Duration::ZERO);
        assert!(matches!(closed, Err(TransportError::Closed)));
    }
}
