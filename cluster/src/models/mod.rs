//! `models`: what is known of models, whether they fit, and how they come to the nodes.

mod catalogue;
mod download;
mod error;
mod fit;
mod memory;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use catalogue::Catalogue;
pub use error::ModelsError;

use self::fit::{Demand, Room};
use crate::config::Config;
use crate::error::ClusterError;
use crate::state::Folder;

const EXAMPLES: &str = "Examples:
  halo-cluster models list
  halo-cluster models fit --all --nodes 2 --memory 124";
const LIST_EXAMPLES: &str = "Examples:
  halo-cluster models list
  halo-cluster models list --json --catalogue models.toml";
const SHOW_EXAMPLES: &str = "Examples:
  halo-cluster models show gemma-4-31b";
const FIT_EXAMPLES: &str = "Examples:
  halo-cluster models fit --all --nodes 2 --memory 124
  halo-cluster models fit qwen3.5-122b-awq8 cluster.toml --context 32768 --sequences 4";
const DOWNLOAD_EXAMPLES: &str = "Examples:
  HF_TOKEN=... halo-cluster models download llama-3.1-8b cluster.toml
  halo-cluster models download Qwen/Qwen3.6-35B-A3B cluster.toml --into /models";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Models {
    /// A catalogue of your own, besides the built-in one.
    #[arg(long, global = true, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models of the catalogue.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// As JSON, with every figure.
        #[arg(long)]
        json: bool,
    },
    /// Show one model: its figures, what vLLM is told, what was tried.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name in the catalogue.
        model: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compute whether models fit: weights, cache and context against the nodes' memory.
    Fit(Fit),
    /// Fetch a model from the hub to the head, and from there to the other nodes over the data network.
    #[command(after_help = DOWNLOAD_EXAMPLES)]
    Download {
        /// A name of the catalogue, or the hub's OWNER/NAME.
        model: String,
        /// The configuration (docs/cluster.md).
        config: PathBuf,
        /// The folder of the models, the same on every node [default: `models` of the configuration, else the one of its model].
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// The branch, tag or commit.
        #[arg(long, default_value = "main")]
        revision: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = FIT_EXAMPLES)]
struct Fit {
    /// The model, by its name in the catalogue.
    #[arg(required_unless_present = "all")]
    model: Option<String>,
    /// The configuration whose nodes are asked for their memory.
    #[arg(required_unless_present_any = ["memory", "all"])]
    config: Option<PathBuf>,
    /// All models of the catalogue; the first argument is then the configuration.
    #[arg(long)]
    all: bool,
    /// Ask no node: so many machines with one rank each ...
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64), requires = "memory")]
    nodes: u64,
    /// ... and so much memory for the GPU of each, in GiB.
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=65536), conflicts_with = "config")]
    memory: Option<u64>,
    /// Tokens of one sequence.
    #[arg(long, value_name = "TOKENS", default_value_t = 16_384, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    context: u64,
    /// Sequences at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=65536))]
    sequences: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Does what the command line says.
pub fn run(models: &Models) -> Result<(), ClusterError> {
    let catalogue = Catalogue::open(models.catalogue.as_deref())?;
    match &models.action {
        Action::List { json: true } => show::json(&catalogue.models),
        Action::List { json: false } => print!("{}", show::list(&catalogue.models)),
        Action::Show { model, json } => {
            let model = catalogue.find(model)?;
            if *json { show::json(model) } else { print!("{}", show::model(model)) }
        }
        Action::Fit(request) => request.run(&catalogue)?,
        Action::Download { model, config, into, revision } => {
            let config = Config::read(config)?;
            let own = PathBuf::from(config.models_folder());
            let wanted = download::Wanted::new(&catalogue, model, revision, into.as_ref().unwrap_or(&own))?;
            download::run(&config, &Folder::open()?, &wanted)?;
            // `launch` looks for a name of the catalogue there, and nowhere else.
            let named = catalogue.find(model).is_ok() && into.as_ref().is_none_or(|into| *into == own);
            println!("{}", show::downloaded(&wanted.folder, named.then_some(model), config.nodes.len()));
        }
    }
    Ok(())
}

impl Fit {
    fn run(&self, catalogue: &Catalogue) -> Result<(), ClusterError> {
        // With --all there is no model to name, so a lone argument is the configuration.
        let (name, config) = match (&self.model, &self.config) {
            (Some(config), None) if self.all => (None, Some(PathBuf::from(config))),
            (name, config) => (name.as_deref(), config.clone()),
        };
        let mut utilisation = fit::UTILISATION;
        let rooms = match (&config, self.memory) {
            (Some(path), _) => {
                let config = Config::read(path)?;
                utilisation = show::utilisation(&config).unwrap_or(utilisation);
                memory::rooms(&config)?
            }
            (None, Some(memory)) => {
                let room = |index| Room { node: format!("node {}", index + 1), memory: memory << 30 };
                (0..self.nodes).map(room).collect()
            }
            (None, None) => {
                return Err(ModelsError::Argument {
                    message: "there are no nodes to fit into".to_owned(),
                    help: "give a configuration, or --nodes N --memory GIB".to_owned(),
                }
                .into());
            }
        };
        let demand = Demand { context: self.context, sequences: self.sequences, utilisation };
        let chosen = match name {
            Some(name) => vec![catalogue.find(name)?],
            None => catalogue.models.iter().collect(),
        };
        let answers: Vec<_> = chosen.iter().map(|model| fit::fit(model, &rooms, demand)).collect();
        if self.json {
            show::json(&answers);
        } else {
            print!("{}", show::fits(&answers, &rooms, demand));
        }
        match answers.as_slice() {
            [answer] if name.is_some() => show::verdict(answer).map_err(ClusterError::from),
            _ => Ok(()),
        }
    }
}
