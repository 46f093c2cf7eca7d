//! What every store has to survive, each story once. [`stories`] makes a test of each for a store.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use petasos_hub::{
    TransportError,
    registry::{Lease, NodeId},
    transport::{Position, Transport},
};

use super::{
    store::{Logs, Store},
    until,
    updates::*,
};

/// Makes a test of each story for a store.
macro_rules! stories {
    ($store:ty) => {
        $crate::kit::stories::stories!(
            $store: it_keeps_what_every_transport_guarantees,
            a_log_goes_on_over_each_end_and_a_pause,
            nothing_acknowledged_is_lost_and_nothing_is_followed_twice_over_each_end,
            a_paused_store_fails_everything_in_time_and_is_ready_again_by_itself,
            an_idle_node_notices_a_paused_store,
            a_store_that_has_lost_everything_begins_a_new_log,
            what_failed_while_the_store_was_gone_is_not_there_when_it_is_back,
            a_follower_that_lags_too_far_ends,
            large_updates_come_in_small_pages,
            an_absent_store_is_unavailable
        );
    };
    ($store:ty: $($story:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                $crate::kit::stories::$story::<$store>().await;
            }
        )+
    };
}
pub(crate) use stories;

/// Several nodes of one log in one process: the time-out is short, as tests wait for it.
const PARAMETERS: &str = "lease=2s&timeout=2s";

pub async fn it_keeps_what_every_transport_guarantees<S: Store>() {
    Logs::new(S::start().await, "").conform().await;
}

/// Two nodes, a follower on each, appends before and after each accident.
pub async fn a_log_goes_on_over_each_end_and_a_pause<S: Store>() {
    let mut store = S::start().await;
    for accident in S::ENDS.iter().copied().map(Some).chain([None]) {
        let url = store.url(&format!("{PARAMETERS}&name={}", accident.unwrap_or("pause")));
        let (one, other) = (open_log(&url, 1_000).await, open_log(&url, 1_000).await);
        let mut followers = [follow(&*one).await, follow(&*other).await];
        for number in 0..50 {
            append(&*one, &format!("before-{number}")).await;
        }
        match accident {
            Some(signal) => store.end(signal),
            None => store.pause(),
        }
        until("it is known to be unavailable", || !one.is_ready() && !other.is_ready()).await;
        assert!(matches!(try_append(&*one, "lost").await, Err(TransportError::Unavailable(_))));
        assert!(matches!(one.head().await, Err(TransportError::Unavailable(_))));
        match accident {
            Some(_) => store.come_back(),
            None => store.resume(),
        }
        until("it is ready by itself", || one.is_ready() && other.is_ready()).await;
        for number in 0..50 {
            append_again(&*other, &format!("after-{number}")).await;
        }
        append_again(&*one, "end").await;
        let kept = kept(&*other).await;
        let acknowledged: Vec<_> = names(&kept).into_iter().filter(|id| *id != "lost").collect();
        let expected = (0..50).map(|number| format!("before-{number}"));
        let expected =
            expected.chain((0..50).map(|number| format!("after-{number}"))).chain(["end".to_owned()]);
        assert_eq!(acknowledged, expected.collect::<Vec<_>>(), "{accident:?}");
        for follower in &mut followers {
            let followed = take_to(&mut **follower, "end").await;
            assert_eq!(names(&followed), names(&kept), "no gap and nothing twice");
            assert!(followed.iter().zip(&kept).all(|(one, other)| one.position == other.position));
        }
        assert_eq!(one.locate("before-0").await.expect("locate"), Some(kept[0].position), "the same log");
    }
}

