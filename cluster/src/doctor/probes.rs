//! What is tried between the nodes instead of guessed: connections, full frames, clocks.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::check::Check;
use super::finding::Finding;
use crate::config::Config;
use crate::session::{Session, at_once};
use crate::survey::Surveyed;

/// Every probe of a node ends by itself within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A difference that confuses logs and certificates, and one that breaks tokens.
const SKEW: (f64, f64) = (0.5, 5.0);

/// What one node found out about another.
#[derive(Debug, Clone, Deserialize)]
struct Probed {
    peer: usize,
    tcp_error: Option<String>,
    /// The sizes that got there and back in one piece.
    frames: Vec<u32>,
}

/// Lets every node try every other one; findings with the index of the node that tried.
pub fn run(config: &Config, nodes: &mut [(usize, Surveyed)]) -> Vec<(usize, Finding)> {
    let mut findings = clocks(config, nodes);
    if nodes.len() < 2 {
        return findings;
    }
    let name = |index: usize| config.nodes[index].get_ref().name.clone();
    let address = |index: usize| config.nodes[index].get_ref().address.to_string();
    let ask = |index: usize, session: &mut Session, request: Value| (index, session.ask(&request, PATIENCE));
    let listening = at_once(nodes.iter_mut().collect(), |(index, node)| {
        ask(*index, &mut node.session, json!({"op": "listen", "address": address(*index)}))
    });
    let mut peers = Vec::new();
    for (index, answer) in listening {
        match answer {
            Ok(answer) if answer["tcp"].is_u64() => {
                peers.push((index, json!({"index": index, "address": address(index), "tcp": answer["tcp"], "udp": answer["udp"]})));
            }
            Ok(answer) => {
                let found = format!(
                    "cannot listen at {}: {}",
                    address(index),
                    answer["error"].as_str().unwrap_or("")
                );
                findings.push((index, Finding::fail(Check::Firewall, found, "see the check `address`")));
            }
            Err(error) => findings.push((index, failed(Check::Firewall, &error))),
        }
    }
    let mtu = config.network.mtu;
    let probed = at_once(nodes.iter_mut().collect(), |(index, node)| {
        let others: Vec<_> =
            peers.iter().filter(|(peer, _)| peer != index).map(|(_, peer)| peer.clone()).collect();
        let request =
            json!({"op": "probe", "address": address(*index), "sizes": [1280, mtu], "peers": others});
        ask(*index, &mut node.session, request)
    });
    for (index, answer) in probed {
        if !peers.iter().any(|(peer, _)| *peer == index) {
            continue; // it has no address to probe from, which is said already
        }
        match answer.map(serde_json::from_value::<Vec<Probed>>) {
            Ok(Ok(results)) => {
                findings.extend(judge(&results, mtu, name).into_iter().map(|finding| (index, finding)));
            }
            Ok(Err(error)) => {
                findings.push((index, Finding::fail(Check::Frames, error.to_string(), "try again")));
            }
            Err(error) => findings.push((index, failed(Check::Frames, &error))),
        }
    }
    findings
}

fn failed(check: Check, error: &crate::error::ClusterError) -> Finding {
    Finding::fail(check, error.to_string(), crate::survey::advice(error).1)
}

