//! `bench-peers`: halo beside its peers, interleaved in one run. `make bench-peers` installs them and runs it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use halo_benches::error::Error;
use halo_benches::kernel::{self, Kernel};
use halo_benches::line::Work;
use halo_benches::peers::{Peer, Place, local, root};
use halo_benches::results::{Quantile, Results};
use halo_benches::setup::{self, Setup};
use halo_benches::targets::Verdict;
use halo_benches::{calls, fit, plot, plugin, rig, rounds, table};
use miette::Diagnostic;

/// Measures halo beside its peers, in rounds, and prints every ratio beside its target. It asserts nothing.
#[derive(Debug, Parser)]
#[command(name = "bench-peers", version)]
struct Arguments {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Rounds: in each, every peer runs once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Peers to leave out
    #[arg(long, value_enum)]
    without: Vec<Peer>,
    /// Largest size on this machine, in bytes
    #[arg(long, default_value_t = 64 << 20)]
    max: usize,
    /// Fit the model of docs/scaling.md to halo's times, and write it there
    #[arg(long)]
    fit: bool,
    /// Measure nothing: take the results that an earlier run has kept
    #[arg(long, value_name = "FILE", requires = "fit")]
    from: Option<PathBuf>,
    /// Where the JSON and the pictures go [default: .cache/bench]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Two ranks over shared memory
    Shm,
    /// Two ranks over TCP on loopback
    Tcp,
    /// Two ranks over Soft-RoCE in one virtual machine
    OneMachine,
    /// Two ranks over Soft-RoCE between two virtual machines
    TwoMachines,
    /// The reduction, and how long 16 ranks take to be ready
    Machine,
    /// The net plugin's messages: over TCP on loopback, over Soft-RoCE in one virtual machine, and between two
    Plugin,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", render(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    if let Some(path) = &arguments.from {
        return fit(arguments, &earlier(path)?, 0);
    }
    let out = arguments.out.clone().unwrap_or_else(|| root().join(".cache/bench"));
    let unwritable = |error: std::io::Error| Error::Unwritable {
        path: out.display().to_string(),
        cause: error.to_string(),
    };
    std::fs::create_dir_all(&out).map_err(unwritable)?;
    let asked = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let rounds = arguments.rounds as usize;
    let mut results = Results::default();
    for (part, place) in [(Part::Shm, Place::Shm), (Part::Tcp, Place::Tcp)] {
        if asked(part) {
            let sizes: Vec<usize> =
                rounds::SIZES.iter().copied().filter(|size| *size <= arguments.max).collect();
            rounds::run(place, rounds, &sizes, &arguments.without, &mut results, |round, peer| {
                eprintln!("{place}: round {} of {rounds}: {peer}", round + 1);
            })?;
            show(&results, place, local(place), Quantile::P50, &out)?;
        }
    }
    if asked(Part::Plugin) {
        let place = Place::PluginTcp;
        plugin::run(rounds, &arguments.without, &mut results, |round, peer| {
            eprintln!("{place}: round {} of {rounds}: {peer}", round + 1);
        })?;
        show(&results, place, local(place), Quantile::P50, &out)?;
    }
    let in_the_rig = [
        (Part::OneMachine, Place::OneMachine),
        (Part::TwoMachines, Place::TwoMachines),
        (Part::Plugin, Place::PluginOneMachine),
        (Part::Plugin, Place::PluginRdma),
    ];
    for (_, place) in in_the_rig.into_iter().filter(|(part, _)| asked(*part)) {
        eprintln!("{place}: {rounds} rounds in one boot");
        rig::run(place, rounds, &arguments.without, &mut results)?;
        show(&results, place, rig::peers(place), Quantile::P10, &out)?;
    }
    let mut verdicts = table::verdicts(&results);
    let machine = if asked(Part::Machine) {
        eprintln!("the reduction, and 16 ranks getting ready");
        let machine = (kernel::measure(rounds), setup::measure(16, rounds)?);
        verdicts.extend(table::machine_verdicts(&machine.0, &machine.1));
        let work = [8, 8 << 10, 200 << 10].map(|bytes| Work { bytes, iterations: 50 });
        verdicts.push(table::calls_verdict(&calls::of("shm", &work)?));
        Some(machine)
    } else {
        None
    };
    verdicts.extend(table::hot_path_verdict(&results));
    println!("{}", table::targets(&verdicts));
    if arguments.fit {
        fit(arguments, &results, rounds)?;
    }
    keep(&out.join("peers.json"), &results, &verdicts, machine.as_ref())
}

