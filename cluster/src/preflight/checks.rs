//! The rows of doctor that decide whether a launch can work.

use crate::config::{Config, Engine, Link, Transport};
use crate::doctor::{self, Check, Row, Verdict};
use crate::error::ClusterError;

/// Looks, and refuses what would fail; warnings in words.
pub fn run(config: &Config, with_model: bool) -> Result<Vec<String>, ClusterError> {
    let rows = doctor::run(config, &relevant(config, with_model));
    let (failed, others): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.finding.verdict == Verdict::Fail);
    if failed.is_empty() {
        return Ok(others.into_iter().filter_map(doctor::complaint).collect());
    }
    Err(ClusterError::NotReadyToLaunch { failed: failed.len(), rows: failed.into_iter().map(line).collect() })
}

/// What would make this launch fail, or serve what was not asked for.
fn relevant(config: &Config, with_model: bool) -> Vec<Check> {
    let mut checks = vec![Check::Ssh, Check::Container, Check::Versions, Check::Port];
    if with_model {
        checks.push(Check::Model);
    }
    // A docker container has root's rights, whatever this user may.
    if config.container.as_ref().is_none_or(|container| container.engine != Engine::Docker) {
        checks.push(Check::Devices);
    }
    if config.nodes.len() > 1 {
        checks.extend([
            Check::Cable,
            Check::Mtu,
            Check::Frames,
            Check::Routes,
            Check::Firewall,
            Check::Clock,
        ]);
        let may_use_rdma = matches!(config.transport, Transport::Auto | Transport::Rdma);
        if may_use_rdma && config.network.link == Link::Roce {
            checks.extend([Check::Nic, Check::Roce, Check::Gid, Check::Memlock, Check::RdmaCore]);
        }
    }
    checks
}

fn line(Row { node, finding }: &Row) -> String {
    let (code, check) = (finding.code(), finding.check.name());
    let remedy = finding.remedy.as_deref().unwrap_or_default();
    format!("\n  {code} {check}, node {node}: {}\n    {remedy}", finding.found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn checks(more: &str) -> Vec<&'static str> {
        let text = format!(
            "model = \"/m\"\n{more}\n[[nodes]]\nname = \"a\"\nlocal = true\naddress = \"10.0.0.1\"\n\
             [[nodes]]\nname = \"b\"\nssh = \"b\"\naddress = \"10.0.0.2\"\n"
        );
        let config = Config::parse(&text, Path::new("c.toml")).unwrap();
        relevant(&config, true).into_iter().map(Check::name).collect()
    }

    #[test]
    fn rdma_is_looked_at_where_it_may_be_used() {
        let roce = "network = {link = \"roce\"}";
        assert!(checks(roce).contains(&"gid"));
        assert!(!checks(&format!("transport = \"tcp\"\n{roce}")).contains(&"gid"));
        assert!(!checks("").contains(&"memlock"));
    }

    #[test]
    fn what_is_only_advice_does_not_stop_a_launch() {
        let checks = checks("network = {link = \"roce\"}");
        for advice in ["os", "kernel", "kernel-arguments", "memory", "power", "sudo", "packages", "firmware"]
        {
            assert!(!checks.contains(&advice), "{advice}");
        }
    }
}
