//! What must hold before anything is started: doctor's rows that decide whether a launch can work, and what only the
//! interpreter that will serve knows.

mod checks;

use std::time::{Duration, Instant};

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
/// How often the agents are given a sign of life while doctor looks.
const BREATH: Duration = Duration::from_millis(100);

/// An agent's answer to `check`.
#[derive(Debug, Clone, Deserialize)]
struct Checked {
    addresses: Vec<(String, String)>,
    halo_import: Option<String>,
    shm_free: Option<u64>,
    ports: Vec<u16>,
}

/// Lets doctor look at all nodes, and refuses a launch that its rows say would fail. What it warns of is returned.
pub fn judge(cluster: &mut Cluster, with_model: bool) -> Result<Vec<String>, ClusterError> {
    let config = cluster.config.clone();
    let doctor = std::thread::spawn(move || checks::run(&config, with_model));
    // The connections to the agents must not fall silent meanwhile.
    while !doctor.is_finished() {
        cluster.wait(Some(Instant::now() + BREATH), |_, _| None::<()>)?;
    }
    doctor.join().expect("doctor does not panic")
}

/// Asks all nodes at once for the facts that the commands need.
pub fn facts(cluster: &mut Cluster) -> Result<Vec<Facts>, ClusterError> {
    let config = cluster.config.clone();
    let request =
        |(index, node): (usize, &Node)| (index, json!({"op": "check", "address": node.address.to_string()}));
    let answers = cluster.ask_each(config.nodes().enumerate().map(request).collect(), PATIENCE)?;
    let mut facts = Vec::new();
    for ((index, node), answer) in config.nodes().enumerate().zip(answers) {
        let checked = serde_json::from_value::<Checked>(answer).map_err(|error| ClusterError::Agent {
            node: cluster.name(index),
            what: "check".to_owned(),
            cause: error.to_string(),
        })?;
        facts.push(usable(node, &checked)?);
    }
    if matches!(config.transport, Transport::Auto | Transport::Rdma) {
        find_rdma(cluster, &config, &mut facts)?;
    }
    Ok(facts)
}

/// One node's facts, if it can take part at all.
fn usable(node: &Node, checked: &Checked) -> Result<Facts, ClusterError> {
    let name = node.name.clone();
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
        let is = |name: &str| [port.name(), port.device.clone()].iter().any(|known| known == name.trim());
        node.rdma_device.as_ref().is_none_or(|names| names.split(',').any(is))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn judged(change: impl Fn(&mut Checked)) -> Result<Facts, ClusterError> {
        let text = "model = \"/m\"\nnodes = [{name = \"a\", local = true, address = \"192.168.100.1\"}]\n";
        let config = Config::parse(text, Path::new("c.toml")).unwrap();
        let address = |interface: &str, address: &str| (interface.to_owned(), address.to_owned());
        let mut checked = Checked {
            addresses: vec![address("lo", "127.0.0.1"), address("enp1s0", "192.168.100.1")],
            halo_import: None,
            shm_free: Some(4 << 30),
            ports: vec![1, 2, 3],
        };
        change(&mut checked);
        usable(config.head(), &checked)
    }

    #[test]
    fn a_good_node_gives_its_facts() {
        let facts = judged(|_| {}).unwrap();
        assert_eq!(facts.interface, "enp1s0");
        assert_eq!(facts.ports, ["1", "2", "3"]);
    }

    #[test]
    fn a_halo_that_cannot_be_imported_is_refused_with_the_reason() {
        let error =
            judged(|checked| checked.halo_import = Some("ImportError: libfoo".to_owned())).unwrap_err();
        assert!(matches!(&error, ClusterError::HaloBroken { .. }), "{error}");
    }

    #[test]
    fn a_small_shared_memory_is_refused_with_its_size() {
        let error = judged(|checked| checked.shm_free = Some(64 << 20)).unwrap_err();
        assert_eq!(error.to_string(), "/dev/shm of node a has 64 MiB free, 576 MiB are needed");
    }
}
