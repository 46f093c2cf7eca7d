//! The crate itself is linked by an interpreter only, so what knows no Python is tested from here.

#[path = "../src/started.rs"]
mod started;

use std::{sync::Arc, thread};

use started::{Started, catch};

#[test]
fn a_start_that_panics_ends_the_wait_of_all_others_with_its_reason() {
    let started = Arc::<Started<String>>::default();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let started = Arc::clone(&started);
            thread::spawn(move || started.wait())
        })
        .collect();
    let starting = {
        let started = Arc::clone(&started);
        thread::spawn(move || {
            let number = 7;
            let engine: Result<(), _> =
                catch(|| panic!("no thread {number}"), |reason| format!("broke down: {reason}"));
            started.end(engine);
        })
    };
    for each in waiting {
        let outcome = each.join().expect("no panic reaches it");
        assert_eq!(outcome, Err("broke down: no thread 7".to_owned()));
    }
    starting.join().expect("the panic was caught");
    assert!(started.wait().is_err(), "it is told to whoever comes later, too");
}

#[test]
fn a_start_without_a_panic_says_what_it_says() {
    let broke_down = |reason: &str| reason.to_owned();
    assert_eq!(catch(|| Ok::<_, String>(1), broke_down), Ok(1));
    assert_eq!(catch(|| Err::<(), _>("away".to_owned()), broke_down), Err("away".to_owned()));
    assert_eq!(catch(|| -> Result<(), _> { panic!("a text") }, broke_down), Err("a text".to_owned()));
    assert_eq!(
        catch(|| -> Result<(), _> { std::panic::panic_any(7) }, broke_down),
        Err("the reason is not known".to_owned())
    );
}
