//! RDMA: the mode of the NIC, its GIDs, rdma-core. Only where the configuration says `link = "roce"`.

use super::Subject;
use super::check::Check;
use super::finding::Finding;
use crate::config::Link;
use crate::facts::RdmaDevice;

/// Older ones know fewer completion types than newer kernels send, which RCCL reports as an unknown completion.
const RDMA_CORE: u32 = 62;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    if subject.config.network.link != Link::Roce {
        return Vec::new();
    }
    let mut findings = vec![rdma_core(subject)];
    if let Some(device) = device(subject) {
        findings.push(mode(subject, device));
        if findings[1].remedy.is_none() {
            findings.push(gid(subject, device));
        }
    }
    findings
}

/// The device named in the configuration, else the one on the data interface.
fn device<'a>(Subject { facts, node, .. }: &Subject<'a>) -> Option<&'a RdmaDevice> {
    if let Some(named) = &node.rdma_device {
        // Of several, the first is looked at.
        let name = named.split([',', ':']).next().unwrap_or_default();
        return facts.rdma.iter().find(|device| device.name == name);
    }
    let interface = facts.data_interface(node)?;
    let on = |device: &&RdmaDevice| {
        device.interface.as_ref() == Some(&interface.name) || interface.rdma.as_ref() == Some(&device.name)
    };
    facts.rdma.iter().find(on)
}

fn mode(subject: &Subject<'_>, device: &RdmaDevice) -> Finding {
    let name = &device.name;
    let iwarp = device.node_type.as_deref().is_some_and(|kind| kind.contains("RNIC"));
    if iwarp {
        let pci = subject.facts.data_interface(subject.node).and_then(|interface| interface.pci.as_deref());
        let pci = pci.unwrap_or("PCI-ADDRESS");
        let remedy = format!(
            "devlink dev param set pci/{pci} name enable_iwarp value false cmode runtime, then the same with \
             enable_roce and true; with Intel's own driver: options irdma roce_ena=1"
        );
        return Finding::fail(Check::Roce, format!("{name} is in iWARP mode"), remedy);
    }
    if !device.state.as_deref().is_some_and(|state| state.contains("ACTIVE")) {
        let found = format!("{name} is {}", device.state.as_deref().unwrap_or("without a port"));
        return Finding::fail(
            Check::Roce,
            found,
            "its port follows the interface: see `cable` and `address`",
        );
    }
    Finding::pass(Check::Roce, format!("{name} speaks RoCE"))
}

fn gid(Subject { node, .. }: &Subject<'_>, device: &RdmaDevice) -> Finding {
    match device.roce_v2_gid(node.address) {
        Some(gid) => Finding::pass(Check::Gid, format!("{} at index {}", node.address, gid.index)),
        None => Finding::fail(
            Check::Gid,
            format!("{} has no RoCE v2 GID for {}", device.name, node.address),
            "give the NIC's own interface the data address (`address`); a GID follows it",
        ),
    }
}

fn rdma_core(Subject { facts, .. }: &Subject<'_>) -> Finding {
    match facts.libibverbs {
        None => {
            Finding::fail(Check::RdmaCore, "libibverbs is not installed", "halo-cluster configure --apply")
        }
        Some(version) if version < RDMA_CORE => Finding::warn(
            Check::RdmaCore,
            version.to_string(),
            "halo does not mind; RCCL over RDMA does: version 62 or newer on kernels from 6.18 on",
        ),
        Some(version) => Finding::pass(Check::RdmaCore, version.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use std::net::Ipv6Addr;

    use super::*;
    use crate::doctor::finding::Verdict;
    use crate::facts::Facts;

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<(Check, Verdict)> {
        recorded::judged("roce", change, judge).into_iter().map(|f| (f.check, f.verdict)).collect()
    }

    #[test]
    fn a_roce_nic_passes_and_other_links_are_not_asked() {
        let all = [Check::RdmaCore, Check::Roce, Check::Gid].map(|check| (check, Verdict::Pass));
        assert_eq!(found(|_| {}), all);
        assert!(recorded::judged("usb4", |_| {}, judge).is_empty());
    }

    #[test]
    fn iwarp_is_told_by_its_node_type_and_has_no_gid_to_look_for() {
        let findings = recorded::judged("roce", |f| f.rdma[0].node_type = Some("4: RNIC".to_owned()), judge);
        assert_eq!(findings[1].found, "rocep193s0 is in iWARP mode");
        assert!(findings[1].remedy.as_ref().unwrap().contains("pci/0000:c1:00.0 name enable_iwarp"));
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn a_gid_must_be_of_roce_v2_and_of_this_address() {
        let gid = |change: fn(&mut crate::facts::Gid)| {
            found(|facts| facts.rdma[0].gids.iter_mut().for_each(change)).pop()
        };
        assert_eq!(gid(|gid| "IB/RoCE v1".clone_into(&mut gid.kind)), Some((Check::Gid, Verdict::Fail)));
        let other = "0000:0000:0000:0000:0000:ffff:c0a8:6409";
        assert!(other.parse::<Ipv6Addr>().is_ok());
        assert_eq!(
            gid(|gid| "0000:0000:0000:0000:0000:ffff:c0a8:6409".clone_into(&mut gid.gid)),
            Some((Check::Gid, Verdict::Fail))
        );
    }

    #[test]
    fn rdma_core_that_is_missing_fails_and_an_old_one_warns() {
        assert_eq!(found(|facts| facts.libibverbs = None)[0].1, Verdict::Fail);
        assert_eq!(found(|facts| facts.libibverbs = Some(50))[0].1, Verdict::Warn);
    }
}
