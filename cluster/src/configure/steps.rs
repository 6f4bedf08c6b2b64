//! The steps. Each looks at the facts of a node and says what is to be changed there: nothing, if all is right already.

mod container;
mod firewall;
mod groups;
mod kernel;
mod limits;
mod naming;
mod network;
mod packages;

use super::error::ConfigureError;
use super::step::Step;
use crate::doctor::Subject;
use crate::facts::Interface;

pub use kernel::GRUB_FILE;

/// What `--only` takes, in the order in which it is done.
pub const NAMES: [&str; 9] = [
    "packages",
    "modules",
    "network",
    "firewall",
    "naming",
    "kernel-arguments",
    "limits",
    "groups",
    "container",
];

/// Every file that a step may write, and that must therefore be looked at before.
pub fn files() -> Vec<&'static str> {
    [network::FILES, naming::FILES, kernel::FILES, limits::FILES].concat()
}

/// What this node needs, in order.
pub fn plan(subject: &Subject<'_>, only: &[String]) -> Result<Vec<Step>, ConfigureError> {
    let asked = |name: &str| only.is_empty() || only.iter().any(|own| own == name);
    let mut steps: Vec<Step> = Vec::new();
    if asked("packages") {
        steps.extend(packages::plan(subject));
    }
    if asked("modules") {
        steps.extend(network::modules(subject));
    }
    if asked("network") {
        steps.extend(network::plan(subject)?);
    }
    if asked("firewall") {
        steps.extend(firewall::plan(subject)?);
    }
    if asked("naming") {
        steps.extend(naming::plan(subject)?);
    }
    if asked("kernel-arguments") {
        steps.extend(kernel::plan(subject)?);
    }
    if asked("limits") {
        steps.extend(limits::plan(subject));
    }
    if asked("groups") {
        steps.extend(groups::plan(subject));
    }
    if asked("container") {
        steps.extend(container::plan(subject));
    }
    Ok(steps)
}