pub async fn nothing_acknowledged_is_lost_and_nothing_is_followed_twice_over_each_end<S: Store>() {
    let mut store = S::start().await;
    let log = open_log(&store.url(PARAMETERS), 1_000_000).await;
    let mut follower = follow(&*log).await;
    let followed = tokio::spawn(async move { take_to(&mut *follower, "last").await });
    let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let publish = |publisher: usize| {
        let (log, is_over, count) = (Arc::clone(&log), Arc::clone(&is_over), Arc::clone(&count));
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{publisher}-{number}");
                match try_append(&*log, &id).await {
                    Ok(position) => {
                        acknowledged.push((position, id));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(TransportError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        })
    };
    let publishers: Vec<_> = (0..8).map(publish).collect();
    // In the middle of what is being appended.
    let goes_on = async || {
        let before = count.load(Ordering::Relaxed);
        until("updates are taken", || count.load(Ordering::Relaxed) >= before + 300).await;
    };
    for signal in S::ENDS.iter().cycle().take(4) {
        goes_on().await;
        store.end(signal);
        until("it is known to be unavailable", || !log.is_ready()).await;
        store.come_back();
        until("it is ready by itself", || log.is_ready()).await;
        goes_on().await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for publisher in publishers {
        acknowledged.extend(publisher.await.expect("publisher"));
    }
    append_again(&*log, "last").await;
    let (followed, read) = (followed.await.expect("follower"), kept(&*log).await);
    assert_eq!(names(&followed), names(&read), "a follower sees what a reader sees");
    let dense = followed.windows(2).all(|pair| pair[0].position.sequence + 1 == pair[1].position.sequence);
    assert!(dense, "nothing twice, nothing left out");
    assert!(acknowledged.len() >= 2_000, "{}", acknowledged.len());
    let followed: HashSet<_> =
        followed.iter().map(|entry| (entry.position, entry.update.id().as_str().to_owned())).collect();
    for entry in &acknowledged {
        assert!(followed.contains(entry), "{entry:?} was acknowledged");
    }
}

pub async fn a_paused_store_fails_everything_in_time_and_is_ready_again_by_itself<S: Store>() {
    let store = S::start().await;
    let log = open_log(&store.url(PARAMETERS), 1_000).await;
    let mut follower = follow(&*log).await;
    append(&*log, "before").await;
    assert_eq!(names(&take_to(&mut *follower, "before").await), ["before"]);
    store.pause();
    let paused = try_append(&*log, "paused").await;
    assert!(matches!(paused, Err(TransportError::Unavailable(_))), "{paused:?}");
    assert!(matches!(log.head().await, Err(TransportError::Unavailable(_))));
    assert!(matches!(log.locate("before").await, Err(TransportError::Unavailable(_))));
    let registry = log.registry().expect("a registry");
    assert!(matches!(registry.list(None).await, Err(TransportError::Unavailable(_))));
    until("it is known to be unavailable", || !log.is_ready()).await;
    store.resume();
    // Nobody publishes to a node that is not ready.
    until("it is ready by itself", || log.is_ready()).await;
    append_again(&*log, "after").await;
    let followed = take_to(&mut *follower, "after").await;
    // What had left for the store may have been added.
    let followed = names(&followed);
    assert!(followed == ["after"] || followed == ["paused", "after"], "{followed:?}");
    assert_eq!(kept_ids(&*log).await[1..], followed);
}

pub async fn an_idle_node_notices_a_paused_store<S: Store>() {
    let store = S::start().await;
    let log = open_log(&store.url(PARAMETERS), 10).await;
    store.pause();
    until("nobody asks and it is noticed", || !log.is_ready()).await;
    store.resume();
    until("it is ready by itself", || log.is_ready()).await;
}

pub async fn a_store_that_has_lost_everything_begins_a_new_log<S: Store>() {
    let mut store = S::start().await;
    let log = open_log(&store.url(PARAMETERS), 100).await;
    let mut follower = follow(&*log).await;
    let before = append(&*log, "before").await;
    assert_eq!(names(&take_to(&mut *follower, "before").await), ["before"]);
    let (registry, node) = (log.registry().expect("a registry"), NodeId::new(1));
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended);
    store.lose_everything();
    store.come_back();
    ends_with_trimmed(&mut *follower).await;
    until("it is ready by itself", || log.is_ready()).await;
    begins_anew(&*log, before).await;
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended, "leases are lost with it");
    assert_eq!(registry.record(node, &[fact(1, true)]).await.expect("record"), Lease::Kept);
}

/// A log that was lost is another one, in which no position of before means anything.
pub async fn begins_anew(log: &dyn Transport, before: Position) {
    append_again(log, "first").await;
    let mut follower = follow(log).await;
    let new = append(log, "new").await;
    assert!(new.epoch > before.epoch);
    assert_eq!(names(&take_to(&mut *follower, "new").await), ["new"]);
    assert_eq!(log.locate("before").await.expect("locate"), None);
    assert!(matches!(log.follow(before).await.err(), Some(TransportError::Trimmed)));
    let page = log.read(before, 10).await.expect("read");
    assert_eq!(names(&page.entries), ["first", "new"]);
    assert!(page.trimmed.updates > before && page.trimmed.events > before, "cursors of before are trimmed");
}

