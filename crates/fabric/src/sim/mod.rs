//! A simulated [`Fabric`]: all ranks in one thread, virtual time, delays drawn from a seed, so that every run can be
//! repeated. It keeps the real one's promises (order within a pair, room for a few messages, contents unchanged) and
//! none beyond them: links overtake each other, a rank may be far behind, and credit comes as late as in the real one,
//! with a message the other way or by itself after half the room is used. A slot that is written before its message was
//! consumed ends the simulation with a panic.
//!
//! In a network with registered memory ([`Simulation::with_registered_memory`]) payloads are read where they lie, as late as
//! can be, and written straight to what is lent. Of those that are referred to, half are read by the receiver.
//!
//! Delays are drawn, to find what goes wrong, or computed from a [`Timing`], to predict how long something takes.

mod memory;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::FabricError;
use crate::fabric::Fabric;
use crate::message::{Message, Tag};
use crate::window::Window;
use memory::{Bytes, Loan, Payload, Run};

#[derive(Debug)]
struct Flying {
    /// When its first byte arrives.
    arrives: u64,
    /// How long the receiving port takes for it, in timed mode.
    takes: u64,
    /// How many of the receiver's messages the sender has consumed.
    consumed: u64,
    load: Load,
}

#[derive(Debug)]
enum Load {
    Credit,
    Lend(Loan),
    Message(Tag, Payload),
}

/// One direction of one pair.
#[derive(Debug, Default)]
struct Lane {
    flying: VecDeque<Flying>,
    last_arrival: u64,
    messages: u64,
    bytes: u64,
    /// Messages whose slots the receiver has given back.
    released: u64,
    /// Messages that have arrived, and those whose payload is read where it lies: numbers from 1.
    arrived: u64,
    in_place: VecDeque<u64>,
    /// What the receiver lends to the sender.
    lent: Option<Loan>,
    /// Bytes written straight to it.
    placed: u64,
}

/// What takes how long in a network whose ranks have one full-duplex port each, in picoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the post to the flag of an empty message.
    pub latency: u64,
    /// A byte on the port.
    pub per_byte: u64,
    /// The processor's part in one message.
    pub post: u64,
    /// The processor's part in one byte that has arrived.
    pub per_byte_reduced: u64,
}

#[derive(Debug)]
enum Pace {
    /// Every delay up to this many ticks, drawn.
    Drawn {
        most: u64,
    },
    Timed {
        timing: Timing,
        ranks: Vec<Port>,
    },
}

/// A rank in timed mode.
#[derive(Debug, Clone, Copy, Default)]
struct Port {
    /// How far this rank has come.
    clock: u64,
    /// When its port can send, and receive, the next byte.
    sends: u64,
    receives: u64,
    finished: bool,
}

#[derive(Debug)]
struct World {
    now: u64,
    random: u64,
    slots: usize,
    pace: Pace,
    lanes: Vec<Vec<Lane>>,
    lost: Option<usize>,
    registered: bool,
}

impl World {
    /// xorshift64*: enough for delays, and the same on every machine.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) % below.max(1)
    }
}

impl World {
    /// Sends something on its way; a later one of a pair never overtakes an earlier one.
    fn fly(&mut self, from: usize, to: usize, consumed: u64, load: Load) {
        let bytes = if let Load::Message(_, payload) = &load { payload.len() as u64 } else { 0 };
        let (arrival, takes) = match self.pace {
            Pace::Drawn { most } => (self.now + 1 + self.draw(most), 0),
            Pace::Timed { .. } => self.carry(from, bytes),
        };
        let lane = &mut self.lanes[from][to];
        lane.last_arrival = arrival.max(lane.last_arrival);
        if let Load::Message(_, payload) = &load {
            lane.messages += 1;
            lane.bytes += bytes;
            // By what the receiver has done, not by what the sender has heard of it.
            let taken = lane.messages - lane.released;
            assert!(taken <= self.slots as u64, "a slot is written before it was given back");
            if payload.is_with_the_sender() {
                lane.in_place.push_back(lane.messages);
            }
        }
        lane.flying.push_back(Flying { arrives: lane.last_arrival, takes, consumed, load });
    }
}

