//! configure's command line.

use std::path::PathBuf;

use clap::Args;

use super::{Mode, Options};

const EXAMPLES: &str = "It never touches the interface by which a node is reached, and never reboots.

Examples:
  halo-cluster configure
  halo-cluster configure halo.toml --apply --yes --only network,limits
  halo-cluster configure --undo --yes";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    /// The configuration (docs/cluster.md).
    #[arg(default_value = "halo.toml")]
    pub config: PathBuf,
    /// Only show what would be changed; the default.
    #[arg(long, conflicts_with_all = ["apply", "undo"])]
    dry_run: bool,
    /// Change it, after one question.
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Take back everything that was changed, and nothing else.
    #[arg(long, conflicts_with = "only")]
    undo: bool,
    /// The answer to the question is yes.
    #[arg(long, short)]
    yes: bool,
    /// Only these steps, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "STEP", value_parser = super::NAMES)]
    only: Vec<String>,
    /// Only these nodes, separated by commas.
    #[arg(long = "node", value_delimiter = ',', value_name = "NAME")]
    nodes: Vec<String>,
    /// Ask for sudo's password, the same on all nodes that need one.
    #[arg(long)]
    ask_sudo_password: bool,
}

impl Arguments {
    pub fn options(&self) -> Options {
        Options {
            mode: match (self.apply, self.undo) {
                (true, _) => Mode::Apply,
                (_, true) => Mode::Undo,
                _ => Mode::Show,
            },
            yes: self.yes,
            only: self.only.clone(),
            nodes: self.nodes.clone(),
            ask_sudo_password: self.ask_sudo_password,
        }
    }
}
