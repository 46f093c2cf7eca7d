//! How orders have gone, for operators.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use petasos_server::metrics::{
    Samples,
    table::{ACME_LAST_ORDER_SUCCESSFUL, ACME_ORDERS_TOTAL},
};

/// How orders have gone. The node that orders counts; all nodes know whether the last order has failed.
#[derive(Default)]
pub(crate) struct Report {
    issued: AtomicU64,
    failed: AtomicU64,
    problem: Mutex<Option<String>>,
    unsaved: Mutex<Option<String>>,
}

impl Report {
    pub(super) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
        self.set_problem(None);
    }

    pub(super) fn failed(&self, problem: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.set_problem(Some(problem));
    }

    /// Why the last order failed, of whichever node. `None`: it succeeded, or there was none.
    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Why the last order failed.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the certificate that is offered is not kept. `None`: it is, or there is none.
    pub(super) fn set_unsaved(&self, problem: Option<String>) {
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Why the certificate that is offered is not kept.
    pub(crate) fn unsaved(&self) -> Option<String> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the values.
    pub(crate) fn add(&self, samples: &mut Samples) {
        samples.push(&ACME_ORDERS_TOTAL, &["issued"], self.issued.load(Ordering::Relaxed));
        samples.push(&ACME_ORDERS_TOTAL, &["failed"], self.failed.load(Ordering::Relaxed));
        let is_successful = self.problem().is_none() && self.unsaved().is_none();
        samples.push(&ACME_LAST_ORDER_SUCCESSFUL, &[], is_successful);
    }
}
