//! Several RDMA devices used as one: the ports of one NIC, as a core that merges NICs asks for them.
//!
//! The devices that were found stay as they are, with their numbers; a joined one is added behind them. The core numbers
//! those that it sees as it counts them, so the same devices are joined once, however often it asks.

use std::ffi::CString;

use super::ports::{MAX_PORTS, RdmaPorts};
use super::{Device, Kind, PluginError, Properties, list};
use crate::plugin::log;
use crate::plugin::statistics::Statistics;

/// Joins the devices of these numbers; the number of the device that they are together.
pub(crate) fn join(asked: &[i32]) -> Result<i32, PluginError> {
    list::with_devices(|devices| {
        let refuse = |cause: &str| PluginError::Join { given: asked.to_vec(), cause: cause.to_owned() };
        let members = asked.iter().map(|number| devices.by_number(*number));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        check(asked, &members.iter().map(|device| Sort::of(device)).collect::<Vec<_>>())
            .map_err(|cause| refuse(&cause))?;
        if let [itself] = asked {
            return Ok(*itself);
        }
        if !members[0].settings.merge {
            return Err(refuse("NCCL_IB_MERGE_NICS=0 forbids it"));
        }
        if let Some(known) = find(asked, devices.all().iter().map(|device| device.members.as_slice())) {
            return Ok(known as i32);
        }
        let made: &'static Device = Box::leak(Box::new(make(asked, &members)));
        let number = devices.add(made);
        let Properties { speed, .. } = &made.properties;
        log::info(&format!("device {number}: {}, joined of {asked:?}, {speed} Mb/s", made.describe()));
        Ok(number as i32)
    })
}

/// What a device is, as far as joining goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Rdma,
    Tcp,
    Joined,
}

impl Sort {
    fn of(device: &Device) -> Self {
        match &device.kind {
            Kind::Tcp(_) => Self::Tcp,
            Kind::Rdma(ports) if ports.count() > 1 => Self::Joined,
            Kind::Rdma(_) => Self::Rdma,
        }
    }
}

/// Refuses what cannot be one device. One alone can: it is itself.
fn check(asked: &[i32], sorts: &[Sort]) -> Result<(), String> {
    let again = |at: usize| asked[..at].contains(&asked[at]);
    if asked.is_empty() || asked.len() > MAX_PORTS {
        return Err(format!("it takes one to {MAX_PORTS}"));
    }
    if let Some(at) = (0..asked.len()).find(|at| again(*at)) {
        return Err(format!("device {} is named twice", asked[at]));
    }
    if asked.len() == 1 {
        return Ok(());
    }
    match asked.iter().zip(sorts).find(|(_, sort)| **sort != Sort::Rdma) {
        None => Ok(()),
        Some((number, Sort::Joined)) => Err(format!("device {number} is several already")),
        Some((number, _)) => Err(format!("device {number} speaks TCP, and only RDMA ports are joined")),
    }
}

/// The device that has these members, in whatever order.
fn find<'a>(asked: &[i32], known: impl Iterator<Item = &'a [i32]>) -> Option<usize> {
    let sorted = |members: &[i32]| {
        let mut members = members.to_vec();
        members.sort_unstable();
        members
    };
    let wanted = sorted(asked);
    known.enumerate().find(|(_, members)| sorted(members) == wanted).map(|(number, _)| number)
}

fn make(asked: &[i32], members: &[&'static Device]) -> Device {
    let first = members[0];
    let names: Vec<_> = members.iter().map(|device| device.properties.name.to_bytes()).collect();
    let ports = members.iter().filter_map(|device| device.ports()).flat_map(RdmaPorts::iter);
    let each = || members.iter().map(|device| &device.properties);
    Device {
        members: asked.to_vec(),
        properties: Properties {
            name: CString::new(names.join(&b'+')).unwrap_or_default(),
            pci_path: first.properties.pci_path.clone(),
            guid: first.properties.guid,
            // What the NICs of all members take.
            pointer_support: each().fold(!0, |all, properties| all & properties.pointer_support),
            speed: each().fold(0, |sum, properties| sum.saturating_add(properties.speed)),
            port: first.properties.port,
        },
        kind: Kind::Rdma(RdmaPorts::new(ports.collect())),
        settings: first.settings.clone(),
        statistics: Statistics::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_four_ports_that_were_found_are_joined() {
        assert_eq!(check(&[0, 1], &[Sort::Rdma; 2]), Ok(()));
        assert_eq!(check(&[3, 0, 2, 1], &[Sort::Rdma; 4]), Ok(()));
    }

    #[test]
    fn what_cannot_be_one_device_is_refused_by_its_cause() {
        let refused = |asked: &[i32], sorts: &[Sort]| check(asked, sorts).unwrap_err();
        assert!(refused(&[], &[]).contains("one to 4"));
        assert!(refused(&[0, 1, 2, 3, 4], &[Sort::Rdma; 5]).contains("one to 4"));
        assert!(refused(&[1, 0, 1], &[Sort::Rdma; 3]).contains("device 1 is named twice"));
        assert!(refused(&[0, 1], &[Sort::Rdma, Sort::Tcp]).contains("device 1 speaks TCP"));
        assert!(refused(&[0, 2], &[Sort::Rdma, Sort::Joined]).contains("device 2 is several already"));
    }

    #[test]
    fn one_device_alone_is_itself_whatever_it_is() {
        for sort in [Sort::Rdma, Sort::Tcp, Sort::Joined] {
            assert_eq!(check(&[5], &[sort]), Ok(()));
        }
    }

    #[test]
    fn the_same_devices_are_found_again_in_whatever_order() {
        let known: [&[i32]; 5] = [&[0], &[1], &[2], &[0, 1], &[1, 2]];
        let number = |asked: &[i32]| find(asked, known.into_iter());
        assert_eq!((number(&[1, 0]), number(&[1, 2]), number(&[0, 2])), (Some(3), Some(4), None));
        assert_eq!(number(&[0, 1, 2]), None);
    }
}
