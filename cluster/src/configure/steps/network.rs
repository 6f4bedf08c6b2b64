//! The data network: thunderbolt-net at boot, and a profile of NetworkManager with address, MTU and zone.

use std::net::IpAddr;

use super::data_interface;
use crate::config::Link;
use crate::configure::error::ConfigureError;
use crate::configure::step::{Action, Step, words};
use crate::doctor::Subject;

const PROFILE: &str = "/etc/NetworkManager/system-connections/halo.nmconnection";
const MODULES: &str = "/etc/modules-load.d/halo.conf";

pub const FILES: &[&str] = &[PROFILE, MODULES];

/// thunderbolt-net, now and at every start.
pub fn modules(Subject { config, facts, .. }: &Subject<'_>) -> Option<Step> {
    if config.network.link != Link::Usb4 {
        return None;
    }
    let text = "# Written by halo-cluster configure: IP over USB4.\nthunderbolt-net\n";
    let write = Action::write(facts, MODULES, text.to_owned())?;
    Some(Step {
        name: "modules",
        title: "load thunderbolt-net, now and at every start".to_owned(),
        actions: vec![write, Action::refresh(&["modprobe", "thunderbolt-net"])],
        after_undo: Vec::new(),
        then: None,
    })
}

/// The profile. `zone` opens the interface in firewalld, which does not mind being absent.
fn profile(subject: &Subject<'_>, interface: &str) -> String {
    let (address, network) = (subject.node.address, subject.config.network);
    let own = format!("method=manual\naddress1={address}/{}\nnever-default=true\n", network.prefix);
    let (v4, v6) = match address {
        IpAddr::V4(_) => (own, "method=link-local\n".to_owned()),
        IpAddr::V6(_) => ("method=disabled\n".to_owned(), own),
    };
    format!(
        "# Written by halo-cluster configure: the data network.\n\
         [connection]\nid=halo\ntype=ethernet\ninterface-name={interface}\nautoconnect-priority=100\nzone=trusted\n\n\
         [ethernet]\nmtu={}\n\n[ipv4]\n{v4}\n[ipv6]\n{v6}",
        network.mtu
    )
}

pub fn plan(subject: &Subject<'_>) -> Result<Option<Step>, ConfigureError> {
    let (facts, node, network) = (subject.facts, subject.node, subject.config.network);
    let name = data_interface(subject)?;
    let there = facts.interfaces.iter().find(|interface| interface.name == name);
    let right = there.is_some_and(|interface| {
        interface.addresses.contains(&(node.address, network.prefix)) && interface.mtu == Some(network.mtu)
    });
    let text = profile(subject, &name);
    let ours = facts.texts.get(PROFILE).cloned().flatten();
    if right && (ours.is_none() || ours.as_ref() == Some(&text)) {
        return Ok(None);
    }
    if !facts.network_manager.running {
        return Err(ConfigureError::NoNetworkManager {
            node: node.name.clone(),
            address: format!("{}/{} with MTU {}", node.address, network.prefix, network.mtu),
            interface: name,
        });
    }
    let mut actions = Vec::new();
    if ours.as_ref() != Some(&text) {
        let path = PROFILE.to_owned();
        // NetworkManager ignores profiles that others may read.
        // Only root may look at it.
        let checked = facts.uid == 0 || facts.sudo;
        actions.push(Action::Write { path, text, before: ours.clone(), checked, mode: "600" });
        actions.push(Action::refresh(&["nmcli", "connection", "reload"]));
    }
    let reload = words(&["nmcli", "connection", "reload"]);
    let mut after_undo = vec![reload];
    // A USB4 interface without its cable comes up by itself, later.
    if there.is_some() {
        actions.push(Action::Run {
            argv: words(&["nmcli", "connection", "up", "halo"]),
            undo: if ours.is_none() { words(&["nmcli", "connection", "down", "halo"]) } else { Vec::new() },
            undo_may_fail: true, // it may be down by then
            as_user: false,
        });
        let others = facts.network_manager.connections.iter();
        let before = others.filter(|connection| connection.interface == name && connection.name != "halo");
        after_undo.extend(before.map(|other| words(&["nmcli", "connection", "up", "uuid", &other.uuid])));
        // NetworkManager need not remember the MTU from before.
        if let Some(mtu) = there.and_then(|interface| interface.mtu).filter(|mtu| *mtu != network.mtu) {
            after_undo.push(words(&["ip", "link", "set", &name, "mtu", &mtu.to_string()]));
        }
        if ours.is_some() {
            after_undo.push(words(&["nmcli", "connection", "up", "halo"]));
        }
    }
    let title =
        format!("{}/{} on {name}, MTU {}, no default route", node.address, network.prefix, network.mtu);
    Ok(Some(Step { name: "network", title, actions, after_undo, then: None }))
}
