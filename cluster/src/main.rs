//! halo-cluster: vLLM with tensor parallelism over several machines, with halo between them.

mod agent;
mod cli;
mod cluster;
mod config;
mod config_error;
mod configure;
mod control;
mod doctor;
mod error;
mod facts;
mod init;
mod launch;
mod login;
mod manual;
mod menu;
mod models;
mod plan;
mod preflight;
mod progress;
mod question;
mod report;
mod script;
mod session;
mod state;
mod survey;
mod target;
mod top;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::ClusterError;
use crate::state::Folder;

fn main() -> ExitCode {
    let outcome = if menu::is_wanted() { menu::run().map_err(Failure::from) } else { run(Cli::parse()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::FAILURE,
        Err(Failure::Unsaid(error)) => {
            error::print(&error);
            ExitCode::FAILURE
        }
    }
}

/// A failure, and whether it was printed already: a launch prints its own before it stops everything.
enum Failure {
    Said,
    Unsaid(ClusterError),
}

impl<E: Into<ClusterError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Unsaid(error.into())
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Launch(arguments) => {
            let folder = Folder::open()?;
            let request = arguments.request(&folder)?;
            if let Some(file) = &arguments.systemd {
                print!("{}", launch::unit::write(&request, file)?);
            } else if arguments.print_environment {
                print!("{}", launch::print_environment(&request.config, &folder)?);
            } else if arguments.dry_run {
                print!("{}", plan::dry_run(&request.config, request.file.is_none()));
            } else if arguments.detach {
                control::detach(&folder)?;
            } else if !launch::run(&request, &folder)? {
                return Err(Failure::Said);
            }
        }
        Command::Init(arguments) => init::run(&arguments.file, arguments.answers(), arguments.force)?,
        Command::Doctor(arguments) => {
            let config = config::Config::read(&arguments.config)?;
            let rows = doctor::run(&config, &arguments.only);
            if arguments.json {
                println!("{:#}", doctor::json(&rows));
            } else {
                print!("{}", doctor::table(&rows));
            }
            if rows.iter().any(|row| row.finding.verdict == doctor::Verdict::Fail) {
                return Err(Failure::Said);
            }
        }
        Command::Models(arguments) => models::run(&arguments)?,
        Command::Top(arguments) => top::run(&arguments)?,
        Command::Configure(arguments) => {
            let config = config::Config::read(&arguments.config)?;
            configure::run(&config, &arguments.options())?;
        }
        Command::Verify(arguments) => verify::run(&arguments)?,
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments)?,
        Command::Status { json } => control::status(&Folder::open()?, json),
        Command::Stop => control::stop(&Folder::open()?)?,
        Command::Logs { name } => control::logs(&Folder::open()?, name.as_deref())?,
    }
    Ok(())
}

/// A flag that Ctrl-C and SIGTERM raise instead of ending this process.
fn interrupts() -> Result<Arc<AtomicBool>, ClusterError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|source| ClusterError::Start { program: "signal handler".to_owned(), source })?;
    }
    Ok(flag)
}
