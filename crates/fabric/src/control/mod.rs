//! The control connections: heartbeats out, heartbeats in, and what a peer may say of itself: that it is leaving, that it
//! must stop everybody, that it has waited long, that it sleeps, that it has closed a rail, or (by its silence) that it is
//! gone. One thread per communicator, asleep in poll(2) but for four wake-ups a second and what there is to say or hear.

mod bell;
mod line;
mod rails;
mod watch;

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::FabricError;
use crate::rdma::PortWatch;
pub(crate) use bell::RemoteBell;
use line::Notice;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use line::notices;
pub(crate) use rails::RailTalk;
use watch::Watch;

/// A peer, and the control connections to it.
#[derive(Debug)]
pub(crate) struct ControlPeer {
    pub(crate) rank: usize,
    pub(crate) host: String,
    /// One, or with several rails one over the network of each: the peer is there as long as it is heard on any.
    pub(crate) streams: Vec<TcpStream>,
    /// Where its link of several rails speaks and listens.
    pub(crate) rails: Option<Arc<RailTalk>>,
    /// Where its link asks to be rung, and rings, if it is over rdma.
    pub(crate) bell: Arc<RemoteBell>,
}

/// What the thread and the communicator tell each other.
#[derive(Debug)]
struct Shared {
    /// Read on every turn of a waiting loop; the failure itself is behind it.
    failed: AtomicBool,
    failure: OnceLock<FabricError>,
    /// Per rank: milliseconds after `start` when it said good-bye, or `PRESENT`.
    left: Vec<AtomicU64>,
    start: Instant,
    /// The reason to send to everybody, if this rank must stop them.
    stop: Mutex<Option<String>>,
    /// What to say next of this rank's own wait.
    own_wait: Mutex<Option<Notice>>,
    /// Per rank: what it has said that it waits in.
    waits: Vec<Mutex<Option<String>>>,
    closing: AtomicBool,
    wake: Wake,
}

/// Wakes the control thread.
#[derive(Debug, Clone)]
struct Wake(Arc<OwnedFd>);

impl Wake {
    fn now(&self) {
        // An eventfd write can only fail when its counter is full, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

const PRESENT: u64 = u64::MAX;

impl Shared {
    fn fail(&self, error: FabricError) {
        if self.failure.set(error).is_ok() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

/// What it holds is whole even if a thread died with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This rank's handle on its control thread.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts watching the peers.
    pub(crate) fn start(
        world: usize,
        peers: Vec<ControlPeer>,
        peer_timeout: Duration,
        ports: Option<PortWatch>,
    ) -> Result<Self, FabricError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| FabricError::system("eventfd", error))?;
        let shared = Arc::new(Shared {
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            left: (0..world).map(|_| AtomicU64::new(PRESENT)).collect(),
            start: Instant::now(),
            stop: Mutex::new(None),
            own_wait: Mutex::new(None),
            waits: (0..world).map(|_| Mutex::default()).collect(),
            closing: AtomicBool::new(false),
            wake: Wake(Arc::new(wake)),
        });
        if peers.is_empty() {
            return Ok(Self { shared, thread: None });
        }
        let mut watch = Watch::new(Arc::clone(&shared), peers, peer_timeout, ports)?;
        let thread = std::thread::Builder::new()
            .name("halo-control".to_owned())
            .spawn(move || watch.run())
            .map_err(|error| FabricError::system("pthread_create", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The failure that poisoned this communicator, if any. One load when there is none.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), FabricError> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(self.shared.failure.get().cloned().unwrap_or(FabricError::Closed));
        }
        Ok(())
    }

    /// How long ago this peer said good-bye, if it did.
    pub(crate) fn left_for(&self, peer: usize) -> Option<Duration> {
        match self.shared.left[peer].load(Ordering::Acquire) {
            PRESENT => None,
            at => Some(self.shared.start.elapsed().saturating_sub(Duration::from_millis(at))),
        }
    }

    /// Tells every peer what this rank has been waiting in, or that it goes on.
    pub(crate) fn say_waits(&self, within: Option<String>) {
        *lock(&self.shared.own_wait) = Some(Notice::Waits { within });
        self.shared.wake.now();
    }

    /// What a peer has said that it waits in, if it does.
    pub(crate) fn waits_in(&self, peer: usize) -> Option<String> {
        lock(&self.shared.waits[peer]).clone()
    }

    /// Poisons this communicator and tells every peer why.
    pub(crate) fn stop_everybody(&self, error: FabricError, reason: String) {
        self.shared.fail(error);
        *lock(&self.shared.stop) = Some(reason);
        self.shared.wake.now();
    }

    /// Says good-bye and waits a moment for the others to say it too. A peer that has stopped the communicator meanwhile is
    /// an error; one that just went away is none any more.
    pub(crate) fn close(&mut self) -> Result<(), FabricError> {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let stopped = self.check().or_else(|error| match error {
            FabricError::StoppedByPeer { .. } => Err(error),
            _ => Ok(()),
        });
        self.shared.fail(FabricError::Closed);
        stopped
    }
}

/// Every lock that a communicator has, for a test that holds them.
#[cfg(test)]
pub(crate) struct Locks(Arc<Shared>);

#[cfg(test)]
impl Locks {
    pub(crate) fn of(control: &Control) -> Self {
        Self(Arc::clone(&control.shared))
    }

