//! What several rails promise, tried over two devices: run in the machines by `rails.rs` of the tests.
//!
//! `rails-check share ROUNDS` and `rails-check lose COMMAND...` run on both machines as RANK of two, over rdma. `lose` runs
//! the command on machine 1 in the middle of the work, goes on until a rail is lost, and then a while longer. What is seen
//! is printed, halo's own errors too; anything else that is unexpected ends with status 1.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use halo_ccl::{Communicator, Config, DType, Input, RailStatistics, ReduceOp, Registration, TransportChoice};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Floats of a long operation: 2 MiB, two times all slots of a peer.
const LONG: usize = 1 << 19;
/// Rounds before a rail is cut, and after it is lost.
const ROUNDS: usize = 3;

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stdout).with_ansi(false).init();
    let rank = std::env::var("RANK")?.parse()?;
    let config = Config {
        rendezvous: "192.168.100.1:29510".to_owned(),
        transport: TransportChoice::Rdma,
        ..Config::from_env(rank, 2)?
    };
    let mut communicator = match Communicator::connect(&config) {
        Ok(communicator) => communicator,
        Err(error) => {
            println!("{scenario}: {}: {error}", error.stable_code());
            return Ok(());
        }
    };
    println!("{scenario}: {}", communicator.links()[0].reason);
    let (mut input, mut output) = (vec![0f32; LONG], vec![0f32; 2 * LONG]);
    let (inputs, outputs) =
        (register(&mut communicator, &mut input)?, register(&mut communicator, &mut output)?);
    let mut work = Work { communicator, input, output, round: 0 };
    let done = match scenario.as_str() {
        "share" => {
            let rounds: usize = words.first().ok_or("how many rounds?")?.parse()?;
            (0..rounds).try_for_each(|_| work.round())
        }
        "lose" => work.lose(&words),
        other => Err(format!("`{other}` is not one of share, lose").into()),
    };
    for rail in work.rails() {
        let state = rail.lost.as_deref().unwrap_or("in use");
        println!("{scenario}: {} {} bytes: {state}", rail.name, rail.bytes_sent);
    }
    if let Err(error) = done {
        let error = error.downcast::<halo_ccl::Error>()?;
        println!("{scenario}: {}: {error}", error.stable_code());
        return Ok(());
    }
    work.communicator.close()?;
    drop((inputs, outputs));
    println!("{scenario}: {} rounds, every element right", work.round);
    Ok(())
}

fn register(communicator: &mut Communicator, memory: &mut [f32]) -> Outcome<Registration> {
    // SAFETY: the caller drops the registration before the memory.
    Ok(unsafe { communicator.register(memory.as_mut_ptr().cast(), size_of_val(memory))? })
}

/// Small whole numbers, other ones in every round: their sums are exact.
fn values(rank: usize, round: usize, count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |at| ((at * 7 + rank * 31 + round * 13) % 1000) as f32)
}

fn bytes(values: &mut [f32]) -> &mut [u8] {
    let length = size_of_val(values);
    // SAFETY: floats are bytes, and all of them are lent.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), length) }
}

fn equal(what: &str, given: &[f32], expected: impl Iterator<Item = f32>) -> Outcome {
    match given.iter().zip(expected).position(|(given, expected)| given.to_bits() != expected.to_bits()) {
        Some(at) => Err(format!("{what}: element {at} is {}", given[at]).into()),
        None => Ok(()),
    }
}

struct Work {
    communicator: Communicator,
    input: Vec<f32>,
    output: Vec<f32>,
    round: usize,
}

impl Work {
    fn rails(&self) -> Vec<RailStatistics> {
        self.communicator.statistics().links[0].rails.clone()
    }

    /// Short, staged and long ones; in place, from memory that is read where it lies, to memory that is lent.
    fn round(&mut self) -> Outcome {
        self.round += 1;
        let (round, rank) = (self.round, self.communicator.rank());
        let sums = |count| values(0, round, count).zip(values(1, round, count)).map(|(a, b)| a + b);
        for count in [2, 5_000, LONG] {
            values(rank, round, count).zip(&mut self.output).for_each(|(value, place)| *place = value);
            let target = bytes(&mut self.output[..count]);
            self.communicator.all_reduce(Input::InPlace, target, DType::F32, ReduceOp::Sum)?;
            equal("all_reduce in place", &self.output[..count], sums(count))?;
        }
        values(rank, round, LONG).zip(&mut self.input).for_each(|(value, place)| *place = value);
        let (source, target) = (bytes(&mut self.input), bytes(&mut self.output[..LONG]));
        self.communicator.all_reduce(Input::From(source), target, DType::F32, ReduceOp::Sum)?;
        equal("all_reduce", &self.output[..LONG], sums(LONG))?;
        self.output.fill(0.0);
        self.communicator.all_gather(&*bytes(&mut self.input), bytes(&mut self.output), DType::F32)?;
        equal("all_gather", &self.output, values(0, round, LONG).chain(values(1, round, LONG)))
    }

    /// Whether any rank has lost a rail: both learn the same.
    fn any_is_lost(&mut self) -> Outcome<bool> {
        let lost = self.rails().iter().any(|rail| rail.lost.is_some());
        let mut both = [f32::from(u8::from(lost))];
        self.communicator.all_reduce(Input::InPlace, bytes(&mut both), DType::F32, ReduceOp::Sum)?;
        Ok(both[0] > 0.0)
    }

    fn lose(&mut self, command: &[String]) -> Outcome {
        (0..ROUNDS).try_for_each(|_| self.round())?;
        if self.communicator.rank() == 1 {
            println!("lose: cutting");
            let (program, arguments) = command.split_first().ok_or("no command to cut by")?;
            if !Command::new(program).args(arguments).status()?.success() {
                return Err(format!("{command:?} failed").into());
            }
        }
        let cut = Instant::now();
        while !self.any_is_lost()? {
            if cut.elapsed() > Duration::from_secs(60) {
                return Err("no rail was lost".into());
            }
            self.round()?;
        }
        (0..ROUNDS).try_for_each(|_| self.round())
    }
}
