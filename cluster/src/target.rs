//! What a node should be like, by its configuration and its hardware: `doctor` compares with it, `configure` makes it so.

use crate::config::{Config, Engine, Link};
use crate::facts::Facts;

/// What stays the system's when the GPU may use the rest of the memory.
const RESERVE_GIB: u64 = 4;
/// A page of the GPU's memory manager.
const PAGE: u64 = 4096;

/// The installed memory: firmware and GPU keep some of it, so the kernel's own figure is less.
fn installed_gib(facts: &Facts) -> u64 {
    let vram: u64 = facts.memory.gpus.iter().filter_map(|gpu| gpu.vram_bytes).sum();
    ((facts.memory.total_bytes + vram) >> 30).next_multiple_of(16)
}

/// GPUs that have no memory of their own, but share the processor's.
const SHARING: [&str; 5] = ["gfx115", "gfx1103", "gfx1035", "gfx1036", "gfx90c"];

/// Bytes that the GPU should be allowed to use as its own; none without a GPU that shares memory.
pub fn gtt_bytes(facts: &Facts) -> Option<u64> {
    let shares = |gfx: &String| SHARING.iter().any(|prefix| gfx.starts_with(prefix));
    facts.memory.gfx.iter().any(shares).then(|| installed_gib(facts).saturating_sub(RESERVE_GIB) << 30)
}

/// The kernel arguments that this node should run with.
pub fn kernel_arguments(config: &Config, facts: &Facts) -> Vec<String> {
    if let Some(given) = &config.system.kernel_arguments {
        return given.clone();
    }
    let mut arguments = Vec::new();
    if config.network.link == Link::Roce {
        // Room for the NIC's windows behind a small slot, and no naps of the link between two collectives.
        arguments.extend(["iommu=pt", "pci=realloc", "pcie_aspm=off"].map(str::to_owned));
    }
    if let Some(bytes) = gtt_bytes(facts) {
        if arguments.is_empty() {
            arguments.push("iommu=pt".to_owned());
        }
        arguments.push(format!("amdgpu.gttsize={}", bytes >> 20));
        arguments.push(format!("ttm.pages_limit={}", bytes / PAGE));
    }
    arguments
}

/// Those of `wanted` that `line` does not have, or has with another value later on.
pub fn missing<'a>(wanted: &'a [String], line: &str) -> Vec<&'a str> {
    let present = |argument: &&String| match argument.split_once('=') {
        Some((name, value)) => Facts::argument(line, name) == Some(value),
        None => line.split_whitespace().any(|word| word == argument.as_str()),
    };
    wanted.iter().filter(|argument| !present(argument)).map(String::as_str).collect()
}

/// The packages that this node should have; empty where neither apt nor dnf is.
pub fn packages(config: &Config, manager: Option<&str>) -> Vec<&'static str> {
    let roce = config.network.link == Link::Roce;
    let mut names: Vec<&'static str> = Vec::new();
    match manager {
        Some("apt") => {
            names.push("ethtool");
            if roce {
                names.extend(["rdma-core", "ibverbs-providers", "ibverbs-utils", "perftest"]);
            }
        }
        Some("dnf") => {
            names.push("ethtool");
            if roce {
                names.extend(["rdma-core", "libibverbs", "libibverbs-utils", "perftest"]);
            }
        }
        _ => return names,
    }
    names.extend(config.container.as_ref().map(|container| match (container.engine, manager) {
        (Engine::Podman, _) => "podman",
        (Engine::Docker, Some("apt")) => "docker.io",
        (Engine::Docker, _) => "moby-engine",
        (Engine::Toolbox, Some("apt")) => "podman-toolbox",
        (Engine::Toolbox, _) => "toolbox",
        (Engine::Distrobox, _) => "distrobox",
    }));
    names
}

/// Every package that any node may be asked about.
pub fn all_packages(config: &Config) -> Vec<&'static str> {
    let mut names = packages(config, Some("apt"));
    names.extend(packages(config, Some("dnf")));
    names.sort_unstable();
    names.dedup();
    names
}

/// The devices that a container must be given.
pub fn devices(config: &Config) -> Vec<&'static str> {
    let mut devices = vec!["/dev/dri", "/dev/kfd"];
    if config.network.link == Link::Roce {
        devices.push("/dev/infiniband");
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    #[test]
    fn a_board_with_128_gib_gets_the_arguments_of_the_guide() {
        let (config, facts) = (recorded::config("roce"), recorded::fedora());
        assert_eq!(
            kernel_arguments(&config, &facts),
            ["iommu=pt", "pci=realloc", "pcie_aspm=off", "amdgpu.gttsize=126976", "ttm.pages_limit=32505856"]
        );
    }

    #[test]
    fn a_board_with_64_gib_gets_less_and_a_machine_without_a_gpu_nothing() {
        let (config, mut facts) = (recorded::config("usb4"), recorded::fedora());
        facts.memory.total_bytes = 62 << 30;
        assert_eq!(
            kernel_arguments(&config, &facts),
            ["iommu=pt", "amdgpu.gttsize=61440", "ttm.pages_limit=15728640"]
        );
        facts.memory.gfx = vec!["gfx1100".to_owned()];
        assert!(kernel_arguments(&config, &facts).is_empty());
    }

    #[test]
    fn an_argument_counts_with_the_last_value_only() {
        let wanted = ["iommu=pt", "pcie_aspm=off", "quiet"].map(str::to_owned);
        assert_eq!(missing(&wanted, "iommu=pt pcie_aspm=off iommu=soft quiet"), ["iommu=pt"]);
        assert_eq!(missing(&wanted, "quiet2 pcie_aspm=off iommu=pt"), ["quiet"]);
    }
}