    pub(crate) fn hold(&self) -> impl Sized {
        let Shared { stop, own_wait, waits, .. } = &*self.0;
        (lock(stop), lock(own_wait), waits.iter().map(lock).collect::<Vec<_>>())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::doorbell;
    use crate::rdma::RailClosed;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    fn watch(stream: TcpStream, rank: usize, timeout: Duration) -> Control {
        watch_all(vec![stream], rank, timeout, None)
    }

    fn watch_all(
        streams: Vec<TcpStream>,
        rank: usize,
        timeout: Duration,
        rails: Option<Arc<RailTalk>>,
    ) -> Control {
        watch_and_ring(streams, rank, timeout, rails, Arc::new(bell().1))
    }

    /// A rank's bell line, and what rings it.
    fn bell() -> (Arc<Arena>, RemoteBell) {
        let arena = Arc::new(Arena::allocate(4096).unwrap());
        (Arc::clone(&arena), RemoteBell::new(arena, 0))
    }

    fn watch_and_ring(
        streams: Vec<TcpStream>,
        rank: usize,
        timeout: Duration,
        rails: Option<Arc<RailTalk>>,
        bell: Arc<RemoteBell>,
    ) -> Control {
        let peer = ControlPeer { rank, host: format!("host{rank}"), streams, rails, bell };
        Control::start(2, vec![peer], timeout, None).unwrap()
    }

    fn failure(control: &Control) -> FabricError {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Err(error) = control.check() {
                return error;
            }
            assert!(Instant::now() < deadline, "no failure was noticed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_peer_that_ends_without_good_bye_is_lost() {
        let (here, there) = pair();
        let control = watch(here, 1, Duration::from_secs(3));
        control.check().unwrap();
        drop(there);
        let error = failure(&control);
        assert!(matches!(&error, FabricError::PeerLost { peer: 1, host, .. } if host == "host1"), "{error}");
    }

    #[test]
    fn a_silent_peer_is_lost_and_a_beating_one_is_not() {
        let (here, silent) = pair();
        let control = watch(here, 1, Duration::from_millis(200));
        let error = failure(&control);
        assert!(error.to_string().contains("nothing was heard"), "{error}");
        drop(silent);
    }

    #[test]
    fn good_bye_is_leaving_and_not_loss() {
        let (here, there) = pair();
        let (zero, one) = (watch(here, 1, Duration::from_secs(3)), watch(there, 0, Duration::from_secs(3)));
        drop(one);
        let deadline = Instant::now() + Duration::from_secs(10);
        while zero.left_for(1).is_none() {
            assert!(Instant::now() < deadline, "the good-bye was not heard");
            std::thread::yield_now();
        }
        zero.check().unwrap();
    }

    #[test]
    fn a_reason_to_stop_reaches_the_peer_in_its_own_words() {
        let (here, there) = pair();
        let (zero, one) = (watch(here, 1, Duration::from_secs(3)), watch(there, 0, Duration::from_secs(3)));
        one.stop_everybody(FabricError::Closed, "HALO-E0301: sizes differ".to_owned());
        let error = failure(&zero);
        assert!(
            matches!(&error, FabricError::StoppedByPeer { peer: 1, reason, .. } if reason.contains("sizes differ"))
        );
    }

    #[test]
    fn a_long_wait_is_known_to_the_peer_until_it_ends() {
        let (here, there) = pair();
        let (zero, one) = (watch(here, 1, Duration::from_secs(3)), watch(there, 0, Duration::from_secs(3)));
        for said in [Some("barrier".to_owned()), None, Some("recv".to_owned())] {
            one.say_waits(said.clone());
            let deadline = Instant::now() + Duration::from_secs(10);
            while zero.waits_in(1) != said {
                assert!(Instant::now() < deadline, "{said:?} was not heard");
                std::thread::yield_now();
            }
        }
        assert_eq!(one.waits_in(0), None);
        zero.check().unwrap();
    }

    #[test]
    fn a_sleeper_is_woken_by_the_next_write_of_a_peer_that_it_has_told() {
        const LONG: Duration = Duration::from_secs(60);
        let ((here, there), (arena, ours), (_, theirs)) = (pair(), bell(), bell());
        let (ours, theirs) = (Arc::new(ours), Arc::new(theirs));
        let timeout = Duration::from_secs(3);
        let zero = watch_and_ring(vec![here], 1, timeout, None, Arc::clone(&ours));
        let one = watch_and_ring(vec![there], 0, timeout, None, Arc::clone(&theirs));
        for _ in 0..3 {
            let start = Instant::now();
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    doorbell::sleep(&arena, 0, LONG, || {
                        ours.ask();
                        false
                    });
                });
                while !sleeper.is_finished() {
                    theirs.ring();
                    std::thread::yield_now();
                }
            });
            assert!(start.elapsed() < LONG, "it was woken, and did not wake by itself");
        }
        zero.check().unwrap();
        one.check().unwrap();
    }

    #[test]
    fn a_rank_that_does_not_sleep_is_not_rung_and_one_that_does_says_so_once() {
        let (_arena, bell) = bell();
        bell.ring();
        assert_eq!(bell.to_say().count(), 0, "nobody sleeps");
        bell.ask();
        bell.ask();
        assert!(matches!(bell.to_say().collect::<Vec<_>>()[..], [Notice::Sleeps]));
        bell.ask();
        assert_eq!(bell.to_say().count(), 0, "the peer knows");
        bell.rung();
        bell.ask();
        assert!(matches!(bell.to_say().collect::<Vec<_>>()[..], [Notice::Sleeps]), "it has to be told anew");
        bell.peer_sleeps();
        bell.ring();
        bell.ring();
        assert!(matches!(bell.to_say().collect::<Vec<_>>()[..], [Notice::Rings]), "it is rung once");
    }

    #[test]
    fn a_peer_that_is_heard_over_one_network_is_there_and_one_that_ends_is_lost_over_any() {
        let ((first, silent), (second, there)) = (pair(), pair());
        let timeout = Duration::from_millis(200);
        let zero = watch_all(vec![first, second], 1, timeout, None);
        let one = watch(there, 0, timeout);
        let deadline = Instant::now() + 3 * timeout;
        while Instant::now() < deadline {
            zero.check().unwrap();
            std::thread::yield_now();
        }
        drop(silent);
        let error = failure(&zero);
        assert!(matches!(&error, FabricError::PeerLost { peer: 1, .. }), "{error}");
        drop(one);
    }

    #[test]
    fn what_is_said_of_a_rail_is_heard_over_whichever_network_still_carries() {
        let ((first, _silent), (second, there)) = (pair(), pair());
        let (ours, theirs) = (Arc::new(RailTalk::default()), Arc::new(RailTalk::default()));
        let timeout = Duration::from_secs(3);
        let zero = watch_all(vec![first, second], 1, timeout, Some(Arc::clone(&ours)));
        let one = watch_all(vec![there], 0, timeout, Some(Arc::clone(&theirs)));
        let closed = RailClosed { rail: 1, cause: "a cable".to_owned(), consumed: 7, arrived: vec![9] };
        ours.say(closed.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !theirs.has_news() {
            assert!(Instant::now() < deadline, "it was not heard");
            std::thread::yield_now();
        }
        assert_eq!((theirs.hear(), theirs.has_news()), (vec![closed], false));
        drop(one);
        while !ours.peer_has_left() {
            assert!(Instant::now() < deadline, "the good-bye was not heard");
            std::thread::yield_now();
        }
        zero.check().unwrap();
    }
}
