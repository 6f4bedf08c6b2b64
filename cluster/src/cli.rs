//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Problem, Transport};
use crate::config_error::ConfigError;
use crate::launch::{Request, Restart};
use crate::manual::{Completions, Man};
use crate::models::Models;
use crate::state::Folder;
use crate::top::Top;
use crate::verify::Verify;
use crate::{configure, doctor, init};

const EXAMPLES: &str = "Without a command, at a terminal: a menu of all of them.

Examples:
  halo-cluster launch --local
  halo-cluster models list";
const STATUS_EXAMPLES: &str = "Examples:
  halo-cluster status
  halo-cluster status --json";
const STOP_EXAMPLES: &str = "Examples:
  halo-cluster stop";
const LOGS_EXAMPLES: &str = "Examples:
  halo-cluster logs
  halo-cluster logs a-vllm";
const LAUNCH_EXAMPLES: &str = "Examples:
  halo-cluster launch --local
  halo-cluster launch cluster.toml --detach --restart on-failure
  halo-cluster launch cluster.toml --model gpt-oss-20b --dry-run
  halo-cluster launch cluster.toml --print-environment
  halo-cluster launch cluster.toml --systemd halo-cluster.service";

/// Serve one model on several machines: vLLM and Ray over ssh, with halo between the ranks.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration: look at the nodes and find what joins them.
    Init(init::Arguments),
    /// Look at all nodes and say what is as it should be and what is not; changes nothing.
    Doctor(doctor::Arguments),
    /// Show what would be changed on the nodes to make them as they should be; change it, take it back.
    Configure(configure::Arguments),
    /// Start everything, wait until the model answers, and serve until Ctrl-C.
    Launch(Launch),
    /// Know models: list them, see whether they fit, fetch them to all nodes.
    Models(Models),
    /// Measure every path between the nodes and judge it.
    Verify(Verify),
    /// Show the nodes, the ranks, and what their collectives travel by.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// As JSON, with every counter.
        #[arg(long)]
        json: bool,
    },
    /// Watch nodes, links, collectives and vLLM as they work.
    Top(Top),
    /// Stop the launch; nothing of it is left on any node.
    #[command(after_help = STOP_EXAMPLES)]
    Stop,
    /// List the logs, or print one.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs {
        /// Which: NODE-ray, NODE-vllm or launch.
        name: Option<String>,
    },
    /// Print the completion script of a shell.
    Completions(Completions),
    /// Write the man pages.
    Man(Man),
}

#[derive(Debug, Args)]
#[command(after_help = LAUNCH_EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Launch {
    /// The configuration (docs/cluster.md).
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    config: Option<PathBuf>,
    /// Two ranks on this machine with a tiny random model; needs neither root nor a configuration.
    #[arg(long)]
    local: bool,
    /// Return when the model is served, and leave it running.
    #[arg(long)]
    pub detach: bool,
    /// Print the commands instead of running them, so that a person can.
    #[arg(long)]
    pub dry_run: bool,
    /// Check the nodes and print the environment that the processes on each would get.
    #[arg(long, conflicts_with = "dry_run")]
    pub print_environment: bool,
    /// Launch a served model again when it fails.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    restart: Restart,
    /// Do not let doctor look at the nodes before.
    #[arg(long)]
    skip_preflight: bool,
    /// Write a unit of systemd that runs this launch, and end.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["local", "dry_run", "print_environment", "detach"])]
    pub systemd: Option<PathBuf>,
    /// Let vLLM join the nodes itself instead of Ray.
    #[arg(long)]
    without_ray: bool,
    /// The model's folder or its name in the catalogue, instead of the configuration's.
    #[arg(long, conflicts_with = "local")]
    model: Option<String>,
    /// The port of the API, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How payloads travel, instead of the configuration's.
    #[arg(long, value_enum)]
    transport: Option<Transport>,
    /// The Python interpreter on all nodes, instead of the configuration's.
    #[arg(long)]
    python: Option<String>,
}

impl Launch {
    /// The configuration with what the command line says instead.
    pub fn request(&self, folder: &Folder) -> Result<Request, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::local(&folder.tiny_model()),
        };
        let refused = |flag: &str, (_, message, help): Problem| ConfigError::Invalid {
            place: flag.to_owned(),
            message,
            help,
        };
        if let Some(model) = &self.model {
            config
                .set_model(model)
                .and_then(|()| config.check())
                .map_err(|problem| refused("--model", problem))?;
        }
        config.port = self.port.unwrap_or(config.port);
        config.transport = self.transport.unwrap_or(config.transport);
        if let Some(python) = &self.python {
            config.python = Some(python.clone());
            for node in &mut config.nodes {
                node.get_mut().python = None;
            }
        }
        if self.without_ray {
            config.ray = false;
            config.check().map_err(|problem| refused("--without-ray", problem))?;
        }
        let (skip_preflight, options) = (self.skip_preflight, self.options());
        Ok(Request { config, file: self.config.clone(), skip_preflight, restart: self.restart, options })
    }

    /// What a unit of systemd has to repeat; it restarts by itself.
    fn options(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add =
            |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
        add("model", self.model.clone());
        add("port", self.port.map(|port| port.to_string()));
        add("transport", self.transport.map(|transport| transport.name().to_owned()));
        add("python", self.python.clone());
        words.extend(self.without_ray.then(|| "--without-ray".to_owned()));
        words.extend(self.skip_preflight.then(|| "--skip-preflight".to_owned()));
        words
    }
}
