//! The control connections: heartbeats out, heartbeats in, and the three things a peer may say of itself: that it
//! is leaving, that it must stop everybody, or (by its silence) that it is gone. One thread per communicator,
//! asleep in poll(2) but for four wake-ups a second.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use serde::{Deserialize, Serialize};

use crate::error::FabricError;
use crate::wire::{encode_frame, take_frame, would_wait};

/// Heartbeats per second of tolerated silence; with the default of 3 s, one every 250 ms.
const BEATS_PER_TIMEOUT: u32 = 12;
/// How long a closing rank waits for the others' good-bye, so that nobody's last bytes meet a closed link.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Notice {
    Heartbeat,
    Goodbye,
    Stop { reason: String },
}

/// A peer's end of its control connection.
#[derive(Debug)]
pub(crate) struct ControlPeer {
    pub(crate) rank: usize,
    pub(crate) host: String,
    pub(crate) stream: TcpStream,
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
    closing: AtomicBool,
    wake: OwnedFd,
}

const PRESENT: u64 = u64::MAX;

impl Shared {
    fn fail(&self, error: FabricError) {
        if self.failure.set(error).is_ok() {
            self.failed.store(true, Ordering::Release);
        }
    }

    fn wake(&self) {
        // An eventfd write can only fail when its counter is full, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
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
    ) -> Result<Self, FabricError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| FabricError::system("eventfd", error))?;
        let shared = Arc::new(Shared {
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            left: (0..world).map(|_| AtomicU64::new(PRESENT)).collect(),
            start: Instant::now(),
            stop: Mutex::new(None),
            closing: AtomicBool::new(false),
            wake,
        });
        if peers.is_empty() {
            return Ok(Self { shared, thread: None });
        }
        let mut watch = Watch::new(Arc::clone(&shared), peers, peer_timeout)?;
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

    /// Poisons this communicator and tells every peer why.
    pub(crate) fn stop_everybody(&self, error: FabricError, reason: String) {
        self.shared.fail(error);
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.shared.wake();
    }

    /// Says good-bye and waits a moment for the others to say it too.
    pub(crate) fn close(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.fail(FabricError::Closed);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close();
    }
}

/// One peer as the thread sees it.
#[derive(Debug)]
struct Watched {
    rank: usize,
    host: String,
    stream: TcpStream,
    heard: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It said good-bye: from now on its silence is no loss.
    left: bool,
    /// Its connection ended.
    ended: bool,
}

#[derive(Debug)]
struct Watch {
    shared: Arc<Shared>,
    peers: Vec<Watched>,
    peer_timeout: Duration,
    next_beat: Instant,
    stopped: bool,
}

impl Watch {
    fn new(
        shared: Arc<Shared>,
        peers: Vec<ControlPeer>,
        peer_timeout: Duration,
    ) -> Result<Self, FabricError> {
        let now = Instant::now();
        let peers = peers
            .into_iter()
            .map(|ControlPeer { rank, host, stream }| {
                stream
                    .set_nonblocking(true)
                    .map_err(|error| FabricError::system("fcntl(O_NONBLOCK)", error))?;
                let (input, output) = (Vec::new(), Vec::new());
                Ok(Watched { rank, host, stream, heard: now, input, output, left: false, ended: false })
            })
            .collect::<Result<_, FabricError>>()?;
        Ok(Self { shared, peers, peer_timeout, next_beat: now, stopped: false })
    }

    fn run(&mut self) {
        let mut closing_since = None;
        loop {
            self.spread_the_reason();
            if closing_since.is_none() && self.shared.closing.load(Ordering::Acquire) {
                self.say(&Notice::Goodbye);
                closing_since = Some(Instant::now());
            }
            if let Some(since) = closing_since
                && (self.peers.iter().all(|peer| peer.left || peer.ended) || since.elapsed() > GOODBYE_GRACE)
            {
                break;
            }
            self.beat();
            self.flush();
            self.sleep();
            self.listen();
        }
        self.flush();
        for peer in &self.peers {
            let _ = peer.stream.shutdown(Shutdown::Write);
        }
    }

