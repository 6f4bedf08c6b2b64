//! `halo-perf tune`: every algorithm of an all-reduce at every size, in turn, and the table of the fastest.

use std::process::ExitCode;
use std::time::Instant;

use comfy_table::{Table, presets};
use halo_ccl::{Algorithm, Communicator, Config, DType, Input, PlanTable, ReduceOp, Rule};

use crate::args::TuneOptions;
use crate::error::Error;
use crate::measure::configuration;
use crate::output;
use crate::sizes::sweep;

/// Another algorithm must be this much faster than the one of the size below: less is noise, and would only make the
/// table longer.
const GAIN: f64 = 0.97;
/// Above this size gathering all inputs moves too much to be worth a measurement.
const DOUBLING_BYTES: usize = 256 * 1024;
/// Below this size twice as many messages as ranks, one after the other, are not worth one.
const RING_BYTES: usize = 32 * 1024;
/// Below this size two ranks gain nothing by a second phase.
const TWO_RANKS_TWO_SHOT_BYTES: usize = 128 * 1024;
/// Chunks worth trying where one message carries several.
const CHUNKS: [usize; 4] = [16 * 1024, 32 * 1024, 64 * 1024, 128 * 1024];
/// Time spent on one candidate, one size and one round, about.
const ROUND_SECONDS: f64 = 0.02;

/// A way to do it.
type Candidate = (Algorithm, usize);

/// Reads the arguments and the environment, and refuses what cannot be measured.
pub(crate) fn prepare(options: &TuneOptions) -> Result<(Config, Vec<usize>), Error> {
    let config = configuration(&options.placement, "tune")?;
    if config.world < 2 {
        let given = format!("{} rank", config.world);
        return Err(Error::Unmeasurable {
            collective: "all_reduce",
            given,
            remedy: "a plan needs two ranks or more",
        });
    }
    let sizes = sweep(options.min.0, options.max.0, 2, DType::BF16.size());
    if sizes.is_empty() {
        return Err(Error::NoSizes { min: options.min.0, max: options.max.0 });
    }
    if config.rank == 0 {
        output::check(&options.output)?;
    }
    Ok((config, sizes))
}

