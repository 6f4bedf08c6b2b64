//! The thread that keeps the control connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::{End, Line, Notice};
use super::rails::RailTalk;
use super::{ControlPeer, RemoteBell, Shared, lock};
use crate::error::FabricError;
use crate::rdma::PortWatch;
use crate::wire::encode_frame;

/// Heartbeats per second of tolerated silence; with the default of 3 s, one every 250 ms.
const BEATS_PER_TIMEOUT: u32 = 12;
/// How long a closing rank waits for the others' good-bye, so that nobody's last bytes meet a closed link.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);

/// One peer as the thread sees it.
#[derive(Debug)]
struct Watched {
    rank: usize,
    host: String,
    lines: Vec<Line>,
    rails: Option<Arc<RailTalk>>,
    bell: Arc<RemoteBell>,
    heard: Instant,
    /// It said good-bye: from now on its silence is no loss.
    left: bool,
    /// Nothing more is expected of it.
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    peers: Vec<Watched>,
    peer_timeout: Duration,
    ports: Option<PortWatch>,
    next_beat: Instant,
    stopped: bool,
}

impl Watch {
    pub(super) fn new(
        shared: Arc<Shared>,
        peers: Vec<ControlPeer>,
        peer_timeout: Duration,
        ports: Option<PortWatch>,
    ) -> Result<Self, FabricError> {
        let now = Instant::now();
        let watched = |peer: ControlPeer| {
            let ControlPeer { rank, host, streams, rails, bell } = peer;
            let lines = streams.into_iter().map(Line::new).collect::<Result<_, _>>();
            let lines = lines.map_err(|error| FabricError::system("fcntl(O_NONBLOCK)", error))?;
            if let Some(rails) = &rails {
                rails.wakes(shared.wake.clone());
            }
            bell.wakes(shared.wake.clone());
            Ok(Watched { rank, host, lines, rails, bell, heard: now, left: false, ended: false })
        };
        let peers = peers.into_iter().map(watched).collect::<Result<_, FabricError>>()?;
        Ok(Self { shared, peers, peer_timeout, ports, next_beat: now, stopped: false })
    }

    pub(super) fn run(&mut self) {
        let mut closing_since = None;
        loop {
            self.speak_of_the_wait();
            self.spread_the_reason();
            self.speak_of_rails();
            self.speak_of_bells();
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
            if self.ports.as_mut().is_some_and(PortWatch::look) {
                self.wake_sleeper();
            }
            self.listen();
        }
        self.flush();
        self.peers.iter().flat_map(|peer| &peer.lines).for_each(Line::shut);
    }

    fn speak_of_the_wait(&mut self) {
        let notice = lock(&self.shared.own_wait).take();
        if let Some(notice) = notice {
            self.say(&notice);
        }
    }

    fn spread_the_reason(&mut self) {
        if self.stopped {
            return;
        }
        let reason = lock(&self.shared.stop).take();
        if let Some(reason) = reason {
            self.stopped = true;
            self.say(&Notice::Stop { reason });
        }
    }

    fn speak_of_rails(&mut self) {
        for peer in &mut self.peers {
            let closed = peer.rails.as_ref().map(|rails| rails.to_say()).unwrap_or_default();
            for closed in closed {
                peer.say(&Notice::RailClosed(closed));
            }
        }
    }

    fn speak_of_bells(&mut self) {
        for peer in &mut self.peers {
            peer.bell.to_say().for_each(|notice| peer.say(&notice));
        }
    }

    fn say(&mut self, notice: &Notice) {
        self.peers.iter_mut().filter(|peer| !peer.ended).for_each(|peer| peer.say(notice));
    }

    fn beat(&mut self) {
        let now = Instant::now();
        if now < self.next_beat {
            return;
        }
        let frame = encode_frame(&Notice::Heartbeat);
        let lines = self.peers.iter_mut().flat_map(|peer| &mut peer.lines);
        // A connection that does not take its heartbeats gets no pile of them.
        lines.filter(|line| line.is_idle()).for_each(|line| line.say(&frame));
        self.next_beat = now + self.peer_timeout / BEATS_PER_TIMEOUT;
    }

