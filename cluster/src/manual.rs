//! Completion scripts and man pages, from the same definition as the command line itself.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::ClusterError;

const COMPLETIONS_EXAMPLES: &str = "Examples:
  eval \"$(halo-cluster completions bash)\"
  halo-cluster completions fish >~/.halo-cluster.fish";
const MAN_EXAMPLES: &str = "Examples:
  halo-cluster man --into ~/.local/share/man/man1";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// For which shell.
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct Man {
    /// The folder to write to, a file for every command.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

/// Prints the script.
pub fn completions(completions: &Completions) {
    clap_complete::generate(completions.shell, &mut Cli::command(), "halo-cluster", &mut std::io::stdout());
}

/// Writes the pages.
pub fn man(man: &Man) -> Result<(), ClusterError> {
    let refuse = |source| ClusterError::Man { path: man.into.clone(), source };
    std::fs::create_dir_all(&man.into).map_err(refuse)?;
    clap_mangen::generate_to(Cli::command(), &man.into).map_err(refuse)?;
    println!("{} page(s) in {}", pages(&man.into), man.into.display());
    Ok(())
}

fn pages(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "1")).count()
}