/// Measures on this rank; rank 0 prints and writes.
pub(crate) fn run_rank(
    options: &TuneOptions,
    (config, sizes): (Config, Vec<usize>),
) -> Result<ExitCode, Error> {
    let (rank, world) = (config.rank, config.world);
    let slot_bytes = config.slot_bytes;
    let mut communicator = Communicator::connect(&config)?;
    let transport = communicator.transport();
    // Before anything is measured: what cannot be kept beside the new rules is told at once.
    let old = if rank == 0 { kept(options)? } else { PlanTable::default() };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["bytes", "algorithm", "chunk", "us", "built-in us"]);
    let mut best: Vec<(usize, Candidate)> = Vec::new();
    for size in sizes {
        let candidates = candidates(world, size, slot_bytes);
        let times = measure(&mut communicator, size, &candidates, options.rounds)?;
        let (chosen, time) = choose(&candidates, &times, best.last().map(|(_, candidate)| *candidate));
        table.add_row([
            size.to_string(),
            chosen.0.to_string(),
            chosen.1.to_string(),
            format!("{time:.2}"),
            format!("{:.2}", times[built_in(&candidates, world, transport, size)]),
        ]);
        best.push((size, chosen));
    }
    communicator.close()?;
    if rank == 0 {
        println!("{table}\n");
        write(options, &old, world, transport, &best)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the file has already.
fn kept(options: &TuneOptions) -> Result<PlanTable, Error> {
    let path = &options.output;
    Ok(if path.exists() { PlanTable::read(path)? } else { PlanTable::new(Vec::new()) })
}

/// What is worth trying for a size; the first is a single message where that is possible.
fn candidates(world: usize, size: usize, slot_bytes: usize) -> Vec<Candidate> {
    let mut chunks: Vec<usize> =
        CHUNKS.into_iter().filter(|chunk| *chunk < slot_bytes && *chunk < size).collect();
    chunks.push(slot_bytes);
    let mut candidates: Vec<_> = chunks.into_iter().map(|chunk| (Algorithm::OneShot, chunk)).collect();
    if world > 2 || size >= TWO_RANKS_TWO_SHOT_BYTES {
        candidates.push((Algorithm::TwoShot, slot_bytes));
    }
    if world > 2 {
        if size <= DOUBLING_BYTES {
            candidates.push((Algorithm::Doubling, slot_bytes));
        }
        if size >= RING_BYTES {
            let few = (slot_bytes / 4 / 64 * 64).max(64);
            candidates.extend([few, slot_bytes].map(|chunk| (Algorithm::Ring, chunk)));
        }
    }
    candidates
}

/// Which candidate the built-in table stands for: its algorithm in whole slots, the last of its kind.
fn built_in(candidates: &[Candidate], world: usize, transport: &str, size: usize) -> usize {
    let chosen = PlanTable::default().algorithm(world, transport, size);
    candidates.iter().rposition(|(algorithm, _)| *algorithm == chosen).unwrap_or_default()
}

/// Median microseconds of every candidate on the slowest rank; in each round every one has its turn.
fn measure(
    communicator: &mut Communicator,
    size: usize,
    candidates: &[Candidate],
    rounds: u64,
) -> Result<Vec<f64>, Error> {
    let mut buffer = vec![0; size];
    let mut samples = vec![Vec::new(); candidates.len()];
    let mut iterations = 4;
    for round in 0..=rounds {
        for (index, (algorithm, chunk)) in candidates.iter().enumerate() {
            communicator.force_algorithm(*algorithm, *chunk);
            communicator.barrier()?;
            let start = Instant::now();
            for _ in 0..iterations {
                communicator.all_reduce(Input::InPlace, &mut buffer, DType::BF16, ReduceOp::Sum)?;
            }
            samples[index].push(start.elapsed().as_secs_f64() * 1e6 / f64::from(iterations));
        }
        if round == 0 {
            // The first round warms up and tells how many iterations fill the time; the slowest rank's word counts.
            let mut wanted = [(ROUND_SECONDS * 1e6 / samples[0][0]).clamp(2.0, 2000.0) as f32];
            let bytes = bytemuck::cast_slice_mut(&mut wanted);
            communicator.all_reduce(Input::InPlace, bytes, DType::F32, ReduceOp::Min)?;
            iterations = wanted[0] as u32;
            samples.iter_mut().for_each(Vec::clear);
        }
    }
    let mut medians: Vec<f32> = samples.iter_mut().map(|samples| median(samples) as f32).collect();
    let bytes = bytemuck::cast_slice_mut(&mut medians);
    communicator.all_reduce(Input::InPlace, bytes, DType::F32, ReduceOp::Max)?;
    Ok(medians.into_iter().map(f64::from).collect())
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// The fastest, unless the one of the size below is about as fast.
fn choose(candidates: &[Candidate], times: &[f64], former: Option<Candidate>) -> (Candidate, f64) {
    let fastest = (0..times.len()).min_by(|a, b| times[*a].total_cmp(&times[*b])).unwrap_or_default();
    let former = former.and_then(|former| candidates.iter().position(|candidate| *candidate == former));
    let index = former.filter(|former| times[fastest] > times[*former] * GAIN).unwrap_or(fastest);
    (candidates[index], times[index])
}

/// The rules for these measurements, beside whatever else the file has.
fn write(
    options: &TuneOptions,
    old: &PlanTable,
    ranks: usize,
    transport: &str,
    best: &[(usize, Candidate)],
) -> Result<(), Error> {
    let path = &options.output;
    let others = old.rules().iter().filter(|rule| rule.ranks != ranks || rule.transport != transport);
    let rules = others.cloned().chain(rules(ranks, transport, best)).collect();
    output::write(path, &PlanTable::new(rules).to_text())?;
    println!("wrote {}: copy it to every host and set HALO_PLANS to its path there", path.display());
    Ok(())
}

/// One rule up to every size after which another candidate is faster.
fn rules(ranks: usize, transport: &str, best: &[(usize, Candidate)]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, (size, (algorithm, chunk))) in best.iter().enumerate() {
        let next = best.get(index + 1);
        if next.is_some_and(|(_, candidate)| *candidate == (*algorithm, *chunk)) {
            continue;
        }
        rules.push(Rule {
            ranks,
            transport: transport.to_owned(),
            up_to: next.map(|_| *size),
            algorithm: *algorithm,
            chunk: algorithm.has_chunks().then_some(*chunk),
        });
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_is_written_can_be_read() {
        let each = Algorithm::ALL.map(|algorithm| (algorithm, 131_072));
        let best: Vec<_> =
            [1024, 2048, 4096, 8192, 16_384].into_iter().zip(each.into_iter().chain([each[0]])).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), PlanTable::new(rules(4, "shm", &best)).to_text()).unwrap();
        let table = PlanTable::read(file.path()).unwrap();
        for (size, (algorithm, _)) in best {
            assert_eq!(table.algorithm(4, "shm", size), algorithm);
        }
    }

    #[test]
    fn a_gain_that_is_noise_changes_nothing() {
        let candidates = [(Algorithm::OneShot, 64), (Algorithm::TwoShot, 64)];
        assert_eq!(choose(&candidates, &[10.0, 9.9], None).0, candidates[1]);
        assert_eq!(choose(&candidates, &[10.0, 9.9], Some(candidates[0])).0, candidates[0]);
        assert_eq!(choose(&candidates, &[10.0, 9.0], Some(candidates[0])).0, candidates[1]);
    }

    #[test]
    fn the_built_in_choice_is_that_of_the_built_in_table() {
        let slot = 128 * 1024;
        for (world, transport, size, algorithm) in [
            (2, "tcp", 1 << 26, Algorithm::OneShot),
            (2, "rdma", 1 << 20, Algorithm::TwoShot),
            (3, "shm", 64 << 10, Algorithm::OneShot),
            (3, "shm", 65 << 10, Algorithm::TwoShot),
            (4, "rdma", 20 << 10, Algorithm::TwoShot),
            (4, "tcp", 80 << 10, Algorithm::OneShot),
        ] {
            let candidates = candidates(world, size, slot);
            let chosen = candidates[built_in(&candidates, world, transport, size)];
            assert_eq!(chosen, (algorithm, slot), "{world} ranks by {transport}, {size} bytes");
        }
    }

    #[test]
    fn every_algorithm_is_tried_where_it_may_win() {
        let tried = |world, size| {
            let mut tried: Vec<_> = candidates(world, size, 131_072).into_iter().map(|one| one.0).collect();
            tried.dedup();
            tried
        };
        assert_eq!(tried(2, 1 << 16), [Algorithm::OneShot]);
        assert_eq!(tried(2, 1 << 20), [Algorithm::OneShot, Algorithm::TwoShot]);
        assert_eq!(tried(4, 1024), [Algorithm::OneShot, Algorithm::TwoShot, Algorithm::Doubling]);
        assert_eq!(tried(4, 1 << 20), [Algorithm::OneShot, Algorithm::TwoShot, Algorithm::Ring]);
    }
}
