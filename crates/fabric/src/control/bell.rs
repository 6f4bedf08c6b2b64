//! Bells between hosts. A rank that sleeps while it waits for a peer over rdma has no kernel to wake it: it has the peer told
//! that it sleeps, and the peer has it woken after the next thing that it writes. The control threads carry both, so that
//! whoever is busy pays one load per write.
//!
//! What the peer writes while it has not been told yet rings nothing, so nobody may sleep long before it has looked again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Wake;
use super::line::Notice;
use crate::arena::Arena;
use crate::doorbell;

/// Between one link and the control thread.
#[derive(Debug)]
pub(crate) struct RemoteBell {
    /// This rank's own bell: where it lies.
    arena: Arc<Arena>,
    offset: usize,
    /// The peer sleeps, and has not been rung since it said so.
    peer_sleeps: AtomicBool,
    /// This rank has said that it sleeps, and the peer has not rung since.
    said: AtomicBool,
    to_say: AtomicBool,
    to_ring: AtomicBool,
    /// Wakes the control thread, once there is one.
    wake: OnceLock<Wake>,
}

impl RemoteBell {
    pub(crate) fn new(arena: Arc<Arena>, offset: usize) -> Self {
        let [peer_sleeps, said, to_say, to_ring] = [(); 4].map(|()| AtomicBool::new(false));
        Self { arena, offset, peer_sleeps, said, to_say, to_ring, wake: OnceLock::new() }
    }

    /// For the link, behind what it has written: wakes the peer if it sleeps.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.peer_sleeps.load(Ordering::Relaxed) {
            self.ring_sleeper();
        }
    }

    #[cold]
    fn ring_sleeper(&self) {
        self.peer_sleeps.store(false, Ordering::Relaxed);
        self.to_ring.store(true, Ordering::Release);
        self.wake_thread();
    }

    /// For the link: has the peer told that this rank sleeps, unless it knows.
    pub(crate) fn ask(&self) {
        if !self.said.swap(true, Ordering::AcqRel) {
            self.to_say.store(true, Ordering::Release);
            self.wake_thread();
        }
    }

    fn wake_thread(&self) {
        if let Some(wake) = self.wake.get() {
            wake.now();
        }
    }

    /// For the control thread: by what it is woken.
    pub(super) fn wakes(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    /// For the control thread: what is to be said now.
    pub(super) fn to_say(&self) -> impl Iterator<Item = Notice> + use<> {
        let sleeps = self.to_say.swap(false, Ordering::AcqRel).then_some(Notice::Sleeps);
        let rings = self.to_ring.swap(false, Ordering::AcqRel).then_some(Notice::Rings);
        sleeps.into_iter().chain(rings)
    }

    /// For the control thread: the peer has said that it sleeps.
    pub(super) fn peer_sleeps(&self) {
        self.peer_sleeps.store(true, Ordering::Relaxed);
    }

    /// For the control thread: the peer has rung.
    pub(super) fn rung(&self) {
        self.said.store(false, Ordering::Release);
        self.wake_sleeper();
    }

    /// For the control thread: there is something that this rank must know even if it sleeps.
    pub(super) fn wake_sleeper(&self) {
        doorbell::ring(&self.arena, self.offset);
    }
}