/// Fits the model to halo's times at the places asked for, or at all that were measured, and keeps it in its page.
fn fit(arguments: &Arguments, results: &Results, rounds: usize) -> Result<(), Error> {
    let modelled = [
        (Part::Shm, Place::Shm),
        (Part::Tcp, Place::Tcp),
        (Part::OneMachine, Place::OneMachine),
        (Part::TwoMachines, Place::TwoMachines),
    ];
    let wanted = |part: Part, place: Place| {
        if arguments.parts.is_empty() {
            !results.sizes(place).is_empty()
        } else {
            arguments.parts.contains(&part)
        }
    };
    let places: Vec<Place> =
        modelled.into_iter().filter(|(part, place)| wanted(*part, *place)).map(|(_, place)| place).collect();
    let section = fit::section(&fit::fits(results, &places, rounds)?);
    println!("{section}");
    let page = root().join("docs/scaling.md");
    fit::write(&page, &section)?;
    println!("written to {}", page.display());
    Ok(())
}

fn earlier(path: &Path) -> Result<Results, Error> {
    let unreadable = |cause: String| Error::Unreadable { path: path.display().to_string(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

/// Prints a place's table and draws its picture.
fn show(
    results: &Results,
    place: Place,
    peers: &[Peer],
    quantile: Quantile,
    out: &Path,
) -> Result<(), Error> {
    let which = match quantile {
        Quantile::P10 => "10th percentile of the operations",
        Quantile::P50 => "median of the operations",
    };
    let what = place.operation();
    println!("Time of {what} in us: {which}, median of the rounds; ratios within rounds");
    println!("{}\n", table::times(results, place, peers, quantile));
    if let Some(calls) = table::other_calls(results, place, quantile) {
        println!("Both ranks' payloads and nothing else, by other calls, in us: {which}, likewise");
        println!("{calls}\n");
    }
    let name = place.name().replace([' ', ','], "-").replace("--", "-").to_lowercase();
    plot::draw(results, place, peers, quantile, &out.join(format!("{name}.svg")))
}

#[derive(serde::Serialize)]
struct Kept<'a> {
    halo: &'static str,
    processors: usize,
    verdicts: &'a [Verdict],
    kernel: Option<&'a Kernel>,
    setup: Option<&'a Setup>,
    #[serde(flatten)]
    results: &'a Results,
}

fn keep(
    path: &Path,
    results: &Results,
    verdicts: &[Verdict],
    machine: Option<&(Kernel, Setup)>,
) -> Result<(), Error> {
    let kept = Kept {
        halo: env!("CARGO_PKG_VERSION"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        verdicts,
        kernel: machine.map(|(kernel, _)| kernel),
        setup: machine.map(|(_, setup)| setup),
        results,
    };
    let text = serde_json::to_string_pretty(&kept).expect("results are plain data");
    std::fs::write(path, text)
        .map_err(|error| Error::Unwritable { path: path.display().to_string(), cause: error.to_string() })?;
    println!("kept, with pictures beside it: {}", path.display());
    Ok(())
}

/// The error as the user sees it: what, why, what to do.
fn render(error: &Error) -> String {
    let code = error.code().map_or_else(String::new, |code| format!("[{code}]"));
    let mut text = format!("error{code}: {error}\n");
    if let Some(help) = error.help() {
        let _ = writeln!(text, "  help: {help}");
    }
    text
}
