//! Root's rights, the distribution, the kernel, the power profile.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::config::Link;

/// The first kernel that registers GPU memory with RDMA devices by dma-buf, and whose irdma is whole.
const OLDEST: (u32, u32) = (6, 3);
/// The first kernel that people run on gfx1151 without patches.
const OLDEST_GFX1151: (u32, u32) = (6, 16);

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![sudo(subject), distribution(subject), kernel(subject)];
    findings.extend(power(subject));
    findings
}

fn sudo(Subject { facts, node, .. }: &Subject<'_>) -> Finding {
    match (facts.uid, facts.sudo) {
        (0, _) => Finding::pass(Check::Sudo, "root"),
        (_, true) => Finding::pass(Check::Sudo, format!("{} by sudo", facts.user)),
        _ => Finding::warn(
            Check::Sudo,
            format!("{} needs a password for sudo", facts.user),
            format!(
                "`configure` will ask for it with --ask-sudo-password; or on {}: echo '{} ALL=(ALL) NOPASSWD: ALL' | \
                 sudo tee /etc/sudoers.d/halo",
                node.name, facts.user
            ),
        ),
    }
}

fn distribution(Subject { facts, .. }: &Subject<'_>) -> Finding {
    let name = facts.system.os.get("PRETTY_NAME").map_or("unknown", String::as_str);
    if facts.system.machine != "x86_64" {
        let found = format!("{name} on {}", facts.system.machine);
        return Finding::fail(Check::Os, found, "halo-cluster's settings are for x86_64 machines");
    }
    if facts.is_like("fedora") || facts.is_like("debian") {
        return Finding::pass(Check::Os, name);
    }
    Finding::warn(
        Check::Os,
        name,
        "packages and kernel arguments of this distribution are set by hand; `configure` knows Fedora, Debian and Ubuntu",
    )
}

/// `6.18.3-200.fc43.x86_64` is 6.18.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(Subject { facts, .. }: &Subject<'_>) -> Finding {
    let release = facts.system.kernel.clone();
    let version = version(&release).unwrap_or_default();
    if version < OLDEST {
        let found = format!("{release}, older than {}.{}", OLDEST.0, OLDEST.1);
        return Finding::fail(Check::Kernel, found, "update the system, or install a newer kernel");
    }
    if facts.memory.gfx.iter().any(|gfx| gfx == "gfx1151") && version < OLDEST_GFX1151 {
        let found = format!("{release}, early for gfx1151");
        let remedy =
            "6.18 and later are what others run on gfx1151; on Ubuntu 24.04: linux-oem or mainline kernels";
        return Finding::warn(Check::Kernel, found, remedy);
    }
    Finding::pass(Check::Kernel, release)
}

fn power(Subject { facts, config, .. }: &Subject<'_>) -> Option<Finding> {
    let profile = facts.system.power_profile.as_ref()?;
    let best = facts.system.power_profiles.iter().any(|choice| choice == "performance");
    if profile == "performance" || !best {
        return Some(Finding::pass(Check::Power, profile));
    }
    let why = if config.network.link == Link::Roce { "; collectives wait on the CPU" } else { "" };
    let remedy = "powerprofilesctl set performance, or tuned-adm profile throughput-performance";
    Some(Finding::warn(Check::Power, format!("{profile}{why}"), remedy))
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.18.3-200.fc43.x86_64"), Some((6, 18)));
        assert_eq!(version("6.8.0-90-generic"), Some((6, 8)));
        assert!(version("6.8").unwrap() < version("6.18").unwrap());
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn an_old_kernel_fails_and_an_early_one_for_the_gpu_warns() {
        let verdict = |release: &str| {
            recorded::judged("roce", |facts| release.clone_into(&mut facts.system.kernel), judge)
                .into_iter()
                .find(|finding| finding.check == Check::Kernel)
                .unwrap()
                .verdict
        };
        assert_eq!(verdict("6.1.0-38-amd64"), Verdict::Fail);
        assert_eq!(verdict("6.8.0-90-generic"), Verdict::Warn);
        assert_eq!(verdict("7.1.2"), Verdict::Pass);
    }

    #[test]
    fn sudo_and_the_power_profile_are_told() {
        let findings = recorded::judged(
            "roce",
            |facts| {
                facts.sudo = false;
                facts.system.power_profile = Some("balanced".to_owned());
            },
            judge,
        );
        let warned: Vec<_> =
            findings.iter().filter(|f| f.verdict == Verdict::Warn).map(|f| f.check).collect();
        assert_eq!(warned, [Check::Sudo, Check::Power]);
    }
}