/// An append that waited for a lost connection must not be sent over the next one.
pub async fn what_failed_while_the_store_was_gone_is_not_there_when_it_is_back<S: Store>() {
    const PUBLISHERS: usize = 64;
    let mut store = S::start().await;
    let log = open_log(&store.url("timeout=1s"), 10_000).await;
    append(&*log, "before").await;
    let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let comes_back = Arc::new(AtomicBool::new(false));
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (log, is_over, count) = (Arc::clone(&log), Arc::clone(&is_over), Arc::clone(&count));
        let comes_back = Arc::clone(&comes_back);
        publishers.spawn(async move {
            let mut failed = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{publisher}-{number}");
                let was_unavailable = !log.is_ready();
                let has_failed = try_append(&*log, &id).await.is_err();
                // What the store gets when it is back may be late, so that its publisher gets an error all the same.
                if has_failed && was_unavailable && !comes_back.load(Ordering::Relaxed) {
                    failed.push(id);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            failed
        });
    }
    store.end(S::ENDS.last().expect("a crash"));
    until("it is known to be unavailable", || !log.is_ready()).await;
    until("each publisher fails", || count.load(Ordering::Relaxed) >= 2 * PUBLISHERS).await;
    comes_back.store(true, Ordering::Relaxed);
    store.come_back();
    until("it is ready by itself", || log.is_ready()).await;
    is_over.store(true, Ordering::Relaxed);
    let failed: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    append_again(&*log, "after").await;
    let kept = kept(&*log).await;
    let kept: HashSet<_> = names(&kept).into_iter().collect();
    let late: Vec<_> = failed.iter().filter(|id| kept.contains(id.as_str())).collect();
    assert!(late.is_empty(), "{} of {} were added later: {late:?}", late.len(), failed.len());
}

/// No publisher waits for the followers of other nodes.
pub async fn a_follower_that_lags_too_far_ends<S: Store>() {
    let store = S::start().await;
    let url = store.url("");
    let (log, other) = (open_log(&url, 10).await, open_log(&url, 10).await);
    let mut follower = follow(&*log).await;
    append_many(&other, "many", 25_600).await;
    assert_eq!(kept(&*log).await.len(), 10);
    ends_with_trimmed(&mut *follower).await;
    append(&*log, "goes on").await;
    follow(&*log).await;
}

pub async fn large_updates_come_in_small_pages<S: Store>() {
    let store = S::start().await;
    let log = open_log(&store.url(""), 1_000).await;
    let mut follower = follow(&*log).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        log.append(sized(&number.to_string(), 300_000)).await.expect("append");
        expected.push(number.to_string());
        // A store may keep subscription events apart, where more of them fit in a page.
        let event = fact(number, true).events.remove(0);
        expected.push(event.id().as_str().to_owned());
        log.append(event).await.expect("append");
    }
    let page = log.read(Position::EARLIEST, 100).await.expect("read");
    assert!((1..=8).contains(&page.entries.len()) && !page.at_end, "{}", page.entries.len());
    let (mut read, mut after) = (Vec::new(), Position::EARLIEST);
    while read.len() < expected.len() {
        let page = log.read(after, 100).await.expect("read");
        after = page.through;
        assert!(!page.entries.is_empty());
        read.extend(ids(&page.entries));
        assert_eq!(page.at_end, read.len() == expected.len());
    }
    assert_eq!(read, expected);
    assert_eq!(ids(&take(&mut *follower, expected.len()).await), expected);
}

pub async fn an_absent_store_is_unavailable<S: Store>() {
    let mut store = S::start().await;
    store.end(S::ENDS[0]);
    let error = try_open(&store.url("timeout=1s"), 10).await.err().expect("there is no store");
    let is_unavailable =
        matches!(&error, petasos_transports::OpenError::Transport(TransportError::Unavailable(_)));
    assert!(is_unavailable, "{error:?}");
}
