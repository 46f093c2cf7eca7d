//! The log in PostgreSQL against a real server.

#![cfg(feature = "postgres")]
#![expect(unreachable_pub, reason = "a test's modules are seen by nobody else")]

#[path = "../kit/mod.rs"]
mod kit;

mod losses;
mod nodes;
mod opening;
mod outages;
mod retention;
mod server;

// A follower reads what is left until rows are deleted, which `retention` waits for.
kit::stories::stories!(
    server::Postgres: it_keeps_what_every_transport_guarantees,
    a_log_goes_on_over_each_end_and_a_pause,
    nothing_acknowledged_is_lost_and_nothing_is_followed_twice_over_each_end,
    a_paused_store_fails_everything_in_time_and_is_ready_again_by_itself,
    an_idle_node_notices_a_paused_store,
    a_store_that_has_lost_everything_begins_a_new_log,
    what_failed_while_the_store_was_gone_is_not_there_when_it_is_back,
    large_updates_come_in_small_pages,
    an_absent_store_is_unavailable
);
