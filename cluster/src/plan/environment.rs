//! The environment of every process on a node.

use std::collections::BTreeMap;

use super::{Facts, Rdma, Secrets};
use crate::config::Config;

/// All of it; Ray's workers inherit it from Ray.
pub fn environment(
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
    if config.ray {
        set("RAY_USAGE_STATS_ENABLED", "0");
    }
    set(halo_env::HALO_TRANSPORT.name, config.transport.name());
    set(halo_env::HALO_ADDRESS.name, &node.address.to_string());
    set(halo_env::HALO_STATS_FILE.name, "{folder}/stats/{name}.{rank}.{pid}.json");
    let found = facts[index].rdma.as_ref();
    // Several are a list, of which the one that was found has the data address.
    let listed = node.rdma_device.clone().filter(|named| named.contains(','));
    let devices = listed.or_else(|| found.map(Rdma::name)).or_else(|| node.rdma_device.clone());
    if let Some(devices) = &devices {
        set(halo_env::HALO_RDMA_DEVICE.name, devices);
    }
    // RCCL, which vLLM may use besides, takes device and GID by number; the numbers differ from node to node.
    if let Some(rdma) = found {
        set("NCCL_IB_HCA", &format!("={}", rdma.name()));
        set("NCCL_IB_GID_INDEX", &rdma.gid_index.to_string());
    }
    if let Ok(token) = std::env::var("HF_TOKEN") {
        set("HF_TOKEN", &token);
    }
    env.extend(config.entry.iter().flat_map(|entry| entry.env.clone()));
    env.extend(config.env.clone());
    env.insert(halo_env::HALO_KEY.name.to_owned(), secrets.halo.clone());
    if config.ray {
        // Ray runs whatever reaches its ports; with a token, only what this launch started does.
        env.insert("RAY_AUTH_MODE".to_owned(), "token".to_owned());
        env.insert("RAY_AUTH_TOKEN".to_owned(), secrets.ray.clone());
    }
    env
}

/// Whether a variable's value is nobody else's business.
pub fn is_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.ends_with(word))
}

/// The environment as a shell would take it, one variable a line, without secrets.
pub fn shown(env: &BTreeMap<String, String>) -> String {
    let line = |(name, value): (&String, &String)| {
        let value = if is_secret(name) { "(secret)" } else { value };
        format!("{name}={}\n", shlex::try_quote(value).unwrap_or_default())
    };
    env.iter().map(line).collect()
}
