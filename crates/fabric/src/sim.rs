//! A simulated [`Fabric`]: all ranks in one thread, virtual time, delays drawn from a seed, so that every run can be
//! repeated. It keeps the real one's promises (order within a pair, room for a few messages, contents unchanged) and
//! none beyond them: links overtake each other, a rank may be far behind, and credit comes as late as in the real one,
//! with a message the other way or by itself after half the room is used.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::FabricError;
use crate::fabric::Fabric;
use crate::message::{Message, Tag};

#[derive(Debug)]
struct Flying {
    arrives: u64,
    /// How many of the receiver's messages the sender has consumed.
    consumed: u64,
    /// Nothing, where only credit is told.
    message: Option<(Tag, Vec<u8>)>,
}

/// One direction of one pair.
#[derive(Debug, Default)]
struct Lane {
    flying: VecDeque<Flying>,
    last_arrival: u64,
    messages: u64,
    bytes: u64,
}

#[derive(Debug)]
struct World {
    now: u64,
    random: u64,
    slots: usize,
    max_delay: u64,
    lanes: Vec<Vec<Lane>>,
    lost: Option<usize>,
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
    fn fly(&mut self, from: usize, to: usize, consumed: u64, message: Option<(Tag, Vec<u8>)>) {
        let most = self.max_delay;
        let delay = 1 + self.draw(most);
        let now = self.now;
        let lane = &mut self.lanes[from][to];
        lane.last_arrival = (now + delay).max(lane.last_arrival);
        if let Some((_, payload)) = &message {
            lane.messages += 1;
            lane.bytes += payload.len() as u64;
        }
        lane.flying.push_back(Flying { arrives: lane.last_arrival, consumed, message });
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
        let world = World { now: 0, random: seed | 1, slots, max_delay, lanes, lost: None };
        Self { world: Rc::new(RefCell::new(world)), slot_bytes }
    }

    /// The fabric of one rank.
    pub fn rank(&self, rank: usize) -> SimFabric {
        let ranks = self.world.borrow().lanes.len();
        let peers = (0..ranks).map(|_| Peer::default()).collect();
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
}

/// One peer as one rank sees it; the counts are those of the real mesh.
#[derive(Debug, Default)]
struct Peer {
    /// (its credit, what it says), oldest first.
    inbox: VecDeque<(u64, Tag, Vec<u8>)>,
    sent: u64,
    acknowledged: u64,
    consumed: u64,
    told: u64,
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

    fn can_send(&mut self, peer: usize) -> bool {
        let slots = self.world.borrow().slots as u64;
        let to = &mut self.peers[peer];
        let waiting = to.inbox.back().map_or(0, |(consumed, ..)| *consumed);
        to.acknowledged = to.acknowledged.max(waiting);
        to.sent - to.acknowledged < slots
    }

    fn send(&mut self, peer: usize, tag: Tag, payload: &[u8]) -> Result<(), FabricError> {
        assert!(payload.len() <= self.slot_bytes, "a message is at most one slot");
        assert!(self.can_send(peer), "sent without room");
        let to = &mut self.peers[peer];
        to.sent += 1;
        to.told = to.consumed;
        self.world.borrow_mut().fly(self.rank, peer, to.consumed, Some((tag, payload.to_vec())));
        Ok(())
    }

    fn head(&self, peer: usize) -> Result<Option<Message<'_>>, FabricError> {
        Ok(self.peers[peer].inbox.front().map(|(_, tag, payload)| Message { tag: *tag, payload }))
    }

    fn release(&mut self, peer: usize) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        let from = &mut self.peers[peer];
        let (credit, ..) = from.inbox.pop_front().expect("released a message that was there");
        from.acknowledged = from.acknowledged.max(credit);
        from.consumed += 1;
        if from.consumed - from.told >= (world.slots as u64).div_ceil(2) {
            from.told = from.consumed;
            world.fly(self.rank, peer, from.consumed, None);
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        if let Some(peer) = world.lost {
            let cause = "the simulation lost it".to_owned();
            return Err(FabricError::PeerLost { peer, host: format!("sim{peer}"), cause });
        }
        let now = world.now;
        for (peer, from) in self.peers.iter_mut().enumerate() {
            let flying = &mut world.lanes[peer][self.rank].flying;
            while let Some(arrived) = flying.pop_front_if(|flying| flying.arrives <= now) {
                match arrived.message {
                    Some((tag, payload)) => from.inbox.push_back((arrived.consumed, tag, payload)),
                    None => from.acknowledged = from.acknowledged.max(arrived.consumed),
                }
            }
        }
        Ok(())
    }

    fn expect(&self, _peer: usize) -> Result<(), FabricError> {
        Ok(())
    }
}
