//! What any all-reduce of two ranks over RDMA must do: both write to each other at once, one write each, and notice what
//! has come in their own memory; then, with no collective around it, add the two. `ib_write_lat` writes one way at a time.
//! It notices a write by its last bytes, which is nobody's promise: bytes of one write may come in any order. So also what
//! an all-reduce must do that relies on promises alone: a flag of its own behind the payload, as a second write.
//!
//! Over an emulated network this differs from half a round trip, since both processors have both directions to serve,
//! and there the addition is emulated too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use halo_benches::line::{Line, Work, pin};
use halo_ccl::{Arithmetic, DType, ReduceOp, Rounding, Source, reduce};
use halo_fabric::Arena;
use halo_verbs::{
    Access, CompletionQueue, MemoryRegion, ProtectionDomain, QueuePair, QueuePairAddress, QueuePairLimits,
    Remote, WorkRequest, choose,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// One of two ranks; rank 0 prints a line for each size and each [`Exchange`].
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    rank: usize,
    /// Where rank 0 listens.
    #[arg(long, value_name = "HOST:PORT")]
    rendezvous: String,
    /// This rank's address on the RDMA network.
    #[arg(long)]
    address: IpAddr,
    #[arg(value_name = "BYTES:ITERATIONS")]
    work: Vec<Work>,
}

/// Bytes of a message that travel in the work request, as `ib_write_lat` has it.
const INLINE: u32 = 64;
/// Work requests in flight, far more than the one or two that there are.
const DEPTH: u32 = 64;
/// Bytes of the flag, a write of its own or the end of the payload.
const FLAG: usize = 8;

/// What both ranks do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// One write each.
    Write,
    /// One write each, and the addition.
    Sum,
    /// A write of the payload and one of a flag, posted together, and the addition.
    FlagSum,
}

impl Exchange {
    const ALL: [Self; 3] = [Self::Write, Self::Sum, Self::FlagSum];

    fn name(self) -> &'static str {
        match self {
            Self::Write => "exchange",
            Self::Sum => "exchange_sum",
            Self::FlagSum => "exchange_flag_sum",
        }
    }

    fn dtype(self) -> &'static str {
        if self == Self::Write { "none" } else { "bf16" }
    }
}

fn main() -> Outcome {
    let arguments = Arguments::parse();
    pin(arguments.rank);
    let most = arguments.work.iter().map(|work| work.bytes).max().unwrap_or(0);
    let mut pair = Pair::connect(&arguments, (most + FLAG).next_multiple_of(4096))?;
    for work in arguments.work {
        for exchange in Exchange::ALL {
            let own = pair.measure(work, exchange)?;
            let line = Line::of(work.bytes, exchange.dtype(), &pair.slowest(&own)?);
            if arguments.rank == 0 {
                println!("@ {} {}", exchange.name(), serde_json::to_string(&line)?);
            }
        }
    }
    Ok(())
}

/// Two buffers to send from and two to receive into, used in turn, and a queue pair between them and the peer's. Nobody
/// is more than one message ahead: it needs the other's before it sends the next.
struct Pair {
    arena: Arc<Arena>,
    room: usize,
    region: MemoryRegion,
    queue: QueuePair,
    remote: Remote,
    control: BufReader<TcpStream>,
    posted: u64,
    completed: u64,
}

