//! The firewall, for the data interface alone. firewalld learns the zone from NetworkManager's profile; this is for ufw,
//! and for an interface whose address comes from elsewhere.

use super::data_interface;
use crate::configure::error::ConfigureError;
use crate::configure::step::{Action, Step};
use crate::doctor::Subject;

pub fn plan(subject: &Subject<'_>) -> Result<Option<Step>, ConfigureError> {
    let (facts, firewall) = (subject.facts, &subject.facts.firewall);
    let ufw = firewall.ufw.as_deref().is_some_and(|status| status.starts_with("Status: active"));
    if !ufw && (!firewall.firewalld || facts.network_manager.running) {
        return Ok(None);
    }
    let name = data_interface(subject)?;
    let mut actions = Vec::new();
    let allowed = |line: &str| line.contains(&format!("on {name}")) && line.contains("ALLOW");
    if ufw && !firewall.ufw.iter().flat_map(|status| status.lines()).any(allowed) {
        let rule = ["allow", "in", "on", &name];
        actions.push(Action::run(&[&["ufw"], &rule[..]].concat(), &[&["ufw", "delete"], &rule[..]].concat()));
    }
    let zone = firewall.zones.get(&name).cloned().flatten();
    let open = zone.as_ref().and_then(|zone| firewall.targets.get(zone)?.as_deref()) == Some("ACCEPT");
    if firewall.firewalld && !facts.network_manager.running && !open {
        for scope in [&["--permanent"][..], &[]] {
            let command = |verb: &str| {
                let words = [&["firewall-cmd"], scope, &["--zone=trusted"]].concat();
                let verb = format!("{verb}={name}");
                [words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), vec![verb]].concat()
            };
            let (argv, undo) = (command("--change-interface"), command("--remove-interface"));
            actions.push(Action::Run { argv, undo, undo_may_fail: true, as_user: false });
        }
    }
    Ok((!actions.is_empty()).then(|| Step {
        name: "firewall",
        title: format!("open {name}, and no other interface"),
        actions,
        after_undo: Vec::new(),
        then: None,
    }))
}
