//! What registered memory promises, tried over a real device: run in the machines by `memory.rs` of the tests.
//!
//! `memory-check registered|memlock|death` runs on both machines as RANK of two, over rdma. What is seen is printed, and
//! anything unexpected ends with status 1.

use std::error::Error;

use halo_ccl::{Communicator, Config, DType, Input, ReduceOp, Registration, Request, TransportChoice};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;
/// Floats of a long operation: 2 MiB, more than all slots of a peer take at once.
const LONG: usize = MIB / 2;

fn main() -> Outcome {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    let mut communicator = connect()?;
    println!("arena: {}", communicator.arena_pages());
    match scenario.as_str() {
        "registered" => registered(&mut communicator),
        "memlock" => memlock(&mut communicator),
        "death" => death(&mut communicator),
        other => Err(format!("`{other}` is not one of registered, memlock, death").into()),
    }
}

fn connect() -> Outcome<Communicator> {
    let rank = std::env::var("RANK")?.parse()?;
    let config = Config {
        rendezvous: "192.168.100.1:29510".to_owned(),
        transport: TransportChoice::Rdma,
        ..Config::from_env(rank, 2)?
    };
    Ok(Communicator::connect(&config)?)
}

/// Small whole numbers, other ones in every round: their sums are exact.
fn values(rank: usize, round: usize, count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |at| ((at * 7 + rank * 31 + round * 13) % 1000) as f32)
}

fn register(communicator: &mut Communicator, memory: &mut [f32]) -> Outcome<Registration> {
    // SAFETY: every caller drops the registration before the memory.
    Ok(unsafe { communicator.register(memory.as_mut_ptr().cast(), size_of_val(memory))? })
}

fn sum(memory: &mut [f32]) -> Request<'_> {
    Request::AllReduce { input: Input::InPlace, output: bytes(memory), dtype: DType::F32, op: ReduceOp::Sum }
}

fn equal(what: &str, given: &[f32], expected: impl Iterator<Item = f32>) -> Outcome {
    match given.iter().zip(expected).position(|(given, expected)| given.to_bits() != expected.to_bits()) {
        Some(at) => Err(format!("{what}: element {at} is {}", given[at]).into()),
        None => Ok(()),
    }
}

/// Bytes sent, and received, in place so far.
fn in_place(communicator: &Communicator) -> (u64, u64) {
    let link = &communicator.statistics().links[0];
    (link.bytes_sent_in_place, link.bytes_received_in_place)
}

fn bytes(values: &mut [f32]) -> &mut [u8] {
    let length = size_of_val(values);
    // SAFETY: floats are bytes, and all of them are lent.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), length) }
}

fn registered(communicator: &mut Communicator) -> Outcome {
    let (mut input, mut output) = (vec![0f32; LONG], vec![0f32; 2 * LONG]);
    let (inputs, outputs) = (register(communicator, &mut input)?, register(communicator, &mut output)?);
    let again = register(communicator, &mut output[5..100])?;
    if !(inputs.is_used() && outputs.is_used() && again.is_used()) {
        return Err("registered memory is not used".into());
    }
    all_reduce(communicator, &mut input, &mut output)?;
    let before = in_place(communicator);
    let long = (size_of::<f32>() * LONG) as u64;
    println!("all_reduce: {} bytes of {} sent in place, every element right", before.0, 6 * long);
    if before.0 != 6 * long {
        return Err("some were copied".into());
    }
    if before.1 == 0 {
        return Err("no result was placed".into());
    }
    gathers(communicator, &mut input, &mut output)?;
    let after = in_place(communicator);
    println!("gathers: {} bytes received in place, every element right", after.1 - before.1);
    if after.0 == before.0 || after.1 == before.1 {
        return Err("none were placed".into());
    }
    drop(inputs);
    drop(outputs);
    // What is left registered is a part too short to be used for these.
    all_reduce(communicator, &mut input, &mut output)?;
    gathers(communicator, &mut input, &mut output)?;
    drop(again);
    println!(
        "given back: {:?} more",
        (in_place(communicator).0 - after.0, in_place(communicator).1 - after.1)
    );
    one_sided(communicator, &mut input, &mut output)
}

