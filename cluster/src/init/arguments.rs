//! init's command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use super::Answers;
use super::answers::{ContainerAnswer, NodeAnswer, network};
use crate::config::Link;

const EXAMPLES: &str = "At a terminal it asks for what is missing.

Examples:
  halo-cluster init
  halo-cluster init --node a=local --node b=me@board-b --model llama-3.1-8b";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The file to write.
    #[arg(default_value = "halo.toml")]
    pub file: PathBuf,
    /// A node, head first: its name, where ssh finds it (`local` for this machine), and, if they are not to be found
    /// or given out, its data address and interface.
    #[arg(long = "node", value_name = "NAME=TARGET[,ADDRESS[,INTERFACE]]")]
    nodes: Vec<NodeAnswer>,
    /// The model's folder, the same on every node, or its name in the catalogue.
    #[arg(long)]
    model: Option<String>,
    /// What joins the nodes, instead of the best that all have.
    #[arg(long, value_enum)]
    link: Option<Link>,
    /// The data network, instead of the addresses that are there or 192.168.100.0/24.
    #[arg(long, value_parser = network)]
    network: Option<(Ipv4Addr, u8)>,
    /// The interpreter on the nodes that has vllm, ray and halo.
    #[arg(long)]
    python: Option<String>,
    /// The container in which they are.
    #[arg(long, value_name = "ENGINE:NAME")]
    container: Option<ContainerAnswer>,
    /// What `configure` creates the container from.
    #[arg(long, requires = "container")]
    image: Option<String>,
    /// One more option for ssh; may be given several times.
    #[arg(long = "ssh-option", value_name = "OPTION", allow_hyphen_values = true)]
    ssh_options: Vec<String>,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

impl Arguments {
    pub fn answers(&self) -> Answers {
        Answers {
            nodes: self.nodes.clone(),
            model: self.model.clone(),
            link: self.link,
            network: self.network,
            python: self.python.clone(),
            container: self.container.clone(),
            image: self.image.clone(),
            ssh_options: self.ssh_options.clone(),
        }
    }
}
