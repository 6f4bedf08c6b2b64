//! Over RDMA: one write each, noticed in one's own memory by its last bytes, as `ib_write_lat` has it. That is nobody's
//! promise: bytes of one write may come in any order. So also what relies on promises alone: a flag of its own behind the
//! payload, as a second write.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halo_fabric::Arena;
use halo_verbs::{
    Access, CompletionQueue, MemoryRegion, ProtectionDomain, QueuePair, QueuePairAddress, QueuePairLimits,
    Remote, WorkRequest, choose,
};

use super::{Outcome, Pair, Partner};

/// Bytes of a message that travel in the work request, as `ib_write_lat` has it.
const INLINE: u32 = 64;
/// Work requests in flight, far more than the one or two that there are.
const DEPTH: u32 = 64;
/// Turns of the wait before a look at what has failed: far more than an exchange takes.
const TURNS_TO_A_LOOK: u32 = 10_000_000;
/// How long the other rank's write may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the flag, a write of its own or the end of the payload.
const FLAG: usize = 8;

/// Two buffers to send from and two to receive into, used in turn, and a queue pair between them and the peer's. Nobody
/// is more than one message ahead: it needs the other's before it sends the next.
#[derive(Debug)]
pub struct Verbs {
    arena: Arc<Arena>,
    room: usize,
    region: MemoryRegion,
    queue: QueuePair,
    remote: Remote,
    posted: u64,
    completed: u64,
}

impl Verbs {
    /// A queue pair to the other rank from the device that has `address`, for payloads of at most `most` bytes.
    ///
    /// # Errors
    /// No such device, or the system refused memory or a queue pair.
    pub fn connect(partner: &mut Partner, address: IpAddr, most: usize) -> Outcome<Self> {
        let room = (most + FLAG).next_multiple_of(4096);
        let choice = choose(address, &[])?;
        let domain = ProtectionDomain::new(Arc::clone(&choice.context))?;
        let arena = Arc::new(Arena::allocate(4 * room)?);
        let owner: Arc<Arena> = Arc::clone(&arena);
        // SAFETY: the owner keeps the mapping; what the peer writes is read behind a flag only.
        let region = unsafe {
            MemoryRegion::register(Arc::clone(&domain), arena.base(), 4 * room, Access::RemoteWrite, owner)?
        };
        let completions = CompletionQueue::new(Arc::clone(&choice.context), DEPTH)?;
        let limits = QueuePairLimits { sends: DEPTH, receives: 1, inline_bytes: INLINE };
        let queue = QueuePair::new(domain, completions, choice, limits, 0x00AB_CD00)?;

        let QueuePairAddress { number, first_packet, gid, mtu } = queue.address();
        let (gid, place, key) = (u128::from_be_bytes(gid), region.address(), region.remote_key());
        let theirs = partner.swap(&format!("{number} {first_packet} {gid} {mtu} {place} {key}"))?;
        let [number, first_packet, gid, mtu, place, key] = theirs.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return Err(format!("not a queue pair: {theirs}").into());
        };
        queue.connect(&QueuePairAddress {
            number: number.parse()?,
            first_packet: first_packet.parse()?,
            gid: gid.parse::<u128>()?.to_be_bytes(),
            mtu: mtu.parse()?,
        })?;
        let remote = Remote { address: place.parse()?, key: key.parse()? };
        Ok(Self { arena, room, region, queue, remote, posted: 0, completed: 0 })
    }

    /// Where the buffers of this turn begin, among those to send from and among those to receive into.
    fn half(&self) -> usize {
        self.posted as usize % 2 * self.room
    }

    /// Takes what has completed.
    fn look(&mut self) -> Outcome {
        let (mut completed, mut failed) = (self.completed, None);
        self.queue.completions().poll::<16>(|completion| {
            if completion.succeeded() { completed = completion.id } else { failed = Some(completion) }
        })?;
        if let Some(failed) = failed {
            return Err(self.queue.completions().explain(&failed).into());
        }
        self.completed = completed;
        Ok(())
    }
}

impl Pair for Verbs {
    /// A write and the peer's. Its number is what the other one waits for: the last bytes, or a write behind it.
    fn exchange(&mut self, bytes: usize, flagged: bool) -> Outcome {
        self.posted += 1;
        let half = self.half();
        let flag = if flagged { bytes.next_multiple_of(FLAG) } else { bytes - FLAG };
        let place = 2 * self.room + half;
        let remote = |at: usize| Remote { address: self.remote.address + at as u64, ..self.remote };
        let write = WorkRequest::write(&self.region, half, bytes, remote(place))?;
        let write = if bytes <= INLINE as usize { write.inlined() } else { write };
        if flagged {
            let raise = WorkRequest::write_inline(self.posted, remote(place + flag));
            self.queue.post(&[write, raise.signaled(self.posted)])?;
        } else {
            self.arena.store(half + flag, self.posted);
            self.queue.post(&[write.signaled(self.posted)])?;
        }
        let (mut turns, mut since) = (0u32, None);
        while self.arena.load(place + flag) != self.posted {
            turns += 1;
            if turns.is_multiple_of(TURNS_TO_A_LOOK) {
                self.look()?;
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(format!("the other rank's write {} did not come", self.posted).into());
                }
            }
        }
        while self.posted - self.completed > u64::from(DEPTH) / 2 {
            self.look()?;
        }
        Ok(())
    }

    fn inputs(&self, bytes: usize) -> (&[u8], &[u8]) {
        (self.arena.read(self.half(), bytes), self.arena.read(2 * self.room + self.half(), bytes))
    }
}
