//! A simulated [`Fabric`]: all ranks in one thread, virtual time, delays drawn from a seed, so that every run can be
//! repeated. It keeps the real one's promises (order within a pair, room for a few messages, contents unchanged) and
//! none beyond them: links overtake each other, and a rank may be far behind.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::FabricError;
use crate::fabric::Fabric;
use crate::message::{Message, Tag};

#[derive(Debug)]
struct Flying {
    arrives: u64,
    tag: Tag,
    payload: Vec<u8>,
}

/// One direction of one pair.
#[derive(Debug, Default)]
struct Lane {
    flying: VecDeque<Flying>,
    /// Sent and not yet released by the receiver.
    occupied: usize,
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
        let world = self.world.borrow().lanes.len();
        let inbox = (0..world).map(|_| VecDeque::new()).collect();
        SimFabric { world: Rc::clone(&self.world), rank, ranks: world, slot_bytes: self.slot_bytes, inbox }
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

/// The simulated fabric of one rank.
#[derive(Debug)]
pub struct SimFabric {
    world: Rc<RefCell<World>>,
    rank: usize,
    ranks: usize,
    slot_bytes: usize,
    inbox: Vec<VecDeque<(Tag, Vec<u8>)>>,
}

impl Fabric for SimFabric {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.ranks
    }

    fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    fn can_send(&mut self, peer: usize) -> bool {
        let world = self.world.borrow();
        world.lanes[self.rank][peer].occupied < world.slots
    }

    fn send(&mut self, peer: usize, tag: Tag, payload: &[u8]) -> Result<(), FabricError> {
        assert!(payload.len() <= self.slot_bytes, "a message is at most one slot");
        assert!(self.can_send(peer), "sent without room");
        let mut world = self.world.borrow_mut();
        let delay = 1 + { let most = world.max_delay; world.draw(most) };
        let now = world.now;
        let lane = &mut world.lanes[self.rank][peer];
        // A later message of one pair never overtakes an earlier one.
        let arrives = (now + delay).max(lane.last_arrival);
        lane.last_arrival = arrives;
        lane.occupied += 1;
        lane.messages += 1;
        lane.bytes += payload.len() as u64;
        lane.flying.push_back(Flying { arrives, tag, payload: payload.to_vec() });
        Ok(())
    }

    fn head(&self, peer: usize) -> Result<Option<Message<'_>>, FabricError> {
        Ok(self.inbox[peer].front().map(|(tag, payload)| Message { tag: *tag, payload }))
    }

    fn release(&mut self, peer: usize) -> Result<(), FabricError> {
        self.inbox[peer].pop_front().expect("released a message that was there");
        self.world.borrow_mut().lanes[peer][self.rank].occupied -= 1;
        Ok(())
    }

    fn progress(&mut self) -> Result<(), FabricError> {
        let mut world = self.world.borrow_mut();
        if let Some(peer) = world.lost {
            let cause = "the simulation lost it".to_owned();
            return Err(FabricError::PeerLost { peer, host: format!("sim{peer}"), cause });
        }
        let now = world.now;
        for (peer, inbox) in self.inbox.iter_mut().enumerate() {
            let flying = &mut world.lanes[peer][self.rank].flying;
            while let Some(message) = flying.pop_front_if(|message| message.arrives <= now) {
                inbox.push_back((message.tag, message.payload));
            }
        }
        Ok(())
    }

    fn expect(&self, _peer: usize) -> Result<(), FabricError> {
        Ok(())
    }
}
