//! `soft-roce`: runs any command over this machine's files in virtual machines with Soft-RoCE.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use halo_soft_roce::{Error, Kernel, Rig, build};
use miette::Diagnostic;

/// Virtual machines with Soft-RoCE: real verbs without an RDMA NIC.
#[derive(Debug, Parser)]
#[command(name = "soft-roce", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch a kernel and make its initramfs; `run` does it by itself
    Build {
        /// Which kernel
        #[arg(long, value_enum, default_value = "6.12")]
        kernel: KernelName,
    },
    /// Run a command in every machine, with RANK, WORLD, ADDRESS and PEER set
    Run(Run),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelName {
    #[value(name = "6.12")]
    Steady,
    #[value(name = "6.1")]
    Quick,
}

impl From<KernelName> for Kernel {
    fn from(name: KernelName) -> Self {
        match name {
            KernelName::Steady => Self::Steady,
            KernelName::Quick => Self::Quick,
        }
    }
}

#[derive(Debug, Args)]
struct Run {
    /// Machines
    #[arg(short = 'n', long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=2))]
    vms: u32,
    /// Processors per machine
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Memory per machine
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Seconds after which the machines are ended
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// The cable's MTU
    #[arg(long, default_value_t = 9000)]
    mtu: u32,
    /// Cables between the machines, each with a device of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    cables: u32,
    /// Which kernel: 6.12 for correctness and faults, 6.1 for latency
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: KernelName,
    /// Sets a variable for the command
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = setting)]
    environment: Vec<(String, String)>,
    /// The command, a line of bash
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build { kernel } => build(kernel.into()).map(|_| ExitCode::SUCCESS),
        Command::Run(options) => run(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error[{}]: {error}", error.code().map(|code| code.to_string()).unwrap_or_default());
        if let Some(help) = error.help() {
            eprintln!("  help: {help}");
        }
        ExitCode::FAILURE
    })
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is meant")?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{name}` is not the name of a variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn run(options: &Run) -> Result<ExitCode, Error> {
    let mut rig = Rig::new()
        .kernel(options.kernel.into())
        .vcpus(options.vcpus)
        .memory(&options.memory)
        .mtu(options.mtu)
        .cables(options.cables)
        .timeout(Duration::from_secs(options.timeout))
        .echo(true);
    for (name, value) in &options.environment {
        rig = rig.env(name, value);
    }
    let outcome = rig.run(&vec![options.command.join(" "); options.vms as usize])?;
    for (index, vm) in outcome.vms.iter().enumerate() {
        for complaint in &vm.kernel_complaints {
            eprintln!("machine {index}: the kernel says: {complaint}");
        }
        if vm.status.is_none() {
            eprintln!("machine {index} ended without a status; its console's last lines:\n{}", vm.console);
        }
    }
    if outcome.timed_out {
        eprintln!("the time of {} s was up", options.timeout);
        return Ok(ExitCode::from(124));
    }
    let first = outcome.vms.iter().map(|vm| vm.status.unwrap_or(125)).find(|status| *status != 0);
    Ok(ExitCode::from(first.unwrap_or(0) as u8))
}