/// One node's probes of all others.
fn judge(results: &[Probed], mtu: u32, name: impl Fn(usize) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = |pick: &dyn Fn(&&Probed) -> bool| -> Vec<String> {
        results.iter().filter(pick).map(|result| name(result.peer)).collect()
    };
    let refused: Vec<String> = results
        .iter()
        .filter_map(|result| Some(format!("{} ({})", name(result.peer), result.tcp_error.as_ref()?)))
        .collect();
    if refused.is_empty() {
        findings.push(Finding::pass(Check::Firewall, format!("open to {}", names(&|_| true).join(", "))));
    } else {
        let remedy = "halo-cluster configure opens the data interface (firewalld, ufw); `cable` and `routes` rule out the rest";
        findings.push(Finding::fail(
            Check::Firewall,
            format!("no connection to {}", refused.join(", ")),
            remedy,
        ));
    }
    let silent = names(&|result| result.frames.is_empty());
    let short = names(&|result| !result.frames.is_empty() && !result.frames.contains(&mtu));
    if !silent.is_empty() {
        let remedy = "no packet returns: check cable, address and firewall of both nodes";
        findings.push(Finding::fail(Check::Frames, format!("no answer from {}", silent.join(", ")), remedy));
    } else if !short.is_empty() {
        let found = format!("frames of {mtu} bytes do not reach {}, small ones do", short.join(", "));
        let remedy = "every interface and switch on the way needs that MTU: see `mtu` of both nodes";
        findings.push(Finding::fail(Check::Frames, found, remedy));
    } else {
        findings
            .push(Finding::pass(Check::Frames, format!("{mtu} bytes to {}", names(&|_| true).join(", "))));
    }
    findings
}

/// Every clock against that of the first node that answered.
fn clocks(config: &Config, nodes: &[(usize, Surveyed)]) -> Vec<(usize, Finding)> {
    let Some((first, head)) = nodes.first() else { return Vec::new() };
    let head_name = &config.nodes[*first].get_ref().name;
    let judge = |(index, node): &(usize, Surveyed)| {
        let (skew, error) = (node.clock.0 - head.clock.0, node.clock.1 + head.clock.1);
        let synchronized = node.facts.system.time_synchronized;
        (*index, clock(skew, error, synchronized, head_name))
    };
    nodes.iter().skip(1).map(judge).collect()
}

fn clock(skew: f64, error: f64, synchronized: Option<bool>, head: &str) -> Finding {
    // Only what is beyond the doubt counts.
    let sure = (skew.abs() - error).max(0.0);
    let found = format!("{skew:+.2} s against {head}");
    let remedy = "turn on time synchronisation on every node: timedatectl set-ntp true";
    match synchronized {
        _ if sure > SKEW.1 => Finding::fail(Check::Clock, found, remedy),
        _ if sure > SKEW.0 => Finding::warn(Check::Clock, found, remedy),
        Some(false) => Finding::warn(Check::Clock, format!("{found}, not synchronised"), remedy),
        _ => Finding::pass(Check::Clock, format!("within {:.2} s of {head}", sure.max(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    fn probed(tcp_error: Option<&str>, frames: &[u32]) -> Vec<(Verdict, String)> {
        let result = Probed { peer: 1, tcp_error: tcp_error.map(str::to_owned), frames: frames.to_vec() };
        let findings = judge(&[result], 9000, |_| "b".to_owned());
        findings.into_iter().map(|finding| (finding.verdict, finding.found)).collect()
    }

    #[test]
    fn what_came_through_is_told_from_what_did_not() {
        let said = |verdict, text: &str| (verdict, text.to_owned());
        assert_eq!(
            probed(None, &[1280, 9000]),
            [said(Verdict::Pass, "open to b"), said(Verdict::Pass, "9000 bytes to b")]
        );
        assert_eq!(
            probed(None, &[1280])[1],
            said(Verdict::Fail, "frames of 9000 bytes do not reach b, small ones do")
        );
        assert_eq!(
            probed(Some("No route to host"), &[]),
            [
                said(Verdict::Fail, "no connection to b (No route to host)"),
                said(Verdict::Fail, "no answer from b")
            ]
        );
    }

    #[test]
    fn only_skew_beyond_the_doubt_counts() {
        let verdict = |skew, error, synchronized| clock(skew, error, synchronized, "a").verdict;
        assert_eq!(verdict(0.4, 0.0, None), Verdict::Pass);
        assert_eq!(verdict(-0.8, 0.5, Some(true)), Verdict::Pass);
        assert_eq!(verdict(0.8, 0.1, None), Verdict::Warn);
        assert_eq!(verdict(0.0, 0.1, Some(false)), Verdict::Warn);
        assert_eq!(verdict(-9.0, 0.1, None), Verdict::Fail);
    }
}