/// In place and from another buffer, short and long, several times over with other numbers: whoever reads a buffer late
/// reads those of the next round.
fn all_reduce(communicator: &mut Communicator, input: &mut [f32], output: &mut [f32]) -> Outcome {
    for round in 0..3 {
        for count in [2, 5_000, LONG] {
            let rank = communicator.rank();
            let sums = || values(0, round, count).zip(values(1, round, count)).map(|(a, b)| a + b);
            values(rank, round, count).zip(&mut *output).for_each(|(value, place)| *place = value);
            let target = bytes(&mut output[..count]);
            communicator.all_reduce(Input::InPlace, target, DType::F32, ReduceOp::Sum)?;
            equal("all_reduce in place", &output[..count], sums())?;
            values(rank, round, count).zip(&mut *input).for_each(|(value, place)| *place = value);
            let source = Input::From(bytes(&mut input[..count]));
            communicator.all_reduce(source, bytes(&mut output[..count]), DType::F32, ReduceOp::Sum)?;
            equal("all_reduce", &output[..count], sums())?;
        }
    }
    Ok(())
}

fn gathers(communicator: &mut Communicator, input: &mut [f32], output: &mut [f32]) -> Outcome {
    for round in 0..3 {
        let rank = communicator.rank();
        let both = || values(0, round, LONG).chain(values(1, round, LONG));
        values(rank, round, LONG).zip(&mut *input).for_each(|(value, place)| *place = value);
        output.fill(0.0);
        communicator.all_gather(&*bytes(input), bytes(output), DType::F32)?;
        equal("all_gather", output, both())?;
        output[(1 - rank) * LONG..(2 - rank) * LONG].fill(0.0);
        communicator.all_gather(Input::InPlace, bytes(output), DType::F32)?;
        equal("all_gather in place", output, both())?;
        communicator.broadcast(bytes(input), DType::F32, round % 2)?;
        equal("broadcast", input, values(round % 2, round, LONG))?;
    }
    Ok(())
}

/// Only rank 0 has anything registered: what it receives is placed, what it sends is read in place, and nothing else.
fn one_sided(communicator: &mut Communicator, input: &mut [f32], output: &mut [f32]) -> Outcome {
    let before = in_place(communicator);
    let held = match communicator.rank() {
        0 => Some((register(communicator, input)?, register(communicator, output)?)),
        _ => None,
    };
    gathers(communicator, input, output)?;
    let after = in_place(communicator);
    let (sent, received) = (after.0 - before.0, after.1 - before.1);
    println!("one-sided: {sent} bytes sent and {received} received in place");
    if (sent > 0, received > 0) == (held.is_some(), held.is_some()) {
        Ok(())
    } else {
        Err("not as said".into())
    }
}

/// With a memlock limit that is enough for the arena and not for the memory, the error says so and nothing else changes.
fn memlock(communicator: &mut Communicator) -> Outcome {
    let mut memory = vec![0f32; 16 * MIB];
    // SAFETY: nothing is registered where this fails, and the memory outlives the communicator's use of it.
    let refused = unsafe { communicator.register(memory.as_mut_ptr().cast(), 64 * MIB) };
    let Err(error) = refused else { return Err("64 MiB were registered".into()) };
    println!("{}: {error}; {}", error.stable_code(), error.hint().unwrap_or_default());
    all_reduce(communicator, &mut vec![0.0; LONG], &mut memory)?;
    println!("every element right without it");
    Ok(())
}

/// Rank 1 dies while a registered buffer is being read and written.
fn death(communicator: &mut Communicator) -> Outcome {
    let mut memory = vec![1f32; 4 * LONG];
    let held = register(communicator, &mut memory)?;
    communicator.run(sum(&mut memory))?;
    if communicator.rank() == 1 {
        let mut queue = communicator.queue();
        queue.start(sum(&mut memory))?;
        println!("killing");
        std::process::abort();
    }
    let Err(error) = communicator.run(sum(&mut memory)) else { return Err("the sum was made".into()) };
    drop(held);
    // Nobody writes here any more.
    memory.fill(5.0);
    println!("{}: {error}; the buffer is mine again", error.stable_code());
    equal("after the failure", &memory, std::iter::repeat(5.0))
}
