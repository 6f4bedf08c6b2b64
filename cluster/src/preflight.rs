//! What must hold on every node before anything is started there.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::cluster::Cluster;
use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::plan::{Facts, OBJECT_STORE};

/// Importing a native module on a cold disk takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// An agent's answer to `check`.
#[derive(Debug, Clone, Deserialize)]
struct Checked {
    executable: String,
    addresses: Vec<(String, String)>,
    versions: Versions,
    halo_import: Option<String>,
    model: Option<String>,
    shm_free: Option<u64>,
    port_error: Option<String>,
    ports: Vec<u16>,
}

#[derive(Debug, Clone, Deserialize)]
struct Versions {
    python: String,
    ray: Option<String>,
    vllm: Option<String>,
    halo: Option<String>,
}

/// Checks all nodes at once; the facts that the commands need, per node.
pub fn run(cluster: &mut Cluster, with_model: bool) -> Result<Vec<Facts>, ClusterError> {
    let config = cluster.config.clone();
    let request = |(index, node): (usize, &Node)| {
        let port = (index == 0).then_some(config.port);
        let check = json!({"op": "check", "model": config.model.get_ref(), "address": node.address.to_string(),
            "host": config.host.to_string(), "port": port});
        (index, check)
    };
    let answers = cluster.ask_each(config.nodes().enumerate().map(request).collect(), PATIENCE)?;
    let mut checked = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        checked.push(serde_json::from_value::<Checked>(answer).map_err(|error| ClusterError::Agent {
            node: cluster.name(index),
            what: "check".to_owned(),
            cause: error.to_string(),
        })?);
    }
    let facts = config.nodes().zip(&checked).map(|(node, checked)| judge(&config, node, checked, with_model));
    let facts = facts.collect::<Result<Vec<_>, _>>()?;
    compare(&config, &checked, with_model)?;
    Ok(facts)
}

/// One node by itself.
fn judge(config: &Config, node: &Node, checked: &Checked, with_model: bool) -> Result<Facts, ClusterError> {
    let name = node.name.clone();
    let missing = |module: &str, help: &str| ClusterError::ModuleMissing {
        node: node.name.clone(),
        module: module.to_owned(),
        python: checked.executable.clone(),
        help: help.to_owned(),
    };
    let other_python = "or set `python` to the interpreter that has it";
    if checked.versions.ray.is_none() {
        return Err(missing("Ray", &format!("install it there: pip install ray, {other_python}")));
    }
    if checked.versions.vllm.is_none() {
        return Err(missing("vLLM", &format!("install it there, {other_python}")));
    }
    if checked.versions.halo.is_none() {
        return Err(missing("halo", &format!("install it there: pip install ./python, {other_python}")));
    }
    if let Some(cause) = checked.halo_import.clone() {
        return Err(ClusterError::HaloBroken { node: name, cause });
    }
    let address = node.address.to_string();
    let holders: Vec<_> =
        checked.addresses.iter().filter(|(_, own)| *own == address).map(|(at, _)| at).collect();
    let Some(interface) = holders.first() else {
        let present =
            checked.addresses.iter().map(|(at, own)| format!("{own} ({at})")).collect::<Vec<_>>().join(", ");
        return Err(ClusterError::AddressAbsent { node: name, address, present });
    };
    if let Some(wanted) = node.interface.as_ref().filter(|wanted| !holders.contains(wanted)) {
        let (interface, actual) = (wanted.clone(), (*interface).clone());
        return Err(ClusterError::WrongInterface { node: name, address, interface, actual });
    }
    if let Some(cause) = checked.port_error.clone() {
        return Err(ClusterError::PortTaken { node: name, port: config.port, cause });
    }
    if with_model && checked.model.is_none() {
        return Err(ClusterError::ModelMissing { node: name, path: config.model.get_ref().clone() });
    }
    // Ray would quietly use a disk instead.
    let (free, needed) = (checked.shm_free.unwrap_or(0), OBJECT_STORE + (64 << 20));
    if free < needed {
        return Err(ClusterError::ShmFull { node: name, free_mib: free >> 20, needed_mib: needed >> 20 });
    }
    let ports = checked.ports.iter().map(u16::to_string).collect::<Vec<_>>().try_into().map_err(|_| {
        ClusterError::Agent { node: name, what: "check".to_owned(), cause: "no free ports".to_owned() }
    })?;
    Ok(Facts { interface: (*interface).clone(), ports })
}

/// All nodes with the head.
fn compare(config: &Config, checked: &[Checked], with_model: bool) -> Result<(), ClusterError> {
    let first = &checked[0];
    for (node, other) in config.nodes().zip(checked).skip(1) {
        let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
        let pairs = [
            // Ray wants the same Python down to the minor version.
            ("Python", minor(&first.versions.python), minor(&other.versions.python)),
            ("Ray", first.versions.ray.clone(), other.versions.ray.clone()),
            ("vLLM", first.versions.vllm.clone(), other.versions.vllm.clone()),
            ("halo", first.versions.halo.clone(), other.versions.halo.clone()),
        ];
        for (module, ours, theirs) in pairs {
            if ours != theirs {
                return Err(ClusterError::VersionsDiffer {
                    module: module.to_owned(),
                    first: config.head().name.clone(),
                    first_version: ours.unwrap_or_default(),
                    other: node.name.clone(),
                    other_version: theirs.unwrap_or_default(),
                });
            }
        }
        if with_model && first.model != other.model {
            return Err(ClusterError::ModelsDiffer {
                first: config.head().name.clone(),
                other: node.name.clone(),
                path: config.model.get_ref().clone(),
            });
        }
    }
    Ok(())
}
