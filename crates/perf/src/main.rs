//! `halo-perf` measures collectives and links, by the conventions of nccl-tests.

mod args;
mod check;
mod devices;
mod error;
mod measure;
mod output;
mod report;
mod sizes;
mod spawn;
mod tune;
mod tune_plugin;

use std::process::ExitCode;

use args::{Arguments, Command, Placement};
use clap::Parser;
use error::{Error, render};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", render(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    match &arguments.command {
        Command::Devices(options) => devices::show(options),
        Command::Key => {
            let key = halo_ccl::Key::generate().map_err(halo_ccl::Error::from)?;
            println!("{}", String::from_utf8_lossy(key.expose()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Tune(options) => {
            let prepared = tune::prepare(options)?;
            as_placed(&options.placement, || tune::run_rank(options, prepared))
        }
        Command::TunePlugin(options) => {
            let config = tune_plugin::prepare(options)?;
            as_placed(&options.placement, || tune_plugin::run_rank(options, &config))
        }
        command => {
            let (collective, options) = command.benchmark();
            let prepared = measure::prepare(collective, options)?;
            as_placed(&options.placement, || measure::run_rank(collective, options, prepared))
        }
    }
}

/// As one rank, or as the parent of all. What no rank can do has been refused by then, once.
fn as_placed(
    placement: &Placement,
    run_rank: impl FnOnce() -> Result<ExitCode, Error>,
) -> Result<ExitCode, Error> {
    if placement.rank.is_some() { run_rank() } else { spawn::run_locally(placement) }
}

fn log_to_stderr() {
    let filter = halo_env::HALO_LOG.get().unwrap_or_else(|| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
}