/// The name of the interface to set up: the configured one, else the one that has the address. Never the way in.
fn data_interface(subject: &Subject<'_>) -> Result<String, ConfigureError> {
    let (node, facts) = (subject.node, subject.facts);
    let held = facts.data_interface(node).map(|interface| &interface.name);
    // A USB4 interface is there only once its module is loaded and the cable is in.
    let name = held.or(node.interface.as_ref()).cloned();
    let Some(name) = name else {
        let physical = |interface: &&Interface| interface.physical || interface.carrier;
        let present: Vec<_> =
            facts.interfaces.iter().filter(physical).map(|interface| interface.name.as_str()).collect();
        let cause = format!("none has {} yet; there are {}", node.address, present.join(", "));
        return Err(ConfigureError::NoInterface { node: node.name.clone(), cause });
    };
    if facts.ways_in().any(|way| way == name) {
        return Err(ConfigureError::WayIn { node: node.name.clone(), interface: name });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Engine};
    use crate::configure::step::Action;
    use crate::doctor::recorded;
    use crate::facts::Facts;

    fn planned(config: &Config, facts: &Facts) -> Result<Vec<Step>, ConfigureError> {
        plan(&Subject { config, node: config.head(), index: 0, facts }, &[])
    }

    fn shown(config: &Config, facts: &Facts) -> String {
        planned(config, facts).unwrap().iter().map(Step::show).collect()
    }

    /// The machine after these steps, as far as files go.
    fn write_files(facts: &mut Facts, steps: &[Step]) {
        for action in steps.iter().flat_map(|step| &step.actions) {
            match action {
                Action::Write { path, text, .. } => {
                    facts.texts.insert(path.clone(), Some(text.clone()));
                }
                Action::Install { names, .. } => facts.packages.installed.extend(names.clone()),
                Action::Run { .. } => {}
            }
        }
    }

    #[test]
    fn a_configured_fedora_needs_nothing() {
        assert_eq!(
            planned(&recorded::config("roce"), &recorded::fedora())
                .unwrap()
                .iter()
                .filter(|step| step.name != "naming")
                .count(),
            0
        );
    }

    #[test]
    fn an_ubuntu_out_of_the_box_needs_all_of_it_once() {
        let (config, mut facts) = (recorded::config("roce"), recorded::ubuntu());
        insta::assert_snapshot!(shown(&config, &facts));
        let steps = planned(&config, &facts).unwrap();
        write_files(&mut facts, &steps);
        let data = facts.interfaces.iter_mut().find(|i| i.name == "enp193s0np0").unwrap();
        data.mtu = Some(9000);
        data.addresses.push(("192.168.100.1".parse().unwrap(), 30));
        assert_eq!(planned(&config, &facts).unwrap(), []);
    }

    #[test]
    fn on_fedora_grubby_sets_what_is_missing_and_its_undo_brings_the_replaced_value_back() {
        let (config, mut facts) = (recorded::config("roce"), recorded::fedora());
        facts.system.boot.grubby =
            Some("ro quiet iommu=pt amdgpu.gttsize=98304 pci=realloc pcie_aspm=off".to_owned());
        let steps = plan(
            &Subject { config: &config, node: config.head(), index: 0, facts: &facts },
            &["kernel-arguments".to_owned()],
        );
        let steps = steps.unwrap();
        let Action::Run { argv, undo, .. } = &steps[0].actions[0] else { panic!("{steps:?}") };
        assert_eq!(
            argv.join(" "),
            "grubby --update-kernel=ALL --args=amdgpu.gttsize=126976 ttm.pages_limit=32505856"
        );
        assert_eq!(
            undo.join(" "),
            "grubby --update-kernel=ALL --remove-args=amdgpu.gttsize=126976 ttm.pages_limit=32505856 \
             --args=amdgpu.gttsize=98304"
        );
    }

    #[test]
    fn usb4_loads_its_module_and_has_a_profile_before_the_cable_is_in() {
        let mut config = recorded::config("usb4");
        config.nodes[0].get_mut().interface = Some("thunderbolt0".to_owned());
        let mut facts = recorded::fedora();
        facts.interfaces.retain(|interface| interface.name != "enp193s0np0");
        insta::assert_snapshot!(shown(&config, &facts));
    }

    #[test]
    fn the_way_in_is_never_touched() {
        let (config, ubuntu) = (recorded::config("roce"), recorded::ubuntu());
        let refused = |change: &dyn Fn(&mut Facts, &mut Config)| {
            let (mut facts, mut config) = (ubuntu.clone(), config.clone());
            change(&mut facts, &mut config);
            planned(&config, &facts).unwrap_err().to_string()
        };
        let expected =
            "interface enp191s0 of node a is the one by which the node is reached; it is not touched";
        let to_lan = |config: &mut Config| config.nodes[0].get_mut().interface = Some("enp191s0".to_owned());
        // Over ssh, and on a local node that has nothing but its default route.
        assert_eq!(refused(&|_, config| to_lan(config)), expected);
        let local = |facts: &mut Facts, config: &mut Config| {
            facts.ssh_address = None;
            to_lan(config);
        };
        assert_eq!(refused(&local), expected);
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_reason() {
        let (config, mut facts) = (recorded::config("roce"), recorded::ubuntu());
        facts.system.boot.mkconfig = None;
        let error = planned(&config, &facts).unwrap_err();
        assert!(matches!(&error, ConfigureError::NoBootLoader { .. }), "{error}");
        facts.network_manager.running = false;
        let error = planned(&config, &facts).unwrap_err();
        assert!(matches!(&error, ConfigureError::NoNetworkManager { .. }), "{error}");
        let mut config = config;
        config.nodes[0].get_mut().interface = None;
        let error = planned(&config, &facts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data interface of node a is unknown: none has 192.168.100.1 yet; there are enp191s0, enp193s0np0"
        );
    }

    #[test]
    fn containers_are_created_with_the_devices_that_are_there() {
        let created = |engine: Engine| {
            let mut config = recorded::config("roce");
            let text =
                format!("engine = \"{}\"\nname = \"vllm\"\nimage = \"docker.io/x/vllm:1\"", engine.name());
            config.container = Some(toml::from_str(&text).unwrap());
            shown(&config, &recorded::fedora())
        };
        let all: Vec<_> =
            [Engine::Podman, Engine::Docker, Engine::Toolbox, Engine::Distrobox].map(created).to_vec();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_firewall_other_than_firewalld_is_opened_for_the_interface_alone() {
        let (config, mut facts) = (recorded::config("roce"), recorded::ubuntu());
        facts.firewall.ufw = Some("Status: active\n\nTo  Action  From\n22/tcp ALLOW Anywhere".to_owned());
        let subject = Subject { config: &config, node: config.head(), index: 0, facts: &facts };
        let steps = plan(&subject, &["firewall".to_owned()]).unwrap();
        assert_eq!(
            steps[0].show(),
            "  firewall: open enp193s0np0, and no other interface\n    # ufw allow in on enp193s0np0\n"
        );
        facts.firewall.ufw = Some("Status: active\n\nAnywhere on enp193s0np0 ALLOW Anywhere".to_owned());
        let subject = Subject { config: &config, node: config.head(), index: 0, facts: &facts };
        assert_eq!(plan(&subject, &["firewall".to_owned()]).unwrap(), []);
    }
}
