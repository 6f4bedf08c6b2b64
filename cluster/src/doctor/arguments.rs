//! doctor's command line.

use std::path::PathBuf;

use clap::Args;

use super::Check;

const EXAMPLES: &str = "The exit status is 1 if a check fails.

Examples:
  halo-cluster doctor
  halo-cluster doctor cluster.toml --only mtu,frames,memlock
  halo-cluster doctor --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
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