impl World {
    /// The time of a rank.
    fn now(&self, rank: usize) -> u64 {
        match &self.pace {
            Pace::Drawn { .. } => self.now,
            Pace::Timed { ranks, .. } => ranks[rank].clock,
        }
    }

    /// When the first of `bytes` bytes arrives, and how long a port takes for them: it sends one message at a time.
    fn carry(&mut self, from: usize, bytes: u64) -> (u64, u64) {
        let Pace::Timed { timing, ranks } = &mut self.pace else { return (self.now, 0) };
        let takes = bytes * timing.per_byte;
        let sender = &mut ranks[from];
        sender.clock += timing.post;
        let leaves = sender.clock.max(sender.sends);
        sender.sends = leaves + takes;
        (leaves + timing.latency - timing.post, takes)
    }

    /// What arrives next at `rank`: from whom, and when it is there whole. The port takes in one message at a time, in
    /// the order in which they come. Nothing earlier can be sent any more: the ranks that are behind run first.
    fn next_arrival(&self, rank: usize) -> Option<(usize, u64)> {
        let free = match &self.pace {
            Pace::Drawn { .. } => 0,
            Pace::Timed { ranks, .. } => ranks[rank].receives,
        };
        let first = |peer: usize| self.lanes[peer][rank].flying.front().map(|flying| (peer, flying));
        let next = (0..self.lanes.len()).filter_map(first).min_by_key(|(_, flying)| flying.arrives);
        next.map(|(peer, flying)| (peer, flying.arrives.max(free) + flying.takes))
    }

    /// The next message for `rank` that is there whole, and from whom.
    fn arrive(&mut self, rank: usize) -> Option<(usize, Flying)> {
        let (peer, arrival) = self.next_arrival(rank).filter(|(_, arrival)| *arrival <= self.now(rank))?;
        if let Pace::Timed { ranks, .. } = &mut self.pace {
            ranks[rank].receives = arrival;
        }
        Some((peer, self.lanes[peer][rank].flying.pop_front()?))
    }

    /// A payload arrives: it is read where it lies, and goes where it belongs.
    fn deliver(&mut self, from: usize, to: usize, payload: Payload) -> (Bytes, Option<usize>) {
        let lane = &mut self.lanes[from][to];
        lane.arrived += 1;
        if !payload.is_referred() {
            lane.in_place.retain(|number| *number != lane.arrived);
        }
        let (payload, placed) = payload.arrive(lane.lent.as_ref());
        lane.placed += placed.unwrap_or(0) as u64;
        (payload, placed)
    }

    /// The processor's part in bytes that arrived.
    fn work(&mut self, rank: usize, bytes: usize) {
        if let Pace::Timed { timing, ranks } = &mut self.pace {
            ranks[rank].clock += bytes as u64 * timing.per_byte_reduced;
        }
    }
}

/// All ranks of a simulated network.
#[derive(Debug)]
pub struct Simulation {
    world: Rc<RefCell<World>>,
    slot_bytes: usize,
}

impl Simulation {
    /// A network of `ranks` with `slots` messages of `slot_bytes` per pair, delays up to `max_delay` ticks, all drawn
    /// from `seed`.
    pub fn new(ranks: usize, slot_bytes: usize, slots: usize, max_delay: u64, seed: u64) -> Self {
        let lanes = (0..ranks).map(|_| (0..ranks).map(|_| Lane::default()).collect()).collect();
        let pace = Pace::Drawn { most: max_delay };
        let world = World { now: 0, random: seed | 1, slots, pace, lanes, lost: None, registered: false };
        Self { world: Rc::new(RefCell::new(world)), slot_bytes }
    }

    /// The same with all memory registered: what is passed is read where it lies, when it arrives, and what is lent is
    /// written.
    ///
    /// # Safety
    /// Whatever is passed stays in its place until it is no longer unread, and whatever is lent until it is taken back;
    /// a run that breaks off is not continued.
    #[must_use]
    pub unsafe fn with_registered_memory(self) -> Self {
        self.world.borrow_mut().registered = true;
        self
    }