    fn spread_the_reason(&mut self) {
        if self.stopped {
            return;
        }
        let reason = self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = reason {
            self.stopped = true;
            self.say(&Notice::Stop { reason });
        }
    }

    fn say(&mut self, notice: &Notice) {
        let frame = encode_frame(notice);
        for peer in self.peers.iter_mut().filter(|peer| !peer.ended) {
            peer.output.extend_from_slice(&frame);
        }
    }

    fn beat(&mut self) {
        let now = Instant::now();
        if now < self.next_beat {
            return;
        }
        let frame = encode_frame(&Notice::Heartbeat);
        // A peer that does not take its heartbeats gets no pile of them.
        for peer in self.peers.iter_mut().filter(|peer| !peer.ended && peer.output.is_empty()) {
            peer.output.extend_from_slice(&frame);
        }
        self.next_beat = now + self.peer_timeout / BEATS_PER_TIMEOUT;
    }

    fn flush(&mut self) {
        for peer in self.peers.iter_mut().filter(|peer| !peer.ended) {
            while !peer.output.is_empty() {
                match peer.stream.write(&peer.output) {
                    Ok(count) => drop(peer.output.drain(..count)),
                    // A broken connection shows on the reading side, which knows what to make of it.
                    Err(_) => break,
                }
            }
        }
    }

    fn sleep(&self) {
        let mut watched = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        watched.extend(
            self.peers.iter().filter(|peer| !peer.ended).map(|peer| PollFd::new(&peer.stream, PollFlags::IN)),
        );
        let left = self.next_beat.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a heartbeat interval fits a timespec");
        let _ = poll(&mut watched, Some(&left));
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut count);
    }

    fn listen(&mut self) {
        let mut lost = None;
        for peer in self.peers.iter_mut().filter(|peer| !peer.ended) {
            let ended = peer.read();
            while let Some(notice) = next_notice(&mut peer.input) {
                peer.heard = Instant::now();
                match notice {
                    Notice::Heartbeat => {}
                    Notice::Goodbye => {
                        let now = self.shared.start.elapsed().as_millis() as u64;
                        self.shared.left[peer.rank].store(now, Ordering::Release);
                        peer.left = true;
                    }
                    Notice::Stop { reason } => self.shared.fail(FabricError::StoppedByPeer {
                        peer: peer.rank,
                        host: peer.host.clone(),
                        reason,
                    }),
                }
            }
            peer.ended |= ended.is_some();
            if peer.left {
                continue;
            }
            let silence = peer.heard.elapsed();
            let cause = ended.or_else(|| {
                (silence > self.peer_timeout)
                    .then(|| format!("nothing was heard from it for {:.1} s", silence.as_secs_f64()))
            });
            if let Some(cause) = cause {
                peer.ended = true;
                lost = Some(FabricError::PeerLost { peer: peer.rank, host: peer.host.clone(), cause });
            }
        }
        if let Some(error) = lost {
            if !self.shared.closing.load(Ordering::Acquire) {
                tracing::warn!(%error, "a peer is lost");
            }
            let reason = error.one_line();
            self.shared.fail(error);
            self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
    }
}

impl Watched {
    /// Takes in what has arrived; says how the connection ended, if it did.
    fn read(&mut self) -> Option<String> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some("its process ended (the control connection was closed)".to_owned()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if would_wait(&error) => return None,
                Err(error) => return Some(format!("its control connection broke: {error}")),
            }
        }
    }
}

/// The next thing that a peer says of itself, if it is here whole.
fn next_notice(input: &mut Vec<u8>) -> Option<Notice> {
    // A frame that cannot be read ends the conversation; silence then says the rest.
    take_frame(input).unwrap_or_else(|_| {
        input.clear();
        None
    })
}

/// What a fuzzer tries: how many notices a peer's words are.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn notices(input: &mut Vec<u8>) -> usize {
    std::iter::from_fn(|| next_notice(input)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    fn watch(stream: TcpStream, rank: usize, timeout: Duration) -> Control {
        let peer = ControlPeer { rank, host: format!("host{rank}"), stream };
        Control::start(2, vec![peer], timeout).unwrap()
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
}
