//! What is installed on a node: packages, container, Python and what it has, the model, the API's port.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::target;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(packages(subject));
    findings.extend(container(subject));
    findings.extend(versions(subject));
    findings.extend(port(subject));
    findings
}

fn packages(Subject { config, facts, .. }: &Subject<'_>) -> Option<Finding> {
    let manager = facts.packages.manager.as_deref()?;
    let wanted = target::packages(config, Some(manager));
    let absent: Vec<_> =
        wanted.into_iter().filter(|name| !facts.packages.installed.iter().any(|own| own == name)).collect();
    if absent.is_empty() {
        return Some(Finding::pass(Check::Packages, "all"));
    }
    let found = format!("without {}", absent.join(", "));
    Some(Finding::fail(Check::Packages, found, "halo-cluster configure --apply"))
}

fn container(Subject { config, facts, .. }: &Subject<'_>) -> Option<Finding> {
    let wanted = config.container.as_ref()?;
    let (engine, name) = (wanted.engine.name(), &wanted.name);
    let there = facts.container.as_ref()?;
    if !there.engine {
        let found = format!("{engine} is not installed");
        return Some(Finding::fail(Check::Container, found, "halo-cluster configure --apply"));
    }
    if !there.exists {
        let said = there.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
        let found = format!("{engine} has no container {name}{said}");
        let remedy = "with `container.image` set, halo-cluster configure --apply creates it";
        return Some(Finding::fail(Check::Container, found, remedy));
    }
    // toolbox and distrobox share all of /dev.
    let given = there.devices.as_ref().filter(|_| matches!(engine, "podman" | "docker"));
    let lacks: Vec<_> = given.map_or(Vec::new(), |given| {
        let has = |device: &str| given.iter().any(|path| device.starts_with(path.as_str()));
        target::devices(config).into_iter().filter(|device| !has(device)).collect()
    });
    if lacks.is_empty() {
        return Some(Finding::pass(Check::Container, format!("{name} ({engine})")));
    }
    let found = format!("{name} has no {}", lacks.join(", "));
    let remedy = format!("create it anew: {engine} rm -f {name}, then halo-cluster configure --apply");
    Some(Finding::fail(Check::Container, found, remedy))
}

fn versions(Subject { config, facts, .. }: &Subject<'_>) -> Option<Finding> {
    let python = facts.python.as_ref()?;
    if let Some(error) = &python.error {
        let remedy = "set `python` to the interpreter of the environment that has vllm, ray and halo";
        return Some(Finding::fail(Check::Versions, format!("no answer from Python: {error}"), remedy));
    }
    let mut modules = vec![("vLLM", &python.vllm), ("halo", &python.halo)];
    if config.ray {
        modules.insert(1, ("Ray", &python.ray));
    }
    let absent: Vec<_> =
        modules.iter().filter(|(_, version)| version.is_none()).map(|(name, _)| *name).collect();
    let executable = python.executable.as_deref().unwrap_or("python3");
    if !absent.is_empty() {
        let found = format!("{executable} has no {}", absent.join(", no "));
        let remedy = "install them there with pip, or set `python` to the interpreter that has them";
        return Some(Finding::fail(Check::Versions, found, remedy));
    }
    let named =
        modules.iter().map(|(name, version)| format!("{name} {}", version.as_deref().unwrap_or_default()));
    Some(Finding::pass(Check::Versions, named.collect::<Vec<_>>().join(", ")))
}

fn port(Subject { config, facts, index, .. }: &Subject<'_>) -> Option<Finding> {
    if *index > 0 {
        return None;
    }
    let Some(cause) = &facts.port_error else {
        return Some(Finding::pass(Check::Port, format!("{} is free", config.port)));
    };
    let found = format!("{}: {cause}", config.port);
    Some(Finding::fail(
        Check::Port,
        found,
        "stop what listens there (ss -ltnp), or choose another: `port`, or launch --port N",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;
    use crate::facts::{ContainerFacts, Facts, Python};

    fn failures(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let findings = recorded::judged("roce", change, judge);
        findings.into_iter().filter(|f| f.verdict == Verdict::Fail).map(|finding| finding.found).collect()
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(failures(|_| {}), Vec::<String>::new());
        assert_eq!(
            failures(|facts| facts.packages.installed.retain(|name| name != "perftest")),
            ["without perftest"]
        );
        assert_eq!(
            failures(|facts| facts.python.as_mut().unwrap().halo = None),
            ["/opt/vllm/bin/python has no halo"]
        );
        let broken = Python { error: Some("No such file or directory".to_owned()), ..Python::default() };
        assert_eq!(
            failures(|facts| facts.python = Some(broken)),
            ["no answer from Python: No such file or directory"]
        );
        assert_eq!(
            failures(|facts| facts.port_error = Some("Address already in use".to_owned())),
            ["8000: Address already in use"]
        );
    }

    #[test]
    fn a_container_must_exist_and_have_the_devices() {
        let found = |engine: bool, exists: bool, devices: &[&str]| {
            let mut config = recorded::config("roce");
            let text = "engine = \"podman\"\nname = \"vllm\"";
            config.container = Some(toml::from_str(text).unwrap());
            let mut facts = recorded::fedora();
            let devices = Some(devices.iter().map(|path| (*path).to_owned()).collect());
            facts.container = Some(ContainerFacts { engine, exists, devices, said: None });
            let subject = Subject { config: &config, node: config.head(), index: 0, facts: &facts };
            container(&subject).unwrap()
        };
        assert_eq!(found(false, false, &[]).found, "podman is not installed");
        assert_eq!(found(true, false, &[]).found, "podman has no container vllm");
        assert_eq!(found(true, true, &["/dev/dri"]).found, "vllm has no /dev/kfd, /dev/infiniband");
        assert_eq!(found(true, true, &["/dev"]).verdict, Verdict::Pass);
    }
}
