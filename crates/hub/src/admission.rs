//! What let a subscriber in, and whether it still would.
//!
//! The hub sees no token. Its caller numbers what it has accepted, for example by the key that has verified a token. When the
//! caller's rules change, it says which numbers are still accepted, and the streams with others end.

use std::{
    collections::HashSet,
    num::NonZeroU64,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What let a subscriber in, as the hub's caller numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admission(NonZeroU64);

impl From<u64> for Admission {
    /// 0 and 1 are the same.
    fn from(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

/// The admissions that are accepted. Clones share them.
#[derive(Clone)]
pub(crate) struct Accepted(Arc<HashSet<Admission>>);

impl Accepted {
    pub(crate) fn new(admissions: HashSet<Admission>) -> Self {
        Self(Arc::new(admissions))
    }

    /// A subscriber without an admission is the program itself.
    pub(crate) fn accepts(&self, admission: Option<Admission>) -> bool {
        admission.is_none_or(|admission| self.0.contains(&admission))
    }
}

/// What a node accepts now: everything, until its caller says otherwise.
#[derive(Default)]
pub(crate) struct Admissions {
    /// Read for each step of a stream in the history, so that most hubs need no lock for it.
    is_restricted: AtomicBool,
    accepted: RwLock<Option<Accepted>>,
}

impl Admissions {
    /// `None`: everything is accepted.
    pub(crate) fn set(&self, accepted: Option<Accepted>) {
        let mut current = self.accepted.write().unwrap_or_else(PoisonError::into_inner);
        self.is_restricted.store(accepted.is_some(), Ordering::Release);
        *current = accepted;
    }

    pub(crate) fn accept(&self, admission: Option<Admission>) -> bool {
        if !self.is_restricted.load(Ordering::Acquire) {
            return true;
        }
        let current = self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_none_or(|accepted| accepted.accepts(admission))
    }
}