    /// A network in which everything takes the time that `timing` says, and nothing is drawn.
    pub fn timed(ranks: usize, slot_bytes: usize, slots: usize, timing: Timing) -> Self {
        let simulation = Self::new(ranks, slot_bytes, slots, 0, 1);
        simulation.world.borrow_mut().pace = Pace::Timed { timing, ranks: vec![Port::default(); ranks] };
        simulation
    }

    /// In timed mode: the rank that runs next, the one that is furthest behind; none when all have finished.
    pub fn furthest_behind(&self) -> Option<usize> {
        let world = self.world.borrow();
        let Pace::Timed { ranks, .. } = &world.pace else { return None };
        (0..ranks.len()).filter(|rank| !ranks[*rank].finished).min_by_key(|rank| ranks[*rank].clock)
    }

    /// In timed mode: nothing can be done on `rank` until something arrives.
    pub fn skip(&self, rank: usize) {
        let mut world = self.world.borrow_mut();
        let now = world.now(rank);
        let next = world.next_arrival(rank).map(|(_, arrival)| arrival);
        let Pace::Timed { ranks, .. } = &mut world.pace else { return };
        let others = (0..ranks.len()).filter(|other| *other != rank && !ranks[*other].finished);
        let after_others = others.map(|other| ranks[other].clock + 1).min().unwrap_or(now);
        ranks[rank].clock = next.unwrap_or(after_others).max(now + 1);
    }

    /// In timed mode: `rank` has nothing more to do.
    pub fn finish(&self, rank: usize) {
        if let Pace::Timed { ranks, .. } = &mut self.world.borrow_mut().pace {
            ranks[rank].finished = true;
        }
    }

    /// In timed mode: how far the last rank has come.
    pub fn latest(&self) -> u64 {
        match &self.world.borrow().pace {
            Pace::Timed { ranks, .. } => ranks.iter().map(|rank| rank.clock).max().unwrap_or_default(),
            Pace::Drawn { .. } => self.world.borrow().now,
        }
    }

    /// The fabric of one rank.
    pub fn rank(&self, rank: usize) -> SimFabric {
        let ranks = self.world.borrow().lanes.len();
        let slots = self.world.borrow().slots;
        let peer = |_| Peer { inbox: VecDeque::new(), window: Window::new(slots), lend: None };
        let peers = (0..ranks).map(peer).collect();
        SimFabric { world: Rc::clone(&self.world), rank, slot_bytes: self.slot_bytes, peers }
    }

    /// Which rank runs next: drawn, so that ranks get ahead of each other.
    pub fn next(&self) -> usize {
        let mut world = self.world.borrow_mut();
        world.now += 1;
        let ranks = world.lanes.len() as u64;
        world.draw(ranks) as usize
    }

    /// From now on every rank is told that `rank` is lost.
    pub fn lose(&self, rank: usize) {
        self.world.borrow_mut().lost = Some(rank);
    }

    /// Messages and payload bytes sent from one rank to another so far.
    pub fn traffic(&self, from: usize, to: usize) -> (u64, u64) {
        let world = self.world.borrow();
        let lane = &world.lanes[from][to];
        (lane.messages, lane.bytes)
    }

    /// Bytes that one rank has written straight to what another one had lent.
    pub fn placed(&self, from: usize, to: usize) -> u64 {
        self.world.borrow().lanes[from][to].placed
    }
}

/// One peer as one rank sees it.
#[derive(Debug)]
struct Peer {
    /// Oldest first.
    inbox: VecDeque<Arrived>,
    window: Window,
    /// What it lends to this rank.
    lend: Option<Loan>,
}

/// A message in its slot.
#[derive(Debug)]
struct Arrived {
    credit: u64,
    tag: Tag,
    payload: Bytes,
    placed: Option<usize>,
}

/// The simulated fabric of one rank.
#[derive(Debug)]
pub struct SimFabric {
    world: Rc<RefCell<World>>,
    rank: usize,
    slot_bytes: usize,
    peers: Vec<Peer>,
}

