//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Transport};
use crate::config_error::ConfigError;
use crate::doctor::Check;
use crate::launch::Request;
use crate::models::Models;
use crate::state::Folder;
use crate::top::Top;

/// Serve one model on several machines: vLLM and Ray over ssh, with halo between the ranks.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at all nodes and say what is as it should be and what is not; changes nothing.
    Doctor(Doctor),
    /// Start everything, wait until the model answers, and serve until Ctrl-C.
    Launch(Launch),
    /// Know models: list them, see whether they fit, fetch them to all nodes.
    Models(Models),
    /// Show the nodes, the ranks, and what their collectives travel by.
    Status {
        /// As JSON, with every counter.
        #[arg(long)]
        json: bool,
    },
    /// Watch nodes, links, collectives and vLLM as they work.
    Top(Top),
    /// Stop the launch; nothing of it is left on any node.
    Stop,
    /// List the logs, or print one.
    Logs {
        /// Which: NODE-ray, NODE-vllm or launch.
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: halo-cluster doctor halo.toml --only mtu,frames,memlock\n\nThe exit status is 1 if a check fails."
)]
pub struct Doctor {
    /// The configuration (docs/cluster.md).
    #[arg(default_value = "halo.toml")]
    pub config: PathBuf,
    /// Only these checks, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHECK")]
    pub only: Vec<Check>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
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
    /// Print the commands instead of running them.
    #[arg(long)]
    pub dry_run: bool,
    /// The model's folder, instead of the configuration's.
    #[arg(long, conflicts_with = "local")]
    model: Option<PathBuf>,
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
        if let Some(model) = &self.model {
            *config.model.get_mut() = model.to_string_lossy().into_owned();
        }
        config.port = self.port.unwrap_or(config.port);
        config.transport = self.transport.unwrap_or(config.transport);
        if let Some(python) = &self.python {
            config.python = Some(python.clone());
            for node in &mut config.nodes {
                node.get_mut().python = None;
            }
        }
        Ok(Request { config, file: self.config.clone() })
    }
}
