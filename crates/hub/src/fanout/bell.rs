//! Wakes the thread of a shard, and names the members that have left it, or ask for more.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mio::Token;
use tokio::{runtime::Handle, time::sleep};

use super::key::MemberKey;

/// The event of a poll that the bell has rung; all other tokens are slots of members.
pub(crate) const BELL: Token = Token(usize::MAX);

/// A delay that no subscriber notices. Usually a subscription event wakes the shard earlier.
const SOON: Duration = Duration::from_millis(50);

/// Rings when it is dropped, also because its runtime ends.
struct RingsOnDrop(Arc<Bell>);

impl Drop for RingsOnDrop {
    fn drop(&mut self) {
        self.0.rings_soon.store(false, Ordering::SeqCst);
        self.0.ring();
    }
}

/// Wakes the thread of a shard.
pub(crate) struct Bell {
    wake: Box<dyn Fn() + Send + Sync>,
    /// Whether the thread is about to wait: only then ringing costs a system call.
    is_awaited: AtomicBool,
    /// Whether [`Bell::ring_soon`] is about to ring.
    rings_soon: AtomicBool,
    /// Whether the last handle is dropped, so that nothing can be handed in any more.
    is_abandoned: AtomicBool,
    notes: Mutex<Notes>,
}

/// What readers have said of members. Each key is there at most once in each list, so both are bounded by the members.
#[derive(Default)]
pub(crate) struct Notes {
    /// Members that have left and that the shard has not removed yet.
    pub(crate) departed: Vec<MemberKey>,
    /// Members for which more waits in the shard, and that have room for it.
    pub(crate) asking: Vec<MemberKey>,
}

impl Bell {
    /// `wake` wakes the thread if it waits.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            wake: Box::new(wake),
            is_awaited: AtomicBool::new(false),
            rings_soon: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    /// Wakes the thread if it waits.
    pub(crate) fn ring(&self) {
        if self.is_awaited.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    /// Wakes the thread after [`SOON`] if it still waits then. Of many calls in that time one does. Outside a tokio runtime it
    /// wakes the thread at once.
    ///
    /// To wake a thread for each stream that comes alone costs more than to serve it.
    pub(crate) fn ring_soon(self: &Arc<Self>) {
        // A thread that is awake looks for what was handed in before it waits.
        if !self.is_awaited.load(Ordering::SeqCst) || self.rings_soon.swap(true, Ordering::SeqCst) {
            return;
        }
        let rings = RingsOnDrop(Arc::clone(self));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(SOON).await;
                drop(rings);
            });
        }
    }

    /// From now on [`Bell::ring`] wakes the thread. What was handed in before has to be looked for after this call.
    pub(crate) fn expect(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
    }

    /// The thread is awake.
    pub(crate) fn silence(&self) {
        self.is_awaited.store(false, Ordering::SeqCst);
    }

    /// The last handle of the shard is dropped.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::SeqCst)
    }

    /// A member has left.
    pub(crate) fn depart(&self, key: MemberKey) {
        self.notes().departed.push(key);
        self.ring();
    }

    /// A member has room for more of what waits in the shard.
    pub(crate) fn ask(&self, key: MemberKey) {
        self.notes().asking.push(key);
        self.ring();
    }

    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut *self.notes())
    }

    pub(crate) fn has_notes(&self) -> bool {
        let Notes { departed, asking } = &*self.notes();
        !departed.is_empty() || !asking.is_empty()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing under the lock panics half-way through a change.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
