//! Locked memory for the user in every kind of session, and shared memory that stays at logout.

use crate::configure::step::{Action, Step, Then, words};
use crate::doctor::Subject;
use crate::facts::Facts;

const LIMITS: &str = "/etc/security/limits.d/90-halo.conf";
const SYSTEM: &str = "/etc/systemd/system.conf.d/90-halo.conf";
const USER: &str = "/etc/systemd/user.conf.d/90-halo.conf";
const USER_MANAGER: &str = "/etc/systemd/system/user@.service.d/90-halo.conf";
const LOGIN: &str = "/etc/systemd/logind.conf.d/90-halo.conf";
const HEAD: &str = "# Written by halo-cluster configure";

pub const FILES: &[&str] = &[LIMITS, SYSTEM, USER, USER_MANAGER, LOGIN];

pub fn plan(subject: &Subject<'_>) -> Vec<Step> {
    [memlock(subject), login(subject)].into_iter().flatten().collect()
}

/// Whether nothing of ours is there; what is right without us stays as it is.
fn untouched(facts: &Facts, files: &[&str]) -> bool {
    files.iter().all(|path| facts.texts.get(*path).is_none_or(Option::is_none))
}

fn memlock(Subject { facts, .. }: &Subject<'_>) -> Option<Step> {
    let unlimited = |limit: &Option<String>| limit.as_deref().is_none_or(|limit| limit == "infinity");
    let own = &facts.limits;
    let right =
        (own.memlock < 0 || facts.uid == 0) && unlimited(&own.memlock_system) && unlimited(&own.memlock_user);
    if right && untouched(facts, &[LIMITS, SYSTEM, USER, USER_MANAGER]) {
        return None;
    }
    let user = &facts.user;
    let limits = format!("{HEAD}: RDMA locks the memory that it uses.\n{user} - memlock unlimited\n");
    let manager =
        format!("{HEAD}: RDMA locks the memory that it uses.\n[Manager]\nDefaultLimitMEMLOCK=infinity\n");
    let service = format!(
        "{HEAD}: a user's services cannot have more than their manager.\n[Service]\nLimitMEMLOCK=infinity\n"
    );
    let systemd = facts.limits.memlock_system.is_some();
    let mut actions: Vec<_> = Action::write(facts, LIMITS, limits).into_iter().collect();
    let mut after_undo = Vec::new();
    if systemd {
        let files = [(SYSTEM, &manager), (USER, &manager), (USER_MANAGER, &service)];
        actions.extend(files.into_iter().filter_map(|(path, text)| Action::write(facts, path, text.clone())));
        after_undo.push(words(&["systemctl", "daemon-reexec"]));
    }
    if actions.is_empty() {
        return None;
    }
    if systemd {
        actions.push(Action::refresh(&["systemctl", "daemon-reexec"]));
    }
    let title = format!("{user} may lock all memory, in shells and in services");
    Some(Step { name: "limits", title, actions, after_undo, then: Some(Then::LogIn) })
}

fn login(Subject { facts, .. }: &Subject<'_>) -> Option<Step> {
    if !facts.limits.remove_ipc? && untouched(facts, &[LOGIN]) {
        return None;
    }
    let text = format!(
        "{HEAD}: a vLLM that outlives its user's last login keeps its shared memory.\n[Login]\nRemoveIPC=no\n"
    );
    // logind reads its settings again at this signal; a restart could end sessions.
    let reload = ["systemctl", "kill", "--signal=HUP", "systemd-logind"];
    Some(Step {
        name: "limits",
        title: "shared memory stays at logout".to_owned(),
        actions: vec![Action::write(facts, LOGIN, text)?, Action::refresh(&reload)],
        after_undo: vec![words(&reload)],
        then: None,
    })
}
