//! What must be equal, or fit together, on all nodes.

use super::Subject;
use super::check::Check;
use super::finding::Finding;

/// Findings, each with the index of its node.
pub fn judge(subjects: &[Subject<'_>]) -> Vec<(usize, Finding)> {
    let mut findings = Vec::new();
    findings.extend(models(subjects));
    if subjects.len() > 1 {
        findings.extend(speeds(subjects));
        findings.extend(versions(subjects));
    }
    findings
}

fn speeds(subjects: &[Subject<'_>]) -> Vec<(usize, Finding)> {
    let speed = |subject: &Subject<'_>| {
        let data = subject.facts.data_interface(subject.node)?;
        data.speed_mbit.filter(|mbit| *mbit > 0).map(|mbit| (subject.index, mbit))
    };
    let speeds: Vec<_> = subjects.iter().filter_map(speed).collect();
    let best = speeds.iter().map(|(_, mbit)| *mbit).max().unwrap_or_default();
    let judge = |(index, mbit): (usize, i64)| {
        let found = format!("{} Gb/s", mbit as f64 / 1000.0);
        let remedy = "all ranks wait for the slowest: check NIC, cable and port speed of this node";
        let finding = if mbit == best {
            Finding::pass(Check::Speed, found)
        } else {
            Finding::warn(Check::Speed, format!("{found}, others {} Gb/s", best as f64 / 1000.0), remedy)
        };
        (index, finding)
    };
    speeds.into_iter().map(judge).collect()
}

fn versions(subjects: &[Subject<'_>]) -> Vec<(usize, Finding)> {
    let first = &subjects[0];
    let mut findings = Vec::new();
    let minor =
        |version: &Option<String>| version.as_ref()?.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    for other in &subjects[1..] {
        let mut differ = |check: Check,
                          what: &str,
                          ours: Option<String>,
                          theirs: Option<String>,
                          hard: bool| {
            let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
            if ours == theirs {
                return;
            }
            let found = format!("{what} {theirs}, {} has {ours}", first.node.name);
            let remedy = format!("install the same version of {what} on every node");
            let finding =
                if hard { Finding::fail(check, found, remedy) } else { Finding::warn(check, found, remedy) };
            findings.push((other.index, finding));
        };
        let core = |subject: &Subject<'_>| subject.facts.libibverbs.map(|version| version.to_string());
        if first.config.network.link == crate::config::Link::Roce {
            differ(Check::RdmaCore, "rdma-core", core(first), core(other), false);
        }
        let (Some(ours), Some(theirs)) = (&first.facts.python, &other.facts.python) else { continue };
        // Ray wants the same Python down to the minor version.
        differ(Check::Versions, "Python", minor(&ours.python), minor(&theirs.python), true);
        differ(Check::Versions, "vLLM", ours.vllm.clone(), theirs.vllm.clone(), true);
        differ(Check::Versions, "Ray", ours.ray.clone(), theirs.ray.clone(), first.config.ray);
        differ(Check::Versions, "halo", ours.halo.clone(), theirs.halo.clone(), true);
        differ(Check::Versions, "PyTorch", ours.torch.clone(), theirs.torch.clone(), true);
        differ(Check::Versions, "ROCm", ours.rocm.clone(), theirs.rocm.clone(), false);
        differ(Check::Versions, "RCCL", ours.rccl.clone(), theirs.rccl.clone(), false);
    }
    findings
}

fn models(subjects: &[Subject<'_>]) -> Vec<(usize, Finding)> {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let owner = subjects.iter().find_map(|subject| {
        let model = subject.facts.model.as_ref()?;
        model.config.as_ref().map(|config| (subject.node.name.as_str(), config.as_str(), model.bytes))
    });
    let judge = |subject: &Subject<'_>| {
        let (model, path) = (subject.facts.model.as_ref()?, subject.config.model.get_ref());
        let free = model.free_bytes.unwrap_or_default();
        let finding = match (owner, &model.config) {
            (None, _) => Finding::fail(
                Check::Model,
                format!("no model at {path} on any node; {} free", gib(free)),
                "download it there on every node, or correct `model`",
            ),
            (Some((_, theirs, _)), Some(own)) if own == theirs => {
                Finding::pass(Check::Model, format!("{} at {path}", gib(model.bytes)))
            }
            (Some((name, ..)), Some(_)) => Finding::fail(
                Check::Model,
                format!("another model than that of {name} at {path}"),
                format!("copy the folder again: rsync -a --delete {path}/ {}:{path}/", subject.node.name),
            ),
            (Some((name, _, bytes)), None) if free < bytes => Finding::fail(
                Check::Model,
                format!("no model at {path}, and {} free for its {}", gib(free), gib(bytes)),
                format!("make room, then copy it from {name}"),
            ),
            (Some((name, _, bytes)), None) => Finding::fail(
                Check::Model,
                format!("no model at {path}; {} free for its {}", gib(free), gib(bytes)),
                format!("copy it from {name}: rsync -a {path}/ {}:{path}/", subject.node.name),
            ),
        };
        Some((subject.index, finding))
    };
    subjects.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;
    use crate::facts::{Facts, Model};

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<(usize, Verdict, String)> {
        let config = recorded::config("roce");
        let (first, mut second) = (recorded::fedora(), recorded::fedora());
        change(&mut second);
        let nodes: Vec<_> = config.nodes().collect();
        let subjects = [&first, &second].into_iter().enumerate();
        let subjects: Vec<_> = subjects
            .map(|(index, facts)| Subject { config: &config, node: nodes[index], index, facts })
            .collect();
        let findings = judge(&subjects).into_iter().filter(|(_, finding)| finding.verdict != Verdict::Pass);
        findings.map(|(index, finding)| (index, finding.verdict, finding.found)).collect()
    }

    #[test]
    fn equal_nodes_differ_in_nothing() {
        assert_eq!(found(|_| {}), []);
    }

    #[test]
    fn what_differs_is_named_with_both_versions() {
        let differs = found(|facts| {
            let python = facts.python.as_mut().unwrap();
            python.python = Some("3.13.1".to_owned());
            python.halo = Some("0.0.9".to_owned());
            python.rccl = Some("1.0.60000".to_owned());
            facts.libibverbs = Some(61);
        });
        let said = |verdict, text: &str| (1, verdict, text.to_owned());
        assert_eq!(
            differs,
            [
                said(Verdict::Warn, "rdma-core 61, a has 62"),
                said(Verdict::Fail, "Python 3.13, a has 3.12"),
                said(Verdict::Fail, "halo 0.0.9, a has 0.1.0"),
                said(Verdict::Warn, "RCCL 1.0.60000, a has 1.0.70002"),
            ]
        );
    }

    #[test]
    fn the_slower_link_is_the_one_that_is_named() {
        let slow = |facts: &mut Facts| {
            facts.interfaces.iter_mut().find(|i| i.name == "enp193s0np0").unwrap().speed_mbit = Some(25_000);
        };
        assert_eq!(found(slow), [(1, Verdict::Warn, "25 Gb/s, others 100 Gb/s".to_owned())]);
    }

    #[test]
    fn a_model_is_missing_different_or_too_large_for_the_disk() {
        let with = |config: Option<&str>, free: u64| {
            let model = Model { config: config.map(str::to_owned), bytes: 1, free_bytes: Some(free << 30) };
            found(|facts| facts.model = Some(model)).remove(0).2
        };
        assert_eq!(with(None, 900), "no model at /models/m; 900.0 GiB free for its 60.0 GiB");
        assert_eq!(with(None, 9), "no model at /models/m, and 9.0 GiB free for its 60.0 GiB");
        assert_eq!(with(Some("other"), 9), "another model than that of a at /models/m");
    }
}
