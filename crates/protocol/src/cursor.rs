//! Where a subscriber wants to go on: section "Reconciliation".

use std::sync::Arc;

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

    /// An id of any form: one that no publisher may use is simply unknown. Refusing it would keep a browser from ever
    /// coming back.
    pub fn parse(value: &str) -> Self {
        if value == Self::EARLIEST { Self::Earliest } else { Self::After(value.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earliest_is_reserved() {
        assert_eq!(Cursor::parse("earliest"), Cursor::Earliest);
        for id in ["#5", "Earliest", "", "x\ny"] {
            assert_eq!(Cursor::parse(id), Cursor::After(id.into()));
        }
    }
}
