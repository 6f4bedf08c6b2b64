//! Locked memory, which RDMA needs, and shared memory at logout.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::config::Link;

/// As much as any arena of halo and any registration of RCCL takes.
const ENOUGH: i64 = 16 << 30;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![memlock(subject)];
    findings.extend(remove_ipc(subject));
    findings
}

fn memlock(Subject { config, facts, .. }: &Subject<'_>) -> Finding {
    let limits = &facts.limits;
    let enough = |bytes: i64| !(0..ENOUGH).contains(&bytes);
    // systemd prints infinity, or 18446744073709551615 in older releases.
    let unit =
        |text: &Option<String>| text.as_deref().is_none_or(|text| text.parse::<i64>().map_or(true, enough));
    let mut small = Vec::new();
    if !enough(limits.memlock) && facts.uid != 0 {
        small.push(format!("{} KiB in the shell", limits.memlock >> 10));
    }
    if !unit(&limits.memlock_system) {
        small.push("small in system services".to_owned());
    }
    if !unit(&limits.memlock_user) {
        small.push("small in user services".to_owned());
    }
    if small.is_empty() {
        let found =
            if facts.uid == 0 && !enough(limits.memlock) { "root is not limited" } else { "unlimited" };
        return Finding::pass(Check::Memlock, found);
    }
    let remedy = "halo-cluster configure --apply, then log in again (user services: loginctl terminate-user)";
    if config.network.link == Link::Roce && small[0].ends_with("in the shell") {
        return Finding::fail(Check::Memlock, small.join(", "), remedy);
    }
    Finding::warn(Check::Memlock, small.join(", "), remedy)
}

fn remove_ipc(Subject { facts, .. }: &Subject<'_>) -> Option<Finding> {
    let removes = facts.limits.remove_ipc?;
    if !removes || facts.uid == 0 {
        return Some(Finding::pass(Check::RemoveIpc, if removes { "not for root" } else { "no" }));
    }
    let found = "RemoveIPC=yes: at the last logout a running vLLM loses its shared memory";
    Some(Finding::fail(Check::RemoveIpc, found, "halo-cluster configure --apply"))
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;
    use crate::facts::Limits;

    fn found(link: &str, uid: u32, limits: &Limits) -> (Verdict, String) {
        let change = |facts: &mut crate::facts::Facts| {
            facts.uid = uid;
            facts.limits = limits.clone();
        };
        let finding = recorded::judged(link, change, judge).remove(0);
        (finding.verdict, finding.found)
    }

    #[test]
    fn each_place_where_memory_is_limited_is_named() {
        let unlimited = Some("infinity".to_owned());
        let mut limits = Limits {
            memlock: -1,
            memlock_system: unlimited.clone(),
            memlock_user: unlimited,
            remove_ipc: None,
        };
        assert_eq!(found("roce", 1000, &limits), (Verdict::Pass, "unlimited".to_owned()));
        limits.memlock_user = Some("8388608".to_owned());
        assert_eq!(found("roce", 1000, &limits), (Verdict::Warn, "small in user services".to_owned()));
        limits.memlock = 8 << 20;
        let both = "8192 KiB in the shell, small in user services".to_owned();
        assert_eq!(found("roce", 1000, &limits), (Verdict::Fail, both.clone()));
        assert_eq!(found("ethernet", 1000, &limits), (Verdict::Warn, both));
        limits.memlock_user = None;
        assert_eq!(found("roce", 0, &limits), (Verdict::Pass, "root is not limited".to_owned()));
    }

    #[test]
    fn shared_memory_that_goes_at_logout_fails_for_users_only() {
        let judged = |uid: u32| {
            let change = |facts: &mut crate::facts::Facts| {
                facts.uid = uid;
                facts.limits.remove_ipc = Some(true);
            };
            recorded::judged("roce", change, judge).pop().unwrap().verdict
        };
        assert_eq!((judged(1000), judged(0)), (Verdict::Fail, Verdict::Pass));
    }
}
