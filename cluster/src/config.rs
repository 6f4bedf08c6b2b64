//! The configuration file: what it may say, and what is said when it says something else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config_error::ConfigError;

mod check;
mod model;
mod setup;
mod values;

pub use check::Problem;
pub use model::Entry;
pub use setup::{Container, Engine, Link, Network, System};

/// A cluster and what it serves. The first node is the head: Ray's head and vLLM's server run there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model's folder, at the same place on every node; in the file it may be a name of the catalogue.
    pub model: Spanned<String>,
    /// The folder of the models that are named from the catalogue.
    pub models: Option<String>,
    /// The catalogue's entry, if the model was named from it.
    #[serde(skip)]
    pub entry: Option<Entry>,
    /// How halo's payloads travel.
    #[serde(default)]
    pub transport: Transport,
    /// The address at which vLLM listens.
    #[serde(default = "values::default_host", deserialize_with = "values::ip_address")]
    pub host: IpAddr,
    /// The port at which vLLM listens.
    #[serde(default = "values::default_port", deserialize_with = "values::port")]
    pub port: u16,
    /// The Python interpreter on the nodes.
    pub python: Option<String>,
    /// Whether Ray runs vLLM's ranks; else vLLM's own several-node mode does.
    #[serde(default = "values::yes")]
    pub ray: bool,
    /// The nodes, head first.
    pub nodes: Vec<Spanned<Node>>,
    /// The data network.
    #[serde(default)]
    pub network: Network,
    /// The container in which Python, vLLM and Ray are, on every node.
    pub container: Option<Container>,
    /// The nodes' own settings.
    #[serde(default)]
    pub system: System,
    /// What vLLM is told besides.
    #[serde(default)]
    pub vllm: Vllm,
    /// What ssh is told besides.
    #[serde(default)]
    pub ssh: Ssh,
    /// Environment variables on every node.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it is called in messages and log files.
    pub name: String,
    /// Where ssh finds it; not for a local node.
    pub ssh: Option<String>,
    /// Whether it is the machine on which halo-cluster runs.
    #[serde(default)]
    pub local: bool,
    /// Its address on the data network.
    #[serde(deserialize_with = "values::ip_address")]
    pub address: IpAddr,
    /// The interface that has the address; found by itself if not given.
    #[serde(default, deserialize_with = "setup::interface")]
    pub interface: Option<String>,
    /// The RDMA device, if not the one that has the address; or a comma list, which has that one, of several to be used.
    pub rdma_device: Option<String>,
    /// Its Python interpreter, if not the cluster's.
    pub python: Option<String>,
    /// How many ranks run there: one per GPU.
    #[serde(default = "values::one", deserialize_with = "values::rank_count")]
    pub ranks: usize,
}

/// `[vllm]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vllm {
    /// More arguments for `vllm serve`.
    #[serde(default)]
    pub args: Vec<Spanned<String>>,
}

/// `[ssh]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// More options for ssh, such as `-F` and a file.
    #[serde(default)]
    pub options: Vec<String>,
}

/// `[timeouts]`, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Until a node answers.
    #[serde(deserialize_with = "values::seconds")]
    pub connect: Duration,
    /// Until Ray runs on every node.
    #[serde(deserialize_with = "values::seconds")]
    pub ray: Duration,
    /// Until the model is loaded and answers.
    #[serde(deserialize_with = "values::seconds")]
    pub ready: Duration,
    /// Until processes that were asked to stop are killed.
    #[serde(deserialize_with = "values::seconds")]
    pub stop: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let [connect, ray, ready, stop] = [10, 60, 900, 15].map(Duration::from_secs);
        Self { connect, ray, ready, stop }
    }
}

