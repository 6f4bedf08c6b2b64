//! `doctor`: looks at all nodes at once and says what is as it should be and what is not. It changes nothing.

mod arguments;
mod check;
mod compare;
mod finding;
mod gpu;
mod limits;
mod network;
mod nic;
mod probes;
mod rdma;
#[cfg(test)]
pub mod recorded;
mod report;
mod software;
mod system;

pub use arguments::Arguments;
pub use check::Check;
pub use finding::{Finding, Verdict};
pub use network::same_network;
pub use report::{complaint, json, table};

use crate::config::{Config, Node};
use crate::facts::Facts;
use crate::survey::{advice, survey};

/// What is judged: a node by its configuration and its facts.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub config: &'a Config,
    pub node: &'a Node,
    pub index: usize,
    pub facts: &'a Facts,
}

/// What was found on one node.
#[derive(Debug)]
pub struct Row {
    /// The node's name.
    pub node: String,
    pub finding: Finding,
}

/// Asks every node, lets them try each other, and judges; rows in the order of checks, then of nodes. With `only`,
/// rows of other checks are left out, but a node that cannot be reached is always said.
pub fn run(config: &Config, only: &[Check]) -> Vec<Row> {
    let (mut answered, mut findings) = (Vec::new(), Vec::new());
    for (index, result) in survey(config).into_iter().enumerate() {
        match result {
            Ok(surveyed) => {
                let found = format!("{}, python3 {}", surveyed.facts.host, surveyed.facts.python3);
                findings.push((index, Finding::pass(Check::Ssh, found)));
                answered.push((index, surveyed));
            }
            Err(error) => {
                let (code, help) = advice(&error);
                let help = match code.as_str() {
                    // This one is about the node's own interpreter, not that of vLLM.
                    "HALO-E0613" => {
                        "install it there: dnf install python3, or apt-get install python3".to_owned()
                    }
                    _ => help,
                };
                let finding = Finding::fail(Check::Ssh, error.to_string(), help);
                findings.push((index, Finding { code: Some(code), ..finding }));
            }
        }
    }
    let facts: Vec<_> = answered.iter().map(|(index, surveyed)| (*index, &surveyed.facts)).collect();
    findings.extend(judge(config, &facts));
    findings.extend(probes::run(config, &mut answered));
    // Stable: findings of one check on one node stay in their order.
    findings.sort_by_key(|(index, finding)| (finding.check, *index));
    let asked = |finding: &Finding| {
        only.is_empty()
            || only.contains(&finding.check)
            || (finding.check == Check::Ssh && finding.remedy.is_some())
    };
    findings
        .into_iter()
        .filter(|(_, finding)| asked(finding))
        .map(|(index, finding)| Row { node: config.nodes[index].get_ref().name.clone(), finding })
        .collect()
}

/// The pure part: every node by itself, then all together.
fn judge(config: &Config, answered: &[(usize, &Facts)]) -> Vec<(usize, Finding)> {
    let mut subjects = Vec::new();
    for &(index, facts) in answered {
        subjects.push(Subject { config, node: config.nodes[index].get_ref(), index, facts });
    }
    let alone =
        [system::judge, gpu::judge, nic::judge, network::judge, rdma::judge, limits::judge, software::judge];
    let mut findings = Vec::new();
    for subject in &subjects {
        findings
            .extend(alone.iter().flat_map(|judge| judge(subject)).map(|finding| (subject.index, finding)));
    }
    findings.extend(compare::judge(&subjects));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(facts: &Facts) -> String {
        let config = recorded::config("roce");
        let mut findings = judge(&config, &[(0, facts)]);
        findings.sort_by_key(|(_, finding)| finding.check);
        let rows: Vec<_> =
            findings.into_iter().map(|(_, finding)| Row { node: "a".to_owned(), finding }).collect();
        assert_eq!(json(&rows)["rows"].as_array().unwrap().len(), rows.len());
        table(&rows)
    }

    #[test]
    fn a_configured_fedora_passes_everything() {
        insta::assert_snapshot!(shown(&recorded::fedora()));
    }

    #[test]
    fn an_ubuntu_out_of_the_box_is_told_what_to_do() {
        insta::assert_snapshot!(shown(&recorded::ubuntu()));
    }
}
