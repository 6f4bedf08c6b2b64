//! What it costs to wait over rdma, and how soon a rank that sleeps is awake: run in one machine by `idle.rs` of the tests.
//!
//! `idle-check` runs two ranks in two threads, which share a clock. Rank 1 is late; what rank 0 takes meanwhile is printed,
//! and beside it what the same takes over tcp, and what a thread takes that only sleeps as often: on an emulated processor
//! every wake-up is slow, whoever wakes.

use std::error::Error;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use halo_ccl::{Communicator, Config, TransportChoice};
use rustix::time::{ClockId, clock_gettime};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How late the peer is, where the processor's time is what counts.
const LATE: Duration = Duration::from_millis(3000);
/// How late it is, where it counts how soon the sleeper hears: after that sleeps are of 100 ms, and by these steps none ends
/// just then in every round.
const ROUNDS: u64 = 9;
/// How long those sleeps are.
const SLEEP: Duration = Duration::from_millis(100);

fn late(round: u64) -> Duration {
    Duration::from_millis(1000 + round * 37)
}

fn main() -> Outcome {
    [TransportChoice::Tcp, TransportChoice::Rdma].into_iter().try_for_each(check)
}

fn check(transport: TransportChoice) -> Outcome {
    let (starts, started) = mpsc::channel();
    std::thread::scope(|scope| {
        let peer = scope.spawn(move || be_late(connect(1, transport)?, &starts));
        wait(connect(0, transport)?, transport, &started)?;
        peer.join().map_err(|_| "rank 1 ended early")?
    })
}

fn be_late(mut communicator: Communicator, starts: &Sender<Instant>) -> Outcome {
    communicator.barrier()?;
    std::thread::sleep(LATE);
    communicator.barrier()?;
    communicator.barrier()?;
    for round in 0..ROUNDS {
        std::thread::sleep(late(round));
        starts.send(Instant::now())?;
        communicator.barrier()?;
    }
    communicator.barrier()?;
    std::thread::sleep(LATE);
    Ok(communicator.close()?)
}

fn wait(mut communicator: Communicator, transport: TransportChoice, started: &Receiver<Instant>) -> Outcome {
    communicator.barrier()?;
    let waiting = Costs::of(ClockId::ThreadCPUTime, || Ok(communicator.barrier()?))?;
    let Costs { percent, sleeps } = waiting;
    println!("{transport}, waiting: {percent:.2} % of a core, {sleeps} sleeps in {LATE:.0?}");
    let sleeping = Costs::of(ClockId::ThreadCPUTime, || {
        (0..sleeps).for_each(|_| std::thread::sleep(LATE / sleeps as u32));
        Ok(())
    })?;
    println!("sleeping as often and nothing else: {:.2} % of a core", sleeping.percent);

    communicator.barrier()?;
    let mut heard = Vec::new();
    for _ in 0..ROUNDS {
        communicator.barrier()?;
        heard.push(started.recv()?.elapsed());
    }
    heard.sort_unstable();
    let [least, median, most] = [0, heard.len() / 2, heard.len() - 1].map(|at| heard[at]);
    let share = median.as_secs_f64() / SLEEP.as_secs_f64() * 100.0;
    println!(
        "{transport}, woken: after {median:.1?} (median of {ROUNDS}; {least:.1?} to {most:.1?}), {share:.1} % of the sleep"
    );

    communicator.barrier()?;
    let idle = Costs::of(ClockId::ProcessCPUTime, || {
        std::thread::sleep(LATE);
        Ok(())
    })?;
    println!("{transport}, between operations: {:.2} % of a core, two ranks", idle.percent);
    Ok(communicator.close()?)
}

fn connect(rank: usize, transport: TransportChoice) -> Outcome<Communicator> {
    let rendezvous = "192.168.100.1:29510".to_owned();
    let config = Config { rendezvous, transport, ..Config::from_env(rank, 2)? };
    let communicator = Communicator::connect(&config)?;
    assert_eq!(communicator.links()[0].transport.to_string(), transport.to_string());
    Ok(communicator)
}

/// What a piece of work takes.
struct Costs {
    /// Of one core.
    percent: f64,
    /// How often this thread gave its core away to sleep.
    sleeps: u64,
}

impl Costs {
    fn of(clock: ClockId, work: impl FnOnce() -> Outcome) -> Outcome<Self> {
        let used = || {
            let time = clock_gettime(clock);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let (start, before, slept) = (Instant::now(), used(), sleeps()?);
        work()?;
        let percent = used().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        Ok(Self { percent, sleeps: sleeps()? - slept })
    }
}

fn sleeps() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(count.ok_or("the kernel counts no voluntary_ctxt_switches")?.trim().parse()?)
}