/// How payloads travel: the values of `HALO_TRANSPORT`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The best that each pair of ranks has.
    #[default]
    Auto,
    /// RDMA or an error.
    Rdma,
    /// TCP.
    Tcp,
    /// Shared memory or an error.
    Shm,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rdma => "rdma",
            Self::Tcp => "tcp",
            Self::Shm => "shm",
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&crate::config_error::read(path)?, path)
    }

    /// Reads and checks `text`, which stands in `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
        let model = config.model.get_ref().clone();
        config.set_model(&model).and_then(|()| config.check()).map_err(|(span, message, help)| {
            ConfigError::Invalid { place: crate::config_error::place(path, text, span), message, help }
        })?;
        Ok(config)
    }

    /// What `launch --local` uses: this machine alone, two ranks, a model made on the spot.
    pub fn local(model: &Path) -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let node = Node {
            name: "local".to_owned(),
            ssh: None,
            local: true,
            address: loopback,
            interface: None,
            rdma_device: None,
            python: None,
            ranks: 2,
        };
        let args = ["--enforce-eager", "--max-model-len", "512"];
        Self {
            model: Spanned::new(0..0, model.to_string_lossy().into_owned()),
            models: None,
            entry: None,
            transport: Transport::Shm,
            host: loopback,
            port: values::default_port(),
            python: None,
            ray: true,
            nodes: vec![Spanned::new(0..0, node)],
            network: Network::default(),
            container: None,
            system: System::default(),
            vllm: Vllm { args: args.map(|word| Spanned::new(0..0, word.to_owned())).to_vec() },
            ssh: Ssh::default(),
            // The tiny model needs little; vLLM's CPU platform would take gigabytes for its cache.
            env: BTreeMap::from([("VLLM_CPU_KVCACHE_SPACE".to_owned(), "1".to_owned())]),
            timeouts: Timeouts::default(),
        }
    }

    /// All nodes, head first.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter().map(Spanned::get_ref)
    }

    /// The node of Ray's head and vLLM's server.
    pub fn head(&self) -> &Node {
        self.nodes[0].get_ref()
    }

    /// The tensor-parallel size.
    pub fn world(&self) -> usize {
        self.nodes().map(|node| node.ranks).sum()
    }

    /// The interpreter of `node`: its own, the cluster's, this shell's environment if it is local, else python3.
    pub fn python_of(&self, node: &Node) -> String {
        let active = || {
            let active = std::env::var("VIRTUAL_ENV").ok().filter(|path| node.local && !path.is_empty());
            active.map(|path| format!("{path}/bin/python"))
        };
        let given = node.python.clone().or_else(|| self.python.clone());
        given.or_else(active).unwrap_or_else(|| "python3".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = r#"
        model = "/models/m"
        [[nodes]]
        name = "a"
        local = true
        address = "192.168.100.1"
        [[nodes]]
        name = "b"
        ssh = "me@b"
        address = "192.168.100.2"
        ranks = 2
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("c.toml"))
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse(TWO).unwrap();
        assert_eq!((config.transport, config.port, config.world()), (Transport::Auto, 8000, 3));
        assert_eq!(config.host, IpAddr::from([0, 0, 0, 0]));
        assert_eq!(config.head().name, "a");
        assert_eq!(config.timeouts, Timeouts::default());
        assert_eq!(config.python_of(config.nodes[1].get_ref()), "python3");
    }

    #[test]
    fn a_nodes_python_wins_over_the_clusters() {
        let text = format!("python = \"/all\"\n{TWO}python = \"/own\"\n");
        let config = parse(&text).unwrap();
        let python = |index: usize| config.python_of(config.nodes[index].get_ref());
        assert_eq!((python(0), python(1)), ("/all".to_owned(), "/own".to_owned()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s).{0,400}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_damage_to_a_good_file_makes_the_reader_panic(at in 0..TWO.len(), length in 0usize..40, with in "(?s).{0,8}") {
            let mut text = TWO.to_owned();
            text.replace_range(at..(at + length).min(TWO.len()), &with);
            if let Err(error) = parse(&text) {
                prop_assert!(error.to_string().starts_with("c.toml:"), "{}", error);
            }
        }

        #[test]
        fn every_unknown_key_is_refused_by_name_and_line(key in "[a-z]{3,12}", lines in 0usize..9) {
            prop_assume!(parse(&format!("{key} = 1\n{TWO}")).is_err_and(|e| matches!(e, ConfigError::UnknownKey { .. })));
            let text = format!("{}{key} = 1\n{TWO}", "\n".repeat(lines));
            let error = parse(&text).unwrap_err().to_string();
            prop_assert_eq!(error, format!("c.toml:{}:1: unknown key `{key}`", lines + 1));
        }

        #[test]
        fn ports_and_rank_counts_have_their_range(port: i64, ranks in -5i64..200) {
            let good = parse(&format!("port = {port}\n{TWO}")).is_ok();
            prop_assert_eq!(good, (1..=65535).contains(&port));
            let good = parse(&TWO.replace("ranks = 2", &format!("ranks = {ranks}"))).is_ok();
            prop_assert_eq!(good, (1..=64).contains(&ranks));
        }
    }
}
