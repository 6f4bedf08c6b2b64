//! The data interface: what it is, its firmware, its slot, its cable, its MTU.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::config::Link;
use crate::facts::Interface;

/// The first firmware of the E810 with which RoCE is known to hold.
const E810_FIRMWARE: (u32, u32) = (4, 91);
/// Below this a slot, not the NIC, decides the bandwidth: PCIe 4.0 with four lanes has 63 Gb/s.
const SLOT_GBIT: f64 = 60.0;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(interface) = subject.facts.data_interface(subject.node) else { return vec![absent(subject)] };
    let mut findings = vec![nic(subject, interface)];
    findings.extend(firmware(interface));
    findings.extend(pcie(interface));
    findings.push(cable(interface));
    findings.push(mtu(subject, interface));
    findings
}

fn absent(Subject { facts, node, config, .. }: &Subject<'_>) -> Finding {
    let physical =
        facts.interfaces.iter().filter(|interface| interface.physical || !interface.addresses.is_empty());
    let present: Vec<_> =
        physical.map(|interface| format!("{} ({})", interface.name, interface.link().name())).collect();
    let found = match &node.interface {
        Some(name) => format!("no interface {name}; there are {}", present.join(", ")),
        None => format!("no interface has {}; there are {}", node.address, present.join(", ")),
    };
    let remedy = match config.network.link {
        Link::Usb4 => {
            "is the USB4 cable in on both ends, and thunderbolt-net loaded? `halo-cluster configure` loads it"
        }
        _ => {
            "set `interface` of this node to the data interface, then `halo-cluster configure` gives it the address"
        }
    };
    Finding::fail(Check::Nic, found, remedy)
}

fn nic(Subject { config, .. }: &Subject<'_>, interface: &Interface) -> Finding {
    let driver = interface.driver.as_deref().unwrap_or("no driver");
    let found = format!("{} ({driver})", interface.name);
    let (wanted, link) = (config.network.link, interface.link());
    match wanted {
        Link::Roce if link != Link::Roce => Finding::fail(
            Check::Nic,
            format!("{found} is no NIC with RDMA"),
            "set `interface` to the NIC's, or `network.link` to what this is",
        ),
        Link::Roce if interface.rdma.is_none() => Finding::fail(
            Check::Nic,
            format!("{found} has no RDMA device"),
            "load its driver: modprobe irdma (Intel), mlx5_ib (NVIDIA); `rdma link` lists devices",
        ),
        Link::Usb4 if link != Link::Usb4 => Finding::fail(
            Check::Nic,
            format!("{found} is no USB4 interface"),
            "set `interface` to thunderbolt0, or `network.link` to what this is",
        ),
        Link::Ethernet if link == Link::Roce && interface.rdma.is_some() => Finding::warn(
            Check::Nic,
            format!("{found} can do RDMA, the configuration says ethernet"),
            "network.link = \"roce\" uses it",
        ),
        _ => Finding::pass(Check::Nic, found),
    }
}

/// `4.91 0x800214b1 1.3909.0` is 4.91.
fn firmware(interface: &Interface) -> Option<Finding> {
    let text = interface.firmware.as_deref().filter(|text| !text.is_empty() && *text != "N/A")?;
    if interface.driver.as_deref() != Some("ice") {
        return Some(Finding::pass(Check::Firmware, text));
    }
    let mut numbers = text.split([' ', '.']).map(|word| word.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version >= E810_FIRMWARE {
        return Some(Finding::pass(Check::Firmware, text));
    }
    let remedy = "update it with Intel's NVM update tool (nvmupdate64e), to 4.91 or newer, then reboot";
    Some(Finding::fail(Check::Firmware, format!("{text}, older than 4.91"), remedy))
}

fn pcie(interface: &Interface) -> Option<Finding> {
    let (speed, width) = (interface.pcie_speed.as_deref()?, interface.pcie_width?);
    let transfers: f64 = speed.split_whitespace().next()?.parse().ok()?;
    // From 8 GT/s on 128 of 130 bits are data; before, 8 of 10.
    let share = if transfers < 8.0 { 0.8 } else { 128.0 / 130.0 };
    let gbit = transfers * f64::from(width) * share;
    let found = format!("{transfers} GT/s x{width}, {gbit:.0} Gb/s");
    if gbit >= SLOT_GBIT {
        return Some(Finding::pass(Check::Pcie, found));
    }
    let remedy =
        "use the board's x4 slot at PCIe 4.0: check riser, slot and the firmware's link speed setting";
    Some(Finding::warn(Check::Pcie, found, remedy))
}

fn cable(interface: &Interface) -> Finding {
    if !interface.carrier {
        let found = format!("{}: nothing answers at the other end", interface.name);
        let remedy = format!("plug the cable in on both ends; ip link set {} up", interface.name);
        return Finding::fail(Check::Cable, found, remedy);
    }
    let port = interface.port.as_deref().filter(|port| *port != "Other").unwrap_or("link is up");
    Finding::pass(Check::Cable, port)
}

fn mtu(Subject { config, .. }: &Subject<'_>, interface: &Interface) -> Finding {
    let (has, wanted) = (interface.mtu.unwrap_or_default(), config.network.mtu);
    if has == wanted {
        return Finding::pass(Check::Mtu, has.to_string());
    }
    Finding::fail(
        Check::Mtu,
        format!("{has}, {wanted} wanted"),
        "halo-cluster configure --apply, or `network.mtu`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;

    fn changed(link: &str, change: impl FnOnce(&mut Interface)) -> Vec<Finding> {
        let apply = |facts: &mut crate::facts::Facts| {
            change(facts.interfaces.iter_mut().find(|interface| interface.name == "enp193s0np0").unwrap());
        };
        recorded::judged(link, apply, judge)
    }

    fn failed(findings: &[Finding]) -> Vec<Check> {
        findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Fail)
            .map(|finding| finding.check)
            .collect()
    }

    #[test]
    fn an_e810_as_the_guide_has_it_passes() {
        let findings = changed("roce", |_| {});
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Pass), "{findings:#?}");
        assert_eq!(findings.len(), 5);
        assert_eq!(findings[2].found, "16 GT/s x4, 63 Gb/s");
    }

    #[test]
    fn each_defect_fails_its_own_check() {
        assert_eq!(failed(&changed("roce", |nic| nic.rdma = None)), [Check::Nic]);
        assert_eq!(
            failed(&changed("roce", |nic| nic.firmware = Some("4.20 0x8001 1.3".to_owned()))),
            [Check::Firmware]
        );
        assert_eq!(failed(&changed("roce", |nic| nic.carrier = false)), [Check::Cable]);
        assert_eq!(failed(&changed("roce", |nic| nic.mtu = Some(1500))), [Check::Mtu]);
        assert_eq!(failed(&changed("usb4", |_| {})), [Check::Nic]);
        let narrow = changed("roce", |nic| nic.pcie_width = Some(1));
        assert_eq!((narrow[2].verdict, narrow[2].found.as_str()), (Verdict::Warn, "16 GT/s x1, 16 Gb/s"));
    }

    #[test]
    fn without_the_interface_there_is_one_finding_that_lists_what_there_is() {
        let findings =
            recorded::judged("roce", |facts| facts.interfaces.retain(|i| i.name != "enp193s0np0"), judge);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].found, "no interface enp193s0np0; there are enp191s0 (ethernet)");
    }
}
