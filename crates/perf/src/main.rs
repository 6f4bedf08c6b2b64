//! `halo-perf` measures collectives and links, by the conventions of nccl-tests.

mod args;
mod check;
mod devices;
mod error;
mod measure;
mod report;
mod sizes;
mod spawn;
mod tune;
mod tune_plugin;

use std::process::ExitCode;

use args::{Arguments, Command};
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
            options.placement.transport()?;
            if options.placement.rank.is_some() {
                tune::run_rank(options)
            } else {
                spawn::run_locally(&options.placement)
            }
        }
        Command::TunePlugin(options) => {
            options.placement.transport()?;
            if options.placement.rank.is_some() {
                tune_plugin::run_rank(options)
            } else {
                spawn::run_locally(&options.placement)
            }
        }
        command => {
            let (collective, options) = command.benchmark();
            options.choices()?;
            options.placement.transport()?;
            if options.placement.rank.is_some() {
                measure::run_rank(collective, options)
            } else {
                spawn::run_locally(&options.placement)
            }
        }
    }
}

fn log_to_stderr() {
    let filter = halo_env::HALO_LOG.get().unwrap_or_else(|| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
}
