//! `hosts`: several hosts on one machine, by hand.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use halo_hosts::{Hosts, HostsError, Record};
use miette::Diagnostic;

/// Several hosts on one machine: namespaces with sshd, a management network and a data network.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start hosts and say how to reach them.
    Up {
        /// How many.
        #[arg(short = 'n', long = "number", default_value_t = 2)]
        count: usize,
        #[command(flatten)]
        name: Name,
    },
    /// Take hosts down, with everything that runs on them.
    Down {
        #[command(flatten)]
        name: Name,
        /// All hosts of this machine, whoever made them.
        #[arg(long)]
        all: bool,
    },
    /// List the hosts that are up.
    List,
    /// Run a command on one host.
    Exec {
        /// Its number, from 1.
        number: usize,
        #[command(flatten)]
        name: Name,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct Name {
    /// What the hosts are called: PREFIX-1, PREFIX-2, ...
    #[arg(long, default_value = "halo")]
    prefix: String,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.code().map(|code| code.to_string()).unwrap_or_default();
            eprintln!("error[{code}]: {error}");
            if let Some(help) = error.help() {
                eprintln!("  help: {help}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<(), HostsError> {
    match action {
        Action::Up { count, name } => {
            let hosts = Hosts::up_named(&name.prefix, count)?;
            describe(&hosts, count);
        }
        Action::Down { all: true, .. } => {
            for record in Record::all() {
                Hosts::down(&record.name)?;
                println!("{} is down", record.name);
            }
        }
        Action::Down { name, .. } => {
            let were_up = Hosts::down(&name.prefix)?;
            let what = if were_up { "are down" } else { "were not up" };
            println!("hosts called {} {what}", name.prefix);
        }
        Action::List => {
            for record in Record::all() {
                for host in record.hosts {
                    println!("{}  ssh {}  data {}", host.name, host.management, host.address);
                }
            }
        }
        Action::Exec { number, name, command } => {
            let hosts = Hosts::find(&name.prefix)?;
            if number == 0 || number > hosts.count() {
                return Err(HostsError::NotUp { name: format!("{}-{number}", name.prefix) });
            }
            let mut command = hosts.command(number, command);
            let source = command.exec(); // returns only when it failed
            return Err(HostsError::Start { command: format!("{command:?}"), source });
        }
    }
    Ok(())
}

fn describe(hosts: &Hosts, count: usize) {
    for number in 1..=count {
        let host = hosts.host(number);
        println!("{}  ssh {}  data {}", host.name, host.management, host.address);
    }
    println!("ssh -F {} {}", hosts.ssh_config().display(), hosts.host(1).name);
}
