//! What must hold on every node before anything is started there.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::cluster::Cluster;
use crate::config::Transport;
use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::plan::{Facts, Job, OBJECT_STORE, Rdma};

/// Importing a native module on a cold disk takes its time.
const PATIENCE: Duration = Duration::from_secs(90);
const RDMA: &str = include_str!("../agent/rdma.py");

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
    let mut facts = facts;
    compare(&config, &checked, with_model)?;
    if matches!(config.transport, Transport::Auto | Transport::Rdma) {
        find_rdma(cluster, &config, &mut facts)?;
    }
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
    if config.ray && checked.versions.ray.is_none() {
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
    Ok(Facts { interface: (*interface).clone(), ports, rdma: None })
}

/// A node's RDMA ports: those that have its data address, and the others in words.
#[derive(Debug, Clone, Deserialize)]
struct Ports {
    ports: Vec<Rdma>,
    others: Vec<String>,
}

/// The port of each node's data address; that there is none is an error only if RDMA was asked for.
fn find_rdma(cluster: &mut Cluster, config: &Config, facts: &mut [Facts]) -> Result<(), ClusterError> {
    let addresses: Vec<_> = config.nodes().map(|node| node.address.to_string()).collect();
    let job = |(index, address): (usize, &String)| Job::python(index, "rdma", RDMA, &[address, "/"]);
    let jobs = addresses.iter().enumerate().map(job).collect();
    let answers = cluster.run_each(jobs, PATIENCE, |_, _| {})?;
    for ((node, answer), facts) in config.nodes().zip(answers).zip(facts) {
        let ports: Ports = answer.answer().ok_or_else(|| ClusterError::Agent {
            node: node.name.clone(),
            what: "rdma".to_owned(),
            cause: answer.last_line().to_owned(),
        })?;
        facts.rdma = choose_rdma(config, node, &ports)?;
    }
    Ok(())
}

fn choose_rdma(config: &Config, node: &Node, ports: &Ports) -> Result<Option<Rdma>, ClusterError> {
    let wanted = |port: &&Rdma| {
        node.rdma_device.as_ref().is_none_or(|name| [port.name(), port.device.clone()].contains(name))
    };
    let found = ports.ports.iter().filter(wanted).max_by_key(|port| port.active);
    if found.is_none() && config.transport == Transport::Rdma {
        let present: Vec<_> =
            ports.ports.iter().map(Rdma::name).chain(ports.others.iter().cloned()).collect();
        return Err(ClusterError::NoRdma {
            node: node.name.clone(),
            address: node.address.to_string(),
            present: if present.is_empty() { "none at all".to_owned() } else { present.join(", ") },
        });
    }
    Ok(found.cloned())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config() -> Config {
        let text = r#"
            model = "/models/m"
            [[nodes]]
            name = "a"
            local = true
            address = "192.168.100.1"
            [[nodes]]
            name = "b"
            ssh = "b"
            address = "192.168.100.2"
        "#;
        Config::parse(text, Path::new("c.toml")).unwrap()
    }

    fn good() -> Checked {
        let version = |version: &str| Some(version.to_owned());
        Checked {
            executable: "/usr/bin/python3".to_owned(),
            addresses: vec![
                ("lo".to_owned(), "127.0.0.1".to_owned()),
                ("enp1s0".to_owned(), "192.168.100.1".to_owned()),
            ],
            versions: Versions {
                python: "3.11.7".to_owned(),
                ray: version("2.60.0"),
                vllm: version("0.32.0"),
                halo: version("0.1.0"),
            },
            halo_import: None,
            model: version("digest"),
            shm_free: Some(4 << 30),
            port_error: None,
            ports: vec![1, 2, 3],
        }
    }

    fn judged(change: impl Fn(&mut Checked)) -> Result<Facts, ClusterError> {
        let (config, mut checked) = (config(), good());
        change(&mut checked);
        judge(&config, config.head(), &checked, true)
    }

    fn compared(change: impl Fn(&mut Checked)) -> String {
        let mut other = good();
        change(&mut other);
        compare(&config(), &[good(), other], true).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_good_node_gives_its_facts() {
        let facts = judged(|_| {}).unwrap();
        assert_eq!(facts.interface, "enp1s0");
        assert_eq!(facts.ports, ["1", "2", "3"]);
        assert_eq!(compared(|_| {}), "");
    }

    #[test]
    fn a_halo_that_cannot_be_imported_is_told_from_a_missing_one() {
        let error =
            judged(|checked| checked.halo_import = Some("ImportError: libfoo".to_owned())).unwrap_err();
        assert!(matches!(&error, ClusterError::HaloBroken { .. }), "{error}");
        let error = judged(|checked| checked.versions.halo = None).unwrap_err();
        assert!(matches!(&error, ClusterError::ModuleMissing { module, .. } if module == "halo"), "{error}");
    }

    #[test]
    fn a_small_shared_memory_is_refused_with_its_size() {
        let error = judged(|checked| checked.shm_free = Some(64 << 20)).unwrap_err();
        assert_eq!(error.to_string(), "/dev/shm of node a has 64 MiB free, 576 MiB are needed");
    }

    #[test]
    fn nodes_that_differ_are_named_with_what_differs() {
        let error = compared(|other| other.versions.vllm = Some("0.31.0".to_owned()));
        assert_eq!(error, "nodes have different versions of vLLM: a has 0.32.0, b has 0.31.0");
        let error = compared(|other| other.versions.python = "3.12.7".to_owned());
        assert_eq!(error, "nodes have different versions of Python: a has 3.11, b has 3.12");
        let error = compared(|other| other.model = Some("another".to_owned()));
        assert_eq!(error, "nodes a and b have different models at /models/m");
        assert_eq!(compared(|other| other.versions.python = "3.11.9".to_owned()), "");
    }
}
