//! The hub over real sockets: both dialects of the protocol, request by request. The hub writes its streams by itself.
//! Three tests run all others again: with streams that stay in the HTTP library, over TLS, and over HTTP/2.

use std::{env, process::Command};

mod admin;
mod bounds;
mod client;
mod client_certificates;
mod connections;
mod event_source;
mod exchange;
mod frames;
mod http2;
mod http2_bounds;
mod joining;
mod legacy;
mod listing;
mod log;
mod metrics;
mod multiplex;
mod passing;
mod proxied;
mod replay;
mod settings;
mod tls;
mod v1;

/// The environment variable with which streams stay in the HTTP library.
const POLLED: &str = "PETASOS_TESTS_POLLED";

/// The environment variable with which clients speak TLS.
const TLS: &str = "PETASOS_TESTS_TLS";

/// The environment variable with which whole requests go over HTTP/2.
const HTTP2: &str = "PETASOS_TESTS_HTTP2";

fn is_direct() -> bool {
    env::var_os(POLLED).is_none()
}

fn is_tls() -> bool {
    env::var_os(TLS).is_some()
}

fn is_http2() -> bool {
    env::var_os(HTTP2).is_some()
}

#[test]
fn all_others_pass_with_streams_that_stay_in_the_http_library() {
    run_others(POLLED);
}

#[test]
fn all_others_pass_over_tls() {
    run_others(TLS);
}

#[test]
fn all_others_pass_over_http2() {
    run_others(HTTP2);
}

fn run_others(variable: &str) {
    if !is_direct() || is_tls() || is_http2() {
        return;
    }
    let mut others = Command::new(env::current_exe().expect("this program"));
    let output = others.args(["--skip", "all_others_pass"]).env(variable, "1").output().expect("it runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
}
