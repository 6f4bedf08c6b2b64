//! What `halo-verbs` promises, tried on a real device: run in the machines by `tests/verbs.rs`.
//!
//! `verbs-check writes|immediate|death` runs on both machines, `verbs-check event` on one. RANK, ADDRESS and PEER come
//! from the rig. Rank 0 acts, rank 1 is acted upon; what is seen is printed, and anything unexpected ends with status 1.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use halo_verbs::{
    Access, Completion, CompletionQueue, Context, MemoryRegion, ProtectionDomain, QueuePair,
    QueuePairAddress, QueuePairLimits, Remote, WorkRequest, choose,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Payload of a write: many packets at any MTU.
const PAYLOAD: usize = 64 << 10;
/// The flag, behind the payload.
const FLAG: usize = PAYLOAD;
const MEMORY: usize = PAYLOAD + 4096;
/// Writes and answers.
const ROUNDS: u64 = 100;
/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 29600;

fn main() -> Outcome {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    match scenario.as_str() {
        "writes" => writes(&mut Connection::open()?),
        "immediate" => immediate(&mut Connection::open()?),
        "death" => death(&mut Connection::open()?),
        "event" => event(),
        other => Err(format!("`{other}` is not one of writes, immediate, death, event").into()),
    }
}

/// Payload and flag in one post, answered likewise: a raised flag must mean a whole payload.
fn writes(connection: &mut Connection) -> Outcome {
    for round in 1..=ROUNDS {
        if connection.rank == 0 {
            connection.send(round)?;
            connection.expect(round)?;
        } else {
            connection.expect(round)?;
            connection.send(round)?;
        }
    }
    println!("{ROUNDS} rounds of {PAYLOAD} bytes and a flag, every byte in its place");
    connection.agree()
}

/// A write with an immediate value takes a posted receive and carries the value.
fn immediate(connection: &mut Connection) -> Outcome {
    const VALUE: u32 = 0xC0FF_EE01;
    if connection.rank == 1 {
        connection.pair.post_receives(2, 7)?;
        connection.agree()?;
        for (bytes, value) in [(PAYLOAD, VALUE), (0, VALUE + 1)] {
            let completion = connection.completion()?;
            let brought = (completion.id, completion.bytes as usize, completion.immediate);
            if !completion.succeeded() || brought != (7, bytes, Some(value)) {
                return Err(format!("unexpected: {completion:?}").into());
            }
            println!("receive 7 brought {value:#x} with {bytes} bytes");
        }
        connection.memory.check(1)?;
    } else {
        connection.agree()?;
        connection.memory.fill(1);
        let request = WorkRequest::write(&connection.region, 0, PAYLOAD, connection.remote)?;
        let empty = WorkRequest::empty(connection.remote).with_immediate(VALUE + 1);
        connection.pair.post(&[request.with_immediate(VALUE), empty.signaled(3)])?;
        let completion = connection.completion()?;
        if !completion.succeeded() || (completion.id, completion.immediate) != (3, None) {
            return Err(format!("unexpected: {completion:?}").into());
        }
    }
    connection.agree()
}

/// Rank 1 dies without a word; rank 0 is told by its completions, the cause first and then what was behind it.
fn death(connection: &mut Connection) -> Outcome {
    connection.agree()?;
    if connection.rank == 1 {
        println!("killing");
        // As a crash or a signal would: nothing is destroyed by this process.
        std::process::abort();
    }
    // The control connection ends when the process does.
    if connection.control.read_line(&mut String::new())? != 0 {
        return Err("rank 1 still talks".into());
    }
    let flag = Remote { address: connection.remote.address + FLAG as u64, ..connection.remote };
    let request = |id| WorkRequest::write_inline(id, flag).signaled(id);
    connection.pair.post(&[request(1), request(2)])?;
    for id in 1..=2 {
        let completion = connection.completion()?;
        if completion.succeeded() || completion.id != id {
            return Err(format!("unexpected: {completion:?}").into());
        }
        println!("write {id}: {}", connection.pair.completions().explain(&completion));
    }
    Ok(())
}

/// A cable that is pulled is an event of the device; without one there is none, at once.
fn event() -> Outcome {
    let name = halo_verbs::devices()?.first().ok_or("no device")?.name.clone();
    let context = Context::open(&name)?;
    while let Some(event) = context.next_event()? {
        println!("earlier: {event}");
    }
    let status = std::process::Command::new("ip").args(["link", "set", "eth0", "down"]).status()?;
    if !status.success() {
        return Err(format!("ip link: {status}").into());
    }
    let event = within(|| Ok(context.next_event()?.map(|event| event.to_string())))?;
    println!("event on {name}: {event}");
    Ok(())
}

/// Registered memory, a connected queue pair, and a plain connection to agree over.
struct Connection {
    rank: u32,
    memory: Arc<Memory>,
    region: MemoryRegion,
    pair: QueuePair,
    remote: Remote,
    control: BufReader<TcpStream>,
}

