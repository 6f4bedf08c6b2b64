//! Properties are what /sys says, and the same each time they are asked for.

use std::path::Path;

use halo::plugin::abi::{INVALID_ARGUMENT, PTR_CUDA, PTR_DMABUF, PTR_HOST};

use super::{Setting, expect, refused};
use crate::Outcome;
use crate::plugin::{Properties, Version};

/// What the plugin says of every device, beside what the kernel says of it.
pub(super) fn properties(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    expect("the name is halo", plugin.name() == "halo")?;
    let count = plugin.devices()?;
    expect("there is a device", count >= 1)?;
    for number in 0..count {
        let properties = plugin.properties(number)?;
        println!("device {number}: {properties:?}");
        if properties.name.contains('+') {
            // What several are as one is another case's matter.
            continue;
        }
        expect("they stay the same", properties == plugin.properties(number)?)?;
        if Path::new("/sys/class/infiniband").join(&properties.name).exists() {
            rdma_port(&properties)?;
        } else {
            interface(&properties)?;
        }
        promises(&properties)?;
        of_later_versions(plugin.version(), number, &properties)?;
    }
    expect("a device too many is refused", refused(plugin.properties(count), INVALID_ARGUMENT))?;
    expect("a negative device is refused", refused(plugin.properties(-1), INVALID_ARGUMENT))
}

/// What is the same for every device.
fn promises(properties: &Properties) -> Outcome {
    expect("host memory is taken", properties.ptr_support & PTR_HOST != 0)?;
    expect("registrations are global", properties.reg_is_global == 1)?;
    expect("room for connections", properties.max_comms > 1000)?;
    expect("grouped receives", (1..=8).contains(&properties.max_recvs))?;
    expect("the host drives it", (properties.net_device_type, properties.net_device_version) == (0, 0))?;
    // As NCCL's own transports have it: "not set", so that the core's model stands alone.
    expect("the latency is the core's own figure", properties.latency.to_bits() == 0)
}

/// What there is from some version on, and not before.
fn of_later_versions(version: Version, number: i32, properties: &Properties) -> Outcome {
    let since = |first: Version| version as u8 >= first as u8;
    let large = |bytes: Option<usize>| bytes.is_some_and(|bytes| bytes >= 1 << 20);
    expect("sizes from version 9 on", large(properties.max_p2p_bytes) == since(Version::V9))?;
    expect("and for collectives", large(properties.max_coll_bytes) == since(Version::V9))?;
    expect("no flush is forced", properties.force_flush == since(Version::V9).then_some(0))?;
    expect("one device is itself", properties.virtual_devices == since(Version::V9).then(|| vec![number]))?;
    expect("one message a request", properties.max_multi_request_size == since(Version::V11).then_some(1))?;
    expect("no rails are claimed", properties.rail_and_plane == since(Version::V12).then_some((-1, -1)))
}

fn rdma_port(properties: &Properties) -> Outcome {
    let Properties { name, port, guid, speed, ptr_support, .. } = properties;
    let device = format!("/sys/class/infiniband/{name}");
    let at = format!("{device}/ports/{port}");
    expect("the port is the device's", *port >= 1 && Path::new(&at).exists())?;
    let node = text(&format!("{device}/node_guid")).unwrap_or_default();
    expect("the guid is the node's", u64::from_str_radix(&node.replace(':', ""), 16) == Ok(*guid))?;
    let gpu_direct = std::env::var("HALO_PLUGIN_GPU_DIRECT").is_ok_and(|value| value == "1");
    expect("GPU memory only where it is asked for", (ptr_support & PTR_CUDA != 0) == gpu_direct)?;
    expect("no dma-buf without it", gpu_direct || ptr_support & PTR_DMABUF == 0)?;
    let interface = text(&format!("{at}/gid_attrs/ndevs/0")).ok_or("a RoCE port without an interface")?;
    // `100 Gb/sec (4X EDR)`
    let rate = text(&format!("{at}/rate")).unwrap_or_default();
    let rate =
        rate.split(' ').next().and_then(|rate| rate.parse::<f64>().ok()).map(|rate| (rate * 1000.0) as i32);
    let wanted = speed_of(&interface).or(rate).ok_or("a port without a rate")?;
    expect(&format!("the speed is {wanted}, not {speed}"), wanted == *speed)?;
    on_pci(&interface, properties)
}

fn interface(properties: &Properties) -> Outcome {
    let Properties { name, guid, speed, ptr_support, port, .. } = properties;
    expect("host memory alone, whatever is asked for", *ptr_support == PTR_HOST)?;
    expect("an interface has no port", *port == 0)?;
    match speed_of(name) {
        Some(wanted) => expect(&format!("the speed is {wanted}, not {speed}"), wanted == *speed)?,
        None => expect("a speed although the interface tells none", *speed > 0)?,
    }
    let address = text(&format!("/sys/class/net/{name}/address")).unwrap_or_default();
    if let Ok(address) = u64::from_str_radix(&address.replace(':', ""), 16)
        && address != 0
    {
        expect("the guid is the hardware address", address == *guid)?;
    }
    on_pci(name, properties)
}

/// The PCI path is the real one of the interface's device, and there is none for a device that is not on PCI.
fn on_pci(interface: &str, properties: &Properties) -> Outcome {
    let device = std::fs::canonicalize(format!("/sys/class/net/{interface}/device")).ok();
    // A virtio device stands one folder below its PCI device, which alone has a slot.
    let slot = device.iter().flat_map(|device| device.ancestors().take(2)).find_map(|folder| {
        let said = std::fs::read_to_string(folder.join("uevent")).ok()?;
        said.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=")).map(str::to_owned)
    });
    match (&slot, &properties.pci_path) {
        (Some(slot), Some(path)) => {
            // The functions of a NIC count as one device, its first.
            let slot = format!("{}0", &slot[..slot.len() - 1]);
            expect("the PCI path exists", Path::new(path).join("vendor").exists())?;
            expect(&format!("{path} ends in {slot}"), path.ends_with(&format!("/{slot}")))
        }
        (None, None) => Ok(()),
        differ => Err(format!("PCI slot and path of {interface}: {differ:?}").into()),
    }
}

/// Mb/s, where the interface tells; virtual ones show -1 or nothing.
fn speed_of(interface: &str) -> Option<i32> {
    text(&format!("/sys/class/net/{interface}/speed"))?.parse().ok().filter(|speed| *speed > 0)
}

fn text(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}
