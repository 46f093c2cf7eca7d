//! The names of query parameters that mean something.

/// Whether a parameter of that name means something in either dialect.
pub(super) fn is_known(name: &str) -> bool {
    is_reserved(name) || CURSORS.contains(&name) || ["topic", "authorization"].contains(&name)
}

/// Whether 1.0 reserves the name: every name that begins with `match`, in upper or lower case. A reserved name that is
/// unknown is refused, because a misspelt parameter would otherwise select fewer topics than its author meant.
pub(super) fn is_reserved(name: &str) -> bool {
    name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match"))
}

/// The name of the parameter by which a client asks that events name their topics. Its value says nothing. Other hubs ignore it.
pub(super) const MULTIPLEX: &str = "petasos-multiplex";

/// The names of the cursor in 1.0.
pub(super) const CURSORS_V1: [&str; 1] = ["last_event_id"];

/// The names of the cursor in 0.x: that of 1.0, that of 0.x, and those of two deployed clients, Yaffle's polyfill and
/// Symfony's Twig function.
pub(super) const CURSORS: [&str; 4] = ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"];
