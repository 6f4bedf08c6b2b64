//! The GPU: whether ROCm's driver knows it, how much memory it may use, and the kernel arguments that decide it.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::target;

/// More than this kept for the GPU alone is lost to the system, and the GPU does not need it.
const LARGE_CARVE_OUT: u64 = 4 << 30;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![gpu(subject)];
    findings.extend(memory(subject));
    findings.extend(kernel_arguments(subject));
    findings.extend(devices(subject));
    findings
}

fn gpu(Subject { facts, .. }: &Subject<'_>) -> Finding {
    match (facts.memory.gfx.as_slice(), facts.memory.gpus.len()) {
        ([], 0) => {
            Finding::warn(Check::Gpu, "no AMD GPU", "vLLM can serve on the CPU here, and on nothing else")
        }
        ([], _) => Finding::fail(
            Check::Gpu,
            "an AMD GPU that the driver's compute part (amdkfd) does not show",
            "is amdgpu loaded (lsmod), and /dev/kfd there? dmesg | grep -i kfd tells why not",
        ),
        (gfx, _) => Finding::pass(Check::Gpu, gfx.join(", ")),
    }
}

fn memory(Subject { facts, .. }: &Subject<'_>) -> Option<Finding> {
    let wanted = target::gtt_bytes(facts)?;
    let sum =
        |pick: fn(&crate::facts::Gpu) -> Option<u64>| facts.memory.gpus.iter().filter_map(pick).sum::<u64>();
    let (gtt, vram) = (sum(|gpu| gpu.gtt_bytes), sum(|gpu| gpu.vram_bytes));
    let found = format!("GTT {} GiB, of its own {:.1} GiB", gtt >> 30, vram as f64 / f64::from(1 << 30));
    if vram > LARGE_CARVE_OUT {
        let remedy = "set the iGPU's memory to 512 MB in the firmware setup: the GPU takes the rest by GTT (halo-cluster configure)";
        return Some(Finding::warn(Check::Memory, found, remedy));
    }
    if gtt < wanted {
        let found = format!("{found}; {} GiB of GTT wanted", wanted >> 30);
        let remedy = "halo-cluster configure sets amdgpu.gttsize and ttm.pages_limit; then reboot";
        return Some(Finding::fail(Check::Memory, found, remedy));
    }
    Some(Finding::pass(Check::Memory, found))
}

fn kernel_arguments(Subject { config, facts, .. }: &Subject<'_>) -> Option<Finding> {
    let wanted = target::kernel_arguments(config, facts);
    let running = facts.system.command_line.as_deref().unwrap_or_default();
    let missing = target::missing(&wanted, running);
    if wanted.is_empty() {
        return None;
    }
    if missing.is_empty() {
        return Some(Finding::pass(Check::KernelArguments, wanted.join(" ")));
    }
    let found = format!("without {}", missing.join(" "));
    let next = [facts.system.boot.grubby.as_deref(), grub_file(facts)];
    let set = next.into_iter().flatten().any(|line| target::missing(&wanted, line).is_empty());
    let remedy =
        if set { "they are set for the next start: reboot" } else { "halo-cluster configure --apply" };
    Some(Finding::fail(Check::KernelArguments, found, remedy))
}

/// What configure added for grub.
fn grub_file(facts: &crate::facts::Facts) -> Option<&str> {
    let text = facts.texts.get(crate::configure::GRUB_FILE)?.as_deref()?;
    Some(text.split('"').nth(1).unwrap_or_default())
}

fn devices(Subject { facts, .. }: &Subject<'_>) -> Option<Finding> {
    let closed: Vec<_> =
        facts.devices.iter().filter(|(_, access)| *access != "rw").map(|(path, _)| path.as_str()).collect();
    if facts.devices.is_empty() {
        return None;
    }
    if closed.is_empty() {
        return Some(Finding::pass(Check::Devices, format!("{} may be opened", facts.devices.len())));
    }
    let found = format!("{} may not open {}", facts.user, closed.join(", "));
    let remedy = format!(
        "halo-cluster configure --apply, then log in again ({} joins the groups of these files)",
        facts.user
    );
    Some(Finding::fail(Check::Devices, found, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_configured_board_passes() {
        let findings = recorded::judged("roce", |_| {}, judge);
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Pass), "{findings:#?}");
        assert_eq!(findings.len(), 4);
    }

    #[test]
    fn a_small_gtt_fails_and_a_large_carve_out_warns() {
        let judged = |gtt: u64, vram: u64, total: u64| {
            let change = |facts: &mut crate::facts::Facts| {
                facts.memory.gpus[0].gtt_bytes = Some(gtt << 30);
                facts.memory.gpus[0].vram_bytes = Some(vram << 30);
                facts.memory.total_bytes = total << 30;
            };
            recorded::judged("roce", change, |subject| memory(subject).into_iter().collect()).remove(0)
        };
        let small = judged(62, 0, 125);
        assert_eq!(small.verdict, Verdict::Fail);
        assert_eq!(small.found, "GTT 62 GiB, of its own 0.0 GiB; 124 GiB of GTT wanted");
        assert_eq!(judged(124, 64, 62).verdict, Verdict::Warn);
    }

    #[test]
    fn arguments_that_wait_for_a_reboot_are_told_from_missing_ones() {
        let judged = |grubby: &str| {
            let change = |facts: &mut crate::facts::Facts| {
                facts.system.command_line = Some("quiet iommu=pt".to_owned());
                facts.system.boot.grubby = Some(grubby.to_owned());
            };
            recorded::judged("roce", change, |subject| kernel_arguments(subject).into_iter().collect())
                .remove(0)
        };
        let all = target::kernel_arguments(&recorded::config("roce"), &recorded::fedora()).join(" ");
        assert!(judged(&all).remedy.unwrap().contains("reboot"));
        assert!(judged("quiet").remedy.unwrap().contains("configure"));
    }

    #[test]
    fn a_device_that_may_not_be_opened_is_named() {
        let change = |facts: &mut crate::facts::Facts| {
            facts.devices.insert("/dev/kfd".to_owned(), "r".to_owned());
        };
        let finding = recorded::judged("roce", change, judge).pop().unwrap();
        assert_eq!(finding.found, "me may not open /dev/kfd");
    }
}
