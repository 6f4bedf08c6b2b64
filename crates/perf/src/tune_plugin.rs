//! `halo-perf tune-plugin`: what a step between two ranks costs, and the table that follows for the net plugin's tuner.

use std::process::ExitCode;
use std::time::Instant;

use halo_ccl::{Communicator, Config, DType, Transport};
use halo_tuner::{Link, LinkCost};

use crate::args::TunePluginOptions;
use crate::error::Error;
use crate::measure::configuration;
use crate::output;

/// Next to no bytes: the time is the latency.
const SMALL: usize = 8;
/// What a byte costs is told by the difference between these two.
const SPAN: [usize; 2] = [64 << 10, 1 << 20];
/// Round trips of each size in a round.
const ROUND_TRIPS: usize = 200;

/// Reads the arguments and the environment, and refuses what cannot be measured.
pub(crate) fn prepare(options: &TunePluginOptions) -> Result<Config, Error> {
    let config = configuration(&options.placement, "tune-plugin")?;
    if config.world != 2 {
        return refuse(format!("{} ranks", config.world), "a step is between two ranks: use --ranks 2");
    }
    if config.rank == 0 {
        output::check(&options.output)?;
    }
    Ok(config)
}

fn refuse<T>(given: String, remedy: &'static str) -> Result<T, Error> {
    Err(Error::Unmeasurable { collective: "the plugin's link", given, remedy })
}

/// Measures on this rank; rank 0 writes the table.
pub(crate) fn run_rank(options: &TunePluginOptions, config: &Config) -> Result<ExitCode, Error> {
    let rank = config.rank;
    let mut communicator = Communicator::connect(config)?;
    let transport = communicator.links()[0].transport;
    let link = match transport {
        Transport::Rdma => Link::Rdma,
        Transport::Tcp => Link::Tcp,
        Transport::Shm => {
            communicator.close()?;
            return refuse(
                "transport shm".to_owned(),
                "the tuner decides for what goes between hosts: run one rank on each of two hosts, or use --transport tcp",
            );
        }
    };
    let peer = communicator.links()[0].host.clone();
    let mut times = [SMALL, SPAN[0], SPAN[1]].map(|_| Vec::new());
    // In each round every size has its turn, so that a machine that becomes slower does not bend the line.
    for _ in 0..options.rounds {
        for (samples, size) in times.iter_mut().zip([SMALL, SPAN[0], SPAN[1]]) {
            measure(&mut communicator, size, samples)?;
        }
    }
    communicator.close()?;
    if rank != 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let [small, low, high] = times.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    });
    let longer = high - low;
    if longer <= 0.0 {
        return refuse(
            format!("times of {low:.1} us for 64 KiB and {high:.1} us for 1 MiB"),
            "the machine is too busy to measure: try again, or with more --rounds",
        );
    }
    let bandwidth = (SPAN[1] - SPAN[0]) as f64 / longer;
    let cost = LinkCost { link, latency_us: small, bandwidth, handshake_us: options.handshake_us };
    let measured = format!(
        "Measured over {transport} with halo {} between this host and {peer}, medians of {} round trips:",
        env!("CARGO_PKG_VERSION"),
        options.rounds as usize * ROUND_TRIPS,
    );
    let path = &options.output;
    output::write(path, &cost.to_text(&measured))?;
    let limit = cost.low_latency_limit(2) >> 10;
    println!("latency {small:.2} us, bandwidth {bandwidth:.0} bytes/us over {transport}");
    println!("2 ranks: LL up to {limit} KiB, Simple above");
    println!("wrote {}: copy it to every host and set HALO_TUNER_FILE to its path there", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Half round trips in microseconds; those of rank 0 count.
fn measure(communicator: &mut Communicator, size: usize, samples: &mut Vec<f64>) -> Result<(), Error> {
    let (there, mut back) = (vec![1; size], vec![0; size]);
    communicator.barrier()?;
    for turn in 0..ROUND_TRIPS + ROUND_TRIPS / 10 {
        let began = Instant::now();
        if communicator.rank() == 0 {
            communicator.send(&there, DType::U8, 1)?;
            communicator.recv(&mut back, DType::U8, 1)?;
        } else {
            communicator.recv(&mut back, DType::U8, 0)?;
            communicator.send(&there, DType::U8, 0)?;
        }
        // The first ones warm up.
        if turn >= ROUND_TRIPS / 10 {
            samples.push(began.elapsed().as_secs_f64() * 1e6 / 2.0);
        }
    }
    Ok(())
}
