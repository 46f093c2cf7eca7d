//! The event after which a subscriber wants to continue (section "Reconciliation").

use std::sync::Arc;

use crate::{Limits, Reject};

/// The last event that a subscriber has seen, as the request names it. Only the log can tell whether it holds the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// The parameter or the header field is present and empty: nothing is replayed, and the answer names the event after
    /// which the stream begins.
    Blank,
    /// `earliest`: everything that the log still holds.
    Earliest,
    /// Everything after the event of this id.
    After(Arc<str>),
    /// Everything after the newest of these events that the log still holds: at least two different ids. If the log holds
    /// none of them, the cursor counts as one unknown id.
    AfterNewest(Arc<[Arc<str>]>),
}

impl Cursor {
    /// The reserved value in requests and in answers.
    pub const EARLIEST: &'static str = "earliest";

    /// Reads one value. An id may have any form, also one that no publisher may use: the log does not know it. To refuse it
    /// would keep a browser, which sends its last id again and again, from ever connecting.
    pub fn parse(value: &str) -> Self {
        match value {
            "" => Self::Blank,
            Self::EARLIEST => Self::Earliest,
            id => Self::After(id.into()),
        }
    }

    /// Reads several values that one request has side by side. `None`: there is no value at all.
    ///
    /// A client library that reconnects adds the last id that it has seen to a URL that may already name an older one.
    /// So the newest event that the log holds is meant. `earliest` is older than every event, and a blank value does
    /// not count beside others.
    ///
    /// # Errors
    /// [`Reject::TooMany`]: more different ids than [`Limits::cursors_max`].
    ///
    /// ```
    /// use petasos_protocol::{Limits, request::Cursor};
    /// let limits = Limits::default();
    /// assert_eq!(Cursor::newest(["", "b", "earliest"], &limits), Ok(Some(Cursor::parse("b"))));
    /// assert_eq!(Cursor::newest(["", "earliest"], &limits), Ok(Some(Cursor::Earliest)));
    /// assert_eq!(Cursor::newest([], &limits), Ok(None));
    /// ```
    pub fn newest<'a>(
        values: impl IntoIterator<Item = &'a str>,
        limits: &Limits,
    ) -> Result<Option<Self>, Reject> {
        let mut without_id = None;
        let mut ids: Vec<Arc<str>> = Vec::new();
        for value in values {
            match Self::parse(value) {
                Self::After(id) if ids.contains(&id) => {}
                Self::After(_) if ids.len() == limits.cursors_max => {
                    let what = "the number of different last event ids";
                    return Err(Reject::TooMany { what, max: limits.cursors_max });
                }
                Self::After(id) => ids.push(id),
                Self::Blank => without_id = without_id.or(Some(Self::Blank)),
                other => without_id = Some(other),
            }
        }
        Ok(match &ids[..] {
            [] => without_id,
            [id] => Some(Self::After(Arc::clone(id))),
            _ => Some(Self::AfterNewest(ids.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(values: &[&str]) -> Option<Cursor> {
        Cursor::newest(values.iter().copied(), &Limits::default()).expect("few")
    }

    #[test]
    fn only_earliest_and_nothing_are_reserved() {
        assert_eq!(Cursor::parse("earliest"), Cursor::Earliest);
        assert_eq!(Cursor::parse(""), Cursor::Blank);
        for id in ["#5", "Earliest", " ", "x\ny"] {
            assert_eq!(Cursor::parse(id), Cursor::After(id.into()));
        }
    }

    #[test]
    fn among_several_the_ids_count_each_once_and_earliest_is_the_oldest() {
        let after = |id: &str| Some(Cursor::After(id.into()));
        let all = |ids: &[&str]| Some(Cursor::AfterNewest(ids.iter().map(|id| Arc::from(*id)).collect()));
        assert_eq!(newest(&[]), None);
        assert_eq!(newest(&["", ""]), Some(Cursor::Blank));
        assert_eq!(newest(&["earliest", "", "earliest"]), Some(Cursor::Earliest));
        assert_eq!(newest(&["", "earliest"]), Some(Cursor::Earliest));
        assert_eq!(newest(&["a", "a", ""]), after("a"));
        assert_eq!(newest(&["earliest", "a"]), after("a"));
        assert_eq!(newest(&["a", "b", "a", "earliest", "c", ""]), all(&["a", "b", "c"]));
    }

    #[test]
    fn different_ids_are_bounded_and_equal_ones_are_not() {
        let limits = Limits::default();
        let ids: Vec<String> = (0..=limits.cursors_max).map(|number| number.to_string()).collect();
        let most = ids[1..].iter().map(String::as_str);
        assert!(Cursor::newest(most.clone().chain(most).chain(["", "earliest"]), &limits).is_ok());
        let refused = Cursor::newest(ids.iter().map(String::as_str), &limits).expect_err("too many");
        assert_eq!(refused.code(), "too-many");
    }
}