impl Fabric for SimFabric {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.peers.len()
    }

    fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    fn slots(&self) -> usize {
        self.world.borrow().slots
    }

    fn can_send(&mut self, peer: usize) -> bool {
        let to = &mut self.peers[peer];
        to.window.learn(to.inbox.back().map_or(0, |arrived| arrived.credit));
        to.window.has_room()
    }

    fn send(&mut self, peer: usize, tag: Tag, payload: &[u8]) -> Result<(), FabricError> {
        assert!(payload.len() <= self.slot_bytes, "a message is at most one slot");
        let (_, consumed) = self.peers[peer].window.send();
        self.world.borrow_mut().fly(self.rank, peer, consumed, Load::Message(tag, Payload::copied(payload)));
        Ok(())
    }

    fn pass(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError> {
        if !self.world.borrow().registered {
            return self.send(peer, tag, payload);
        }
        assert!(payload.len() <= self.slot_bytes, "a message is at most one slot");
        let to = &mut self.peers[peer];
        let (number, consumed) = to.window.send();
        let lent = to.lend.filter(|loan| loan.tag == tag && number >= loan.first);
        let place = place.filter(|_| lent.is_some()).map(|place| (tag, place));
        let payload = Payload::in_place(payload, place);
        self.world.borrow_mut().fly(self.rank, peer, consumed, Load::Message(tag, payload));
        Ok(())
    }

    fn refer(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError> {
        let shares = {
            let mut world = self.world.borrow_mut();
            world.registered && world.draw(2) == 0
        };
        if !shares {
            return self.pass(peer, tag, payload, place);
        }
        let (_, consumed) = self.peers[peer].window.send();
        let load = Load::Message(tag, Payload::referred(payload));
        self.world.borrow_mut().fly(self.rank, peer, consumed, load);
        Ok(())
    }

    fn unread(&self, peer: usize) -> u32 {
        let world = self.world.borrow();
        let lane = &world.lanes[self.rank][peer];
        lane.in_place.front().map_or(0, |oldest| (lane.messages + 1 - oldest) as u32)
    }

    fn lend(&mut self, peer: usize, tag: Tag, output: &mut [u8]) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        if world.registered {
            let first = self.peers[peer].window.next();
            let loan = Loan { tag, first, output: Run::of_output(output) };
            world.lanes[peer][self.rank].lent = Some(loan);
            // The credit that is told with it is none that is new.
            world.fly(self.rank, peer, 0, Load::Lend(loan));
        }
        Ok(())
    }

    fn take_back(&mut self, peer: usize) {
        self.world.borrow_mut().lanes[peer][self.rank].lent = None;
    }

    fn head(&self, peer: usize) -> Result<Option<Message<'_>>, FabricError> {
        Ok(self.peers[peer].inbox.front().map(|arrived| Message {
            tag: arrived.tag,
            payload: arrived.payload.of(),
            placed: arrived.placed,
        }))
    }

    fn release(&mut self, peer: usize) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        let from = &mut self.peers[peer];
        let arrived = from.inbox.pop_front().expect("released a message that was there");
        from.window.learn(arrived.credit);
        world.work(self.rank, arrived.payload.of().len());
        world.lanes[peer][self.rank].released += 1;
        world.lanes[peer][self.rank].in_place.retain(|number| *number != from.window.next());
        if let Some(consumed) = from.window.release() {
            world.fly(self.rank, peer, consumed, Load::Credit);
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        if let Some(peer) = world.lost {
            let cause = "the simulation lost it".to_owned();
            return Err(FabricError::PeerLost { peer, host: format!("sim{peer}"), cause });
        }
        while let Some((peer, arrived)) = world.arrive(self.rank) {
            let from = &mut self.peers[peer];
            match arrived.load {
                Load::Message(tag, payload) => {
                    let (payload, placed) = world.deliver(peer, self.rank, payload);
                    from.inbox.push_back(Arrived { credit: arrived.consumed, tag, payload, placed });
                }
                Load::Lend(loan) => from.lend = Some(loan),
                Load::Credit => from.window.learn(arrived.consumed),
            }
        }
        Ok(())
    }

    fn expect(&self, _peer: usize) -> Result<(), FabricError> {
        Ok(())
    }
}
