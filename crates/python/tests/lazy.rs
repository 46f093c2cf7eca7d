//! The crate itself is linked by an interpreter only, so what knows no Python is tested from here.

#[path = "../src/lazy.rs"]
mod lazy;
#[path = "../src/started.rs"]
mod started;

use std::{
    process,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use lazy::{Lazy, Startable, Waits};

struct Fake {
    number: usize,
    process: u32,
    has_failed: AtomicBool,
}

impl Startable for Fake {
    type Failure = String;

    fn process(&self) -> u32 {
        self.process
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(SeqCst)
    }

    fn stopped() -> String {
        "stopped".to_owned()
    }

    fn broke_down(reason: &str) -> String {
        reason.to_owned()
    }
}

struct Thread;

impl Waits for Thread {
    fn wait<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        function()
    }
}

fn fake(number: usize) -> Fake {
    Fake { number, process: process::id(), has_failed: AtomicBool::new(false) }
}

fn number(lazy: &Lazy<Fake>, next: usize) -> Result<usize, String> {
    lazy.get(&Thread, |_| Ok(fake(next))).map(|value| value.number)
}

#[test]
fn a_value_is_started_once() {
    let lazy = Lazy::default();
    assert_eq!(number(&lazy, 1), Ok(1));
    assert_eq!(number(&lazy, 2), Ok(1));
}

#[test]
fn only_a_value_of_this_process_that_works_is_running() {
    let lazy = Lazy::default();
    assert!(lazy.running().is_none(), "it has not been started");
    let value = lazy.get(&Thread, |_| Ok(fake(1))).expect("it starts");
    assert!(lazy.running().is_some_and(|running| Arc::ptr_eq(&running, &value)));
    value.has_failed.store(true, SeqCst);
    assert!(lazy.running().is_none(), "it has failed");
    let parents = Lazy::default();
    parents.get(&Thread, |_| Ok(Fake { process: 0, ..fake(1) })).expect("it starts");
    assert!(parents.running().is_none());
}

#[test]
fn a_value_that_has_failed_is_started_anew_and_the_former_one_is_handed_over() {
    let lazy = Lazy::default();
    let first = lazy.get(&Thread, |_| Ok(fake(1))).expect("it starts");
    first.has_failed.store(true, SeqCst);
    let second = lazy.get(&Thread, |former| {
        assert!(Arc::ptr_eq(&former.expect("it has failed"), &first), "so that it can be ended");
        Ok(fake(2))
    });
    assert_eq!(second.map(|value| value.number), Ok(2));
    assert_eq!(number(&lazy, 3), Ok(2));
}

#[test]
fn many_threads_that_find_a_failed_value_start_one_other() {
    let (lazy, starts, together) = (Lazy::default(), AtomicUsize::new(1), Barrier::new(4));
    lazy.get(&Thread, |_| Ok(fake(1))).expect("it starts").has_failed.store(true, SeqCst);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                together.wait();
                let value = lazy.get(&Thread, |_| Ok(fake(starts.fetch_add(1, SeqCst) + 1)));
                assert_eq!(value.map(|value| value.number), Ok(2));
            });
        }
    });
}

#[test]
fn a_start_that_fails_is_tried_again_by_the_next_call() {
    let lazy = Lazy::default();
    let failed = lazy.get(&Thread, |_| Err("no room".to_owned()));
    assert_eq!(failed.map(|value: Arc<Fake>| value.number), Err("no room".to_owned()));
    let panicked = lazy.get(&Thread, |_| panic!("broke down"));
    assert_eq!(panicked.map(|value| value.number), Err("broke down".to_owned()));
    assert_eq!(number(&lazy, 1), Ok(1));
}

#[test]
fn the_value_of_another_process_is_neither_used_nor_dropped() {
    let lazy = Lazy::default();
    let parents = lazy.get(&Thread, |_| Ok(Fake { process: 0, ..fake(1) })).expect("it starts");
    let own = lazy.get(&Thread, |former| {
        assert!(former.is_none(), "only its own process can end it");
        Ok(fake(2))
    });
    assert_eq!(own.map(|value| value.number), Ok(2));
    assert_eq!(Arc::strong_count(&parents), 2, "it was forgotten");
}

#[test]
fn nothing_starts_after_a_stop_and_a_start_under_way_is_of_no_use() {
    let lazy = Lazy::default();
    number(&lazy, 1).expect("it starts");
    assert_eq!(lazy.stop().map(|value| value.number), Some(1), "to be ended");
    assert!(lazy.stop().is_none());
    assert_eq!(number(&lazy, 2), Err("stopped".to_owned()));
    let lazy = Lazy::default();
    let stopped_meanwhile = lazy.get(&Thread, |_| {
        assert!(lazy.stop().is_none());
        Ok(fake(1))
    });
    assert_eq!(stopped_meanwhile.map(|value| value.number), Err("stopped".to_owned()));
}