impl Connection {
    fn open() -> Outcome<Self> {
        let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
        let rank = variable("RANK")?.parse()?;
        let (own, peer): (IpAddr, IpAddr) = (variable("ADDRESS")?.parse()?, variable("PEER")?.parse()?);
        let control = if rank == 0 {
            TcpListener::bind((own, PORT))?.accept()?.0
        } else {
            within(|| Ok(TcpStream::connect((peer, PORT)).ok()))?
        };
        control.set_read_timeout(Some(PATIENCE))?;
        let mut control = BufReader::new(control);

        let choice = choose(own, &[])?;
        println!("rank {rank}: {choice}");
        let domain = ProtectionDomain::new(Arc::clone(&choice.context))?;
        let memory = Arc::new(Memory::map()?);
        let owner: Arc<Memory> = Arc::clone(&memory);
        // SAFETY: the owner keeps the mapping; it is only read and written as atomics.
        let region = unsafe {
            MemoryRegion::register(Arc::clone(&domain), memory.base, MEMORY, Access::RemoteWrite, owner)?
        };
        let completions = CompletionQueue::new(Arc::clone(&choice.context), 16)?;
        let limits = QueuePairLimits { sends: 8, receives: 4, inline_bytes: 8 };
        let pair = QueuePair::new(domain, completions, choice, limits, 0x00AB_CD00 + rank)?;

        let QueuePairAddress { number, first_packet, gid, mtu } = pair.address();
        let gid = u128::from_be_bytes(gid);
        let offer =
            format!("{number} {first_packet} {gid} {mtu} {} {}", region.address(), region.remote_key());
        let theirs = exchange(&mut control, &offer)?;
        let [number, first_packet, gid, mtu, address, key] = theirs.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not an offer: {theirs}").into());
        };
        pair.connect(&QueuePairAddress {
            number: number.parse()?,
            first_packet: first_packet.parse()?,
            gid: gid.parse::<u128>()?.to_be_bytes(),
            mtu: mtu.parse()?,
        })?;
        let remote = Remote { address: address.parse()?, key: key.parse()? };
        let mut connection = Self { rank, memory, region, pair, remote, control };
        // Nothing is written before both can receive.
        connection.agree()?;
        Ok(connection)
    }

    /// Waits until both are here.
    fn agree(&mut self) -> Outcome {
        exchange(&mut self.control, "here").map(drop)
    }

    fn send(&mut self, round: u64) -> Outcome {
        self.memory.fill(round);
        let payload = WorkRequest::write(&self.region, 0, PAYLOAD, self.remote)?;
        let flag = Remote { address: self.remote.address + FLAG as u64, ..self.remote };
        self.pair.post(&[payload, WorkRequest::write_inline(round, flag).signaled(round)])?;
        let completion = self.completion()?;
        if !completion.succeeded() || completion.id != round {
            return Err(self.pair.completions().explain(&completion).into());
        }
        Ok(())
    }

    fn expect(&mut self, round: u64) -> Outcome {
        within(|| Ok((self.memory.flag().load(Ordering::Acquire) == round).then_some(())))?;
        self.memory.check(round)
    }

    fn completion(&self) -> Outcome<Completion> {
        within(|| {
            let mut found = None;
            self.pair.completions().poll::<1>(|completion| found = Some(completion))?;
            Ok(found)
        })
    }
}

fn exchange(control: &mut BufReader<TcpStream>, line: &str) -> Outcome<String> {
    control.get_mut().write_all(format!("{line}\n").as_bytes())?;
    let mut theirs = String::new();
    if control.read_line(&mut theirs)? == 0 {
        return Err("the other rank is gone".into());
    }
    Ok(theirs.trim().to_owned())
}

/// Looks until there is something, or the patience is at its end.
fn within<T>(mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::yield_now();
    }
    Err(format!("nothing within {PATIENCE:?}").into())
}

/// Memory that the other rank writes.
struct Memory {
    base: NonNull<u8>,
}

// SAFETY: the memory is only reached as atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn map() -> Outcome<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), MEMORY, access, MapFlags::SHARED)? };
        Ok(Self { base: NonNull::new(base.cast()).ok_or("mapped at null")? })
    }

    fn payload(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is longer, lives as long as self, and zeroes are valid atomics.
        unsafe { std::slice::from_raw_parts(self.base.cast().as_ptr(), PAYLOAD) }
    }

    fn flag(&self) -> &AtomicU64 {
        // SAFETY: within the mapping, and on a page's beginning.
        unsafe { AtomicU64::from_ptr(self.base.add(FLAG).cast().as_ptr()) }
    }

    fn fill(&self, round: u64) {
        for (index, byte) in self.payload().iter().enumerate() {
            byte.store(pattern(round, index), Ordering::Relaxed);
        }
    }

    fn check(&self, round: u64) -> Outcome {
        let mut bytes = self.payload().iter().enumerate();
        let wrong = bytes.find(|(index, byte)| byte.load(Ordering::Relaxed) != pattern(round, *index));
        wrong.map_or(Ok(()), |(index, _)| Err(format!("byte {index} of round {round} is wrong").into()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped here; the memory region that used it held it until it was deregistered.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), MEMORY) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own is unmapped");
    }
}

/// Differs in every round and from byte to byte.
fn pattern(round: u64, index: usize) -> u8 {
    (round as usize).wrapping_mul(31).wrapping_add(index).wrapping_add(index >> 8) as u8
}
