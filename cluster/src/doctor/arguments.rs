//! doctor's command line.

use std::path::PathBuf;

use clap::Args;

use super::Check;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: halo-cluster doctor halo.toml --only mtu,frames,memlock\n\nThe exit status is 1 if a check fails."
)]
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