    fn flush(&mut self) {
        self.peers.iter_mut().flat_map(|peer| &mut peer.lines).for_each(Line::flush);
    }

    fn sleep(&self) {
        let mut watched = vec![PollFd::new(&self.shared.wake.0, PollFlags::IN)];
        let lines = self.peers.iter().flat_map(|peer| &peer.lines).filter(|line| !line.ended);
        watched.extend(lines.map(|line| PollFd::new(&line.stream, PollFlags::IN)));
        let ports = self.ports.iter().flat_map(PortWatch::files);
        watched.extend(ports.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        let left = self.next_beat.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a heartbeat interval fits a timespec");
        let _ = poll(&mut watched, Some(&left));
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.wake.0, &mut count);
    }

    /// Every peer's bell here is the one of this rank.
    fn wake_sleeper(&self) {
        if let Some(peer) = self.peers.first() {
            peer.bell.wake_sleeper();
        }
    }

    fn listen(&mut self) {
        let mut lost = None;
        for peer in self.peers.iter_mut().filter(|peer| !peer.ended) {
            let ended = peer.listen(&self.shared);
            if peer.left {
                continue;
            }
            let silence = peer.heard.elapsed();
            let cause = ended.or_else(|| {
                (silence > self.peer_timeout)
                    .then(|| format!("nothing was heard from it for {:.1} s", silence.as_secs_f64()))
            });
            if let Some(cause) = cause {
                peer.end();
                lost = Some(FabricError::PeerLost { peer: peer.rank, host: peer.host.clone(), cause });
            }
        }
        if let Some(error) = lost {
            if !self.shared.closing.load(Ordering::Acquire) {
                tracing::warn!(%error, "a peer is lost");
            }
            let reason = error.one_line();
            self.shared.fail(error);
            self.wake_sleeper();
            lock(&self.shared.stop).get_or_insert(reason);
        }
    }
}

impl Watched {
    fn say(&mut self, notice: &Notice) {
        let frame = encode_frame(notice);
        self.lines.iter_mut().for_each(|line| line.say(&frame));
    }

    fn end(&mut self) {
        self.ended = true;
        self.lines.iter_mut().for_each(|line| line.ended = true);
    }

    /// Takes in what the peer has said over any connection; how all of it ended, if it did.
    fn listen(&mut self, shared: &Shared) -> Option<String> {
        let mut ended = None;
        for index in 0..self.lines.len() {
            if self.lines[index].ended {
                continue;
            }
            let end = self.lines[index].read();
            while let Some(notice) = self.lines[index].next_notice() {
                self.heard = Instant::now();
                self.take(notice, shared);
            }
            self.lines[index].ended |= end.is_some();
            let others = self.lines.iter().any(|line| !line.ended);
            match end {
                Some(End::Network(cause)) if others => {
                    tracing::warn!(
                        peer = self.rank,
                        host = self.host,
                        cause,
                        "it is heard over another network"
                    );
                }
                Some(End::Peer(cause) | End::Network(cause)) => ended = Some(cause),
                None => {}
            }
        }
        if self.left && self.lines.iter().all(|line| line.ended) {
            self.ended = true;
        }
        ended
    }

    fn take(&mut self, notice: Notice, shared: &Shared) {
        match notice {
            Notice::Heartbeat => {}
            Notice::Goodbye => {
                let now = shared.start.elapsed().as_millis() as u64;
                shared.left[self.rank].store(now, Ordering::Release);
                self.left = true;
                if let Some(rails) = &self.rails {
                    rails.leave();
                }
                self.bell.wake_sleeper();
            }
            Notice::Stop { reason } => {
                let (peer, host) = (self.rank, self.host.clone());
                shared.fail(FabricError::StoppedByPeer { peer, host, reason });
                self.bell.wake_sleeper();
            }
            Notice::Waits { within } => *lock(&shared.waits[self.rank]) = within,
            Notice::RailClosed(closed) => {
                if let Some(rails) = &self.rails {
                    rails.tell(closed);
                }
                self.bell.wake_sleeper();
            }
            Notice::Sleeps => self.bell.peer_sleeps(),
            Notice::Rings => self.bell.rung(),
        }
    }
}
