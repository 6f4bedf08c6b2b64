//! `plugin-host`: one case, or one rank of a scenario of two.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use halo_plugin_host::peer;
use halo_plugin_host::plugin::Version;
use halo_plugin_host::{Outcome, cases};

/// A host for halo's net plugin.
#[derive(Debug, Parser)]
#[command(name = "plugin-host")]
struct Arguments {
    /// The library
    #[arg(long, global = true, default_value = "librccl-net-halo.so")]
    library: PathBuf,
    /// The version of the interface
    #[arg(long = "interface", global = true, value_enum, default_value = "v12")]
    version: Version,
    /// Use all devices as one, by makeVDevice
    #[arg(long, global = true)]
    join: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The names of all cases
    Cases,
    /// Try one case, with both ends in this process
    Case {
        /// Its name
        name: String,
    },
    /// Be one of two processes
    Peer(peer::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let (library, version, join) = (arguments.library.as_path(), arguments.version, arguments.join);
    match &arguments.command {
        Command::Cases => {
            for (name, _) in cases::ALL {
                println!("{name}");
            }
            Ok(())
        }
        Command::Case { name } => cases::run(name, library, version, join),
        Command::Peer(given) => peer::run(library, version, join, given),
    }
}
