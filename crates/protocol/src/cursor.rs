//! Where a subscriber wants to go on: section "Reconciliation".

use std::sync::Arc;

use crate::{Limits, Reject};

/// The last event that a subscriber has seen, in the subscriber's words. The hub decides whether it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// `earliest`: everything that is kept.
    Earliest,
    /// Everything after the event of this id.
    After(Arc<str>),
}

impl Cursor {
    /// The reserved value, in requests and in answers.
    pub const EARLIEST: &'static str = "earliest";

    /// An id of any form: one that no publisher may use is simply unknown.
    ///
    /// # Errors
    /// [`Reject::TooMany`] when longer than any id can be.
    pub fn parse(value: &str, limits: &Limits) -> Result<Self, Reject> {
        if value.len() > limits.id_bytes_max {
            return Err(Reject::TooMany {
                what: "the length of the last event ID in bytes",
                max: limits.id_bytes_max,
            });
        }
        Ok(if value == Self::EARLIEST { Self::Earliest } else { Self::After(value.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_is_reserved_and_length_is_bounded() {
        let limits = Limits::default();
        assert_eq!(Cursor::parse("earliest", &limits), Ok(Cursor::Earliest));
        assert_eq!(Cursor::parse("#5", &limits), Ok(Cursor::After("#5".into())));
        assert!(matches!(Cursor::parse(&"x".repeat(1025), &limits), Err(Reject::TooMany { .. })));
    }
}
