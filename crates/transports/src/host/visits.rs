//! The connections over which members ask, at most one of each member: a newer one waits until everything that was asked over
//! the older one is done or refused. So a member that looks for what it asked before finds it, or knows that it will not come.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

/// The present visit of each member, by the member's number.
#[derive(Clone, Default)]
pub(super) struct Visits(Arc<Mutex<HashMap<u128, Visit>>>);

#[derive(Clone)]
struct Visit {
    leave: Arc<Notify>,
    has_left: watch::Receiver<bool>,
}

/// A visit. Dropping it ends it.
pub(super) struct Visiting {
    visits: Visits,
    member: u128,
    leave: Arc<Notify>,
    has_left: watch::Sender<bool>,
}

impl Visits {
    /// Begins a visit when the former one of the same member has ended.
    pub(super) async fn enter(&self, member: u128) -> Visiting {
        let leave = Arc::<Notify>::default();
        let has_left = watch::Sender::new(false);
        let visit = Visit { leave: Arc::clone(&leave), has_left: has_left.subscribe() };
        let visiting = Visiting { visits: self.clone(), member, leave, has_left };
        let former = self.lock().insert(member, visit);
        if let Some(Visit { leave, mut has_left }) = former {
            leave.notify_one();
            // An error means the same.
            let _ = has_left.wait_for(|has_left| *has_left).await;
        }
        visiting
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Visit>> {
        // Nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visiting {
    /// Waits until the member comes again.
    pub(super) async fn is_over(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Visiting {
    fn drop(&mut self) {
        let mut visits = self.visits.lock();
        if visits.get(&self.member).is_some_and(|visit| Arc::ptr_eq(&visit.leave, &self.leave)) {
            visits.remove(&self.member);
        }
        drop(visits);
        self.has_left.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn a_member_that_comes_again_waits_for_the_end_of_its_former_visit() {
        let visits = Visits::default();
        let former = visits.enter(1).await;
        let _other = visits.enter(2).await;
        let mut again = pin!(visits.enter(1));
        let mut poll = || again.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        former.is_over().await;
        assert!(poll().is_pending(), "it has not left yet");
        drop(former);
        let Poll::Ready(last) = poll() else { panic!("it has left") };
        assert_eq!(visits.lock().len(), 2);
        drop(last);
        assert_eq!(visits.lock().len(), 1);
    }
}