impl Pair {
    fn connect(arguments: &Arguments, room: usize) -> Outcome<Self> {
        let control = if arguments.rank == 0 {
            TcpListener::bind(&arguments.rendezvous)?.accept()?.0
        } else {
            reach(&arguments.rendezvous)?
        };
        control.set_nodelay(true)?;
        let mut control = BufReader::new(control);
        let choice = choose(arguments.address, &[])?;
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
        let (gid, key) = (u128::from_be_bytes(gid), region.remote_key());
        writeln!(control.get_mut(), "{number} {first_packet} {gid} {mtu} {} {key}", region.address())?;
        let mut theirs = String::new();
        control.read_line(&mut theirs)?;
        let [number, first_packet, gid, mtu, address, key] =
            theirs.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return Err(format!("not a queue pair: {theirs}").into());
        };
        queue.connect(&QueuePairAddress {
            number: number.parse()?,
            first_packet: first_packet.parse()?,
            gid: gid.parse::<u128>()?.to_be_bytes(),
            mtu: mtu.parse()?,
        })?;
        let remote = Remote { address: address.parse()?, key: key.parse()? };
        Ok(Self { arena, room, region, queue, remote, control, posted: 0, completed: 0 })
    }

    /// The time of each exchange, noticed here, after the untimed ones.
    fn measure(&mut self, work: Work, exchange: Exchange) -> Outcome<Vec<Duration>> {
        let mut output = vec![0; work.bytes];
        let mut samples = Vec::with_capacity(work.iterations);
        self.meet()?;
        for turn in 0..work.warmup() + work.iterations {
            let start = Instant::now();
            self.exchange(work.bytes, exchange == Exchange::FlagSum)?;
            if exchange != Exchange::Write {
                let half = self.posted as usize % 2 * self.room;
                let (own, theirs) =
                    (self.arena.read(half, work.bytes), self.arena.read(2 * self.room + half, work.bytes));
                let arithmetic =
                    Arithmetic { dtype: DType::BF16, op: ReduceOp::Sum, rounding: Rounding::Once };
                reduce(arithmetic, &[Source::Bytes(own), Source::Bytes(theirs)], &mut output);
            }
            if turn >= work.warmup() {
                samples.push(start.elapsed());
            }
        }
        Ok(samples)
    }

    /// A write and the peer's. Its number is what the other one waits for: the last bytes, or a write behind it.
    fn exchange(&mut self, bytes: usize, apart: bool) -> Outcome {
        self.posted += 1;
        let half = self.posted as usize % 2 * self.room;
        let flag = if apart { bytes.next_multiple_of(FLAG) } else { bytes - FLAG };
        let place = 2 * self.room + half;
        let remote = |at: usize| Remote { address: self.remote.address + at as u64, ..self.remote };
        let write = WorkRequest::write(&self.region, half, bytes, remote(place))?;
        let write = if bytes <= INLINE as usize { write.inlined() } else { write };
        if apart {
            let raise = WorkRequest::write_inline(self.posted, remote(place + flag));
            self.queue.post(&[write, raise.signaled(self.posted)])?;
        } else {
            self.arena.store(half + flag, self.posted);
            self.queue.post(&[write.signaled(self.posted)])?;
        }
        while self.arena.load(place + flag) != self.posted {}
        while self.posted - self.completed > u64::from(DEPTH) / 2 {
            let (mut completed, mut failed) = (self.completed, None);
            self.queue.completions().poll::<16>(|completion| {
                if completion.succeeded() { completed = completion.id } else { failed = Some(completion) }
            })?;
            if let Some(failed) = failed {
                return Err(self.queue.completions().explain(&failed).into());
            }
            self.completed = completed;
        }
        Ok(())
    }

    fn meet(&mut self) -> Outcome {
        self.control.get_mut().write_all(b"\n")?;
        self.control.read_exact(&mut [0]).map_err(Into::into)
    }

    /// For every exchange the longer of both ranks' times.
    fn slowest(&mut self, own: &[Duration]) -> Outcome<Vec<Duration>> {
        let bytes: Vec<u8> = own.iter().flat_map(|sample| (sample.as_nanos() as u64).to_le_bytes()).collect();
        self.control.get_mut().write_all(&bytes)?;
        let mut theirs = vec![0; bytes.len()];
        self.control.read_exact(&mut theirs)?;
        let theirs = theirs.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok(own.iter().zip(theirs).map(|(own, theirs)| (*own).max(Duration::from_nanos(theirs))).collect())
    }
}

/// Rank 0 may not listen yet.
fn reach(rendezvous: &str) -> Outcome<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect(rendezvous) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
