//! The hub over real sockets: both dialects of the protocol, request by request. The hub writes its streams by itself.
//! One test runs all others again, with streams that stay in the HTTP library.

use std::{env, process::Command};

mod admin;
mod bounds;
mod client;
mod connections;
mod event_source;
mod legacy;
mod listing;
mod log;
mod metrics;
mod multiplex;
mod passing;
mod proxied;
mod replay;
mod settings;
mod v1;

/// The environment variable with which streams stay in the HTTP library.
const POLLED: &str = "PETASOS_TESTS_POLLED";

fn is_direct() -> bool {
    env::var_os(POLLED).is_none()
}

#[test]
fn all_others_pass_with_streams_that_stay_in_the_http_library() {
    if !is_direct() {
        return;
    }
    let this = std::thread::current().name().expect("a test").to_owned();
    let mut others = Command::new(env::current_exe().expect("this program"));
    let output = others.args(["--exact", "--skip", &this]).env(POLLED, "1").output().expect("it runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
}
