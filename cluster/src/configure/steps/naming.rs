//! A NIC's name follows from its PCI address, which moves when a card is added elsewhere. This ties it to the NIC.

use super::data_interface;
use crate::config::Link;
use crate::configure::error::ConfigureError;
use crate::configure::step::{Action, Step, words};
use crate::doctor::Subject;

const FILE: &str = "/etc/systemd/network/10-halo.link";

pub const FILES: &[&str] = &[FILE];

pub fn plan(subject: &Subject<'_>) -> Result<Option<Step>, ConfigureError> {
    if subject.config.network.link != Link::Roce {
        return Ok(None);
    }
    let name = data_interface(subject)?;
    let interface = subject.facts.interfaces.iter().find(|interface| interface.name == name);
    let Some(interface) = interface.filter(|interface| interface.pci.is_some()) else { return Ok(None) };
    let mac = interface.permanent_mac.as_deref().filter(|mac| *mac != "00:00:00:00:00:00");
    let Some(mac) = mac else { return Ok(None) };
    let text = format!(
        "# Written by halo-cluster configure: the data interface keeps its name.\n\
         [Match]\nPermanentMACAddress={mac}\n\n[Link]\nName={name}\n"
    );
    let Some(write) = Action::write(subject.facts, FILE, text) else { return Ok(None) };
    let reload = ["udevadm", "control", "--reload"];
    Ok(Some(Step {
        name: "naming",
        title: format!("{name} keeps its name wherever its card is"),
        actions: vec![write, Action::refresh(&reload)],
        after_undo: vec![words(&reload)],
        then: None,
    }))
}
