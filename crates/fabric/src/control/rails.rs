//! What the two ends of a link tell each other of rails that are closed. A link says it here and the control thread carries
//! it, over every control connection of that peer; what the peer says lies here until the link looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Wake;
use crate::rdma::RailClosed;

/// Between one link and the control thread.
#[derive(Debug, Default)]
pub(crate) struct RailTalk {
    to_say: Mutex<Vec<RailClosed>>,
    heard: Mutex<Vec<RailClosed>>,
    news: AtomicBool,
    peer_left: AtomicBool,
    /// Wakes the control thread, once there is one.
    wake: OnceLock<Wake>,
}

fn lock(words: &Mutex<Vec<RailClosed>>) -> MutexGuard<'_, Vec<RailClosed>> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RailTalk {
    /// For the link: has the peer told soon.
    pub(crate) fn say(&self, closed: RailClosed) {
        lock(&self.to_say).push(closed);
        if let Some(wake) = self.wake.get() {
            wake.now();
        }
    }

    /// For the link: whether the peer has said anything.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// For the link: what the peer has said.
    pub(crate) fn hear(&self) -> Vec<RailClosed> {
        self.news.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.heard))
    }

    /// For the link: whether the peer has said good-bye.
    pub(crate) fn peer_has_left(&self) -> bool {
        self.peer_left.load(Ordering::Acquire)
    }

    /// For the control thread: by what it is woken.
    pub(super) fn wakes(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    /// For the control thread: what is to be said now.
    pub(super) fn to_say(&self) -> Vec<RailClosed> {
        std::mem::take(&mut *lock(&self.to_say))
    }

    /// For the control thread: what the peer says.
    pub(super) fn tell(&self, closed: RailClosed) {
        lock(&self.heard).push(closed);
        self.news.store(true, Ordering::Release);
    }

    /// For the control thread: the peer has said good-bye.
    pub(super) fn leave(&self) {
        self.peer_left.store(true, Ordering::Release);
    }
}
