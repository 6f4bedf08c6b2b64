//! The list of devices, made once in a process: numbers must not change while a core uses them. Devices that are several
//! joined come behind those that were found.

use std::ffi::CString;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use halo_verbs::{Context, LinkLayer, MemoryRegion, PortState, TransportKind};

use super::selection::NameList;
use super::{Device, Kind, PluginError, Properties, RdmaPort, RdmaPorts, TcpInterface, port, sysfs};
use crate::plugin::abi;
use crate::plugin::log;
use crate::plugin::process;
use crate::plugin::settings::{Settings, Transport, without_effect};
use crate::plugin::statistics::Statistics;

/// The devices of a process.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// By their numbers. Leaked: requests and connections refer to them for as long as the process lives.
    all: Vec<&'static Device>,
    /// How many of them were found: the first ones. None means that they were not looked for yet.
    found: usize,
    /// Communicators that have told that they use the plugin, and not yet that they no longer do.
    contexts: usize,
}

impl Devices {
    pub(super) fn all(&self) -> &[&'static Device] {
        &self.all
    }

    pub(super) fn by_number(&self, number: i32) -> Result<&'static Device, PluginError> {
        let found = usize::try_from(number).ok().and_then(|number| self.all.get(number));
        found.copied().ok_or(PluginError::UnknownDevice { given: number, count: self.all.len() })
    }

    /// Adds one that is several; its number.
    pub(super) fn add(&mut self, joined: &'static Device) -> usize {
        self.all.push(joined);
        self.all.len() - 1
    }

    fn end(&mut self) {
        self.contexts = self.contexts.saturating_sub(1);
        if self.contexts == 0 {
            self.all.truncate(self.found);
        }
    }
}

/// Works with the devices, which are looked for unless they are known; a failure is tried again by the next communicator.
pub(super) fn with_devices<T>(
    work: impl FnOnce(&mut Devices) -> Result<T, PluginError>,
) -> Result<T, PluginError> {
    let mut devices = process::current().devices.lock().unwrap_or_else(PoisonError::into_inner);
    if devices.found > 0 {
        return work(&mut devices);
    }
    let settings = Settings::from_env()?;
    if let Some(words) = without_effect(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        log::warn(&words);
    }
    let found = Vec::leak(find(&settings)?);
    for (number, device) in found.iter().enumerate() {
        let address =
            device.address().map_or_else(|error| error.to_string(), |address| address.ip().to_string());
        let Properties { speed, pci_path, .. } = &device.properties;
        let (name, place) = (device.describe(), pci_path.as_ref().map(|path| path.to_string_lossy()));
        let place = place.as_deref().unwrap_or("no place in the PCI tree");
        log::info(&format!("device {number}: {name}, {address}, {speed} Mb/s, {place}"));
    }
    devices.all = found.iter().collect();
    devices.found = found.len();
    work(&mut devices)
}

/// Finds the devices, unless they are known.
pub(crate) fn initialise() -> Result<(), PluginError> {
    with_devices(|_| Ok(()))
}

/// As [`initialise`], for a communicator that will say when it ends.
pub(crate) fn begin() -> Result<(), PluginError> {
    with_devices(|devices| {
        devices.contexts += 1;
        Ok(())
    })
}

/// A communicator ends. A core forgets with the last one what it has joined, and takes everything that it counts the next
/// time for devices that were found: so those that are several are gone then, but for the connections that still use them.
pub(crate) fn end() {
    process::current().devices.lock().unwrap_or_else(PoisonError::into_inner).end();
}

/// All devices.
pub(crate) fn all() -> Result<Vec<&'static Device>, PluginError> {
    with_devices(|devices| Ok(devices.all.clone()))
}

/// The device the core means.
pub(crate) fn by_number(number: i32) -> Result<&'static Device, PluginError> {
    with_devices(|devices| devices.by_number(number))
}

fn find(settings: &Settings) -> Result<Vec<Device>, PluginError> {
    let mut refused = Vec::new();
    let mut found = Vec::new();
    if settings.transport != Transport::Tcp {
        found = rdma(settings, &mut refused);
    }
    if found.is_empty() && settings.transport != Transport::Rdma {
        if settings.transport == Transport::Auto {
            log::info(&format!("no RDMA port is usable, TCP is used: {}", refused.join("; ")));
        }
        found = tcp(settings, &mut refused)?;
    }
    if found.is_empty() {
        let looked_at = if refused.is_empty() { "there is none".to_owned() } else { refused.join("; ") };
        return Err(PluginError::NoDevice { looked_at });
    }
    let numbered = found.into_iter().enumerate().map(|(number, (properties, kind))| Device {
        members: vec![number as i32],
        properties,
        kind,
        settings: settings.clone(),
        statistics: Statistics::default(),
    });
    Ok(numbered.collect())
}

/// The functions of one NIC stand at one place in the PCI tree, and each calls its port 1: they are counted on, so that
/// place and port name one of them.
fn number_ports(found: &mut [(Properties, Kind)]) {
    for at in 1..found.len() {
        let (before, rest) = found.split_at_mut(at);
        let ours = &mut rest[0].0;
        let others = before.iter().filter(|(earlier, _)| {
            ours.pci_path.is_some() && earlier.pci_path == ours.pci_path && earlier.name != ours.name
        });
        ours.port += others.count() as i32;
    }
}

fn rdma(settings: &Settings, refused: &mut Vec<String>) -> Vec<(Properties, Kind)> {
    let devices = match halo_verbs::devices() {
        Ok(devices) => devices,
        Err(error) => {
            refused.push(error.to_string());
            return Vec::new();
        }
    };
    if devices.is_empty() {
        refused.push("this host has no RDMA device".to_owned());
    }
    let named = settings.rdma_device.as_deref().map(|name| NameList::read(&format!("={name}")));
    let admitted = |name: &str, port| {
        settings.ib_devices.admits(name, port) && named.as_ref().is_none_or(|named| named.admits(name, port))
    };
    let mut found = Vec::new();
    for device in devices {
        let name = device.name;
        if !admitted(&name, None) {
            refused.push(format!("{name}: not among the devices that are to be used"));
        } else if device.transport == TransportKind::Iwarp {
            refused.push(format!("{name}: it runs iWARP, not RoCE (irdma: set its parameter roce_ena=1)"));
        } else {
            match Context::open(&name).and_then(|context| Ok((context.ports()?, context))) {
                Err(error) => refused.push(error.to_string()),
                Ok((ports, context)) => {
                    for number in (1..=ports).filter(|number| admitted(&name, Some(*number))) {
                        match usable_port(&context, number, settings) {
                            Ok(device) => found.push(device),
                            Err(cause) => refused.push(format!("{name}:{number}: {cause}")),
                        }
                    }
                }
            }
        }
    }
    number_ports(&mut found);
    found
}

fn usable_port(
    context: &Arc<Context>,
    number: u8,
    settings: &Settings,
) -> Result<(Properties, Kind), String> {
    let port = context.port(number).map_err(|error| error.to_string())?;
    if port.link_layer != LinkLayer::Ethernet {
        return Err(format!("its link layer is {:?}, not Ethernet", port.link_layer));
    }
    if port.state != PortState::Active {
        return Err(format!("its state is {:?}, not active", port.state));
    }
    let gids = context.gids(number).map_err(|error| error.to_string())?;
    let gid = port::choose(&gids, settings)?.clone();
    let name = context.name();
    let interface = sysfs::interface_of(name, number);
    let interface_speed = interface.as_deref().and_then(sysfs::interface_speed);
    let gpu = settings.gpu_direct;
    let dma_buf = gpu && MemoryRegion::dma_buf_known().unwrap_or(false);
    let properties = Properties {
        name: CString::new(name).unwrap_or_default(),
        pci_path: sysfs::pci_path("infiniband", name)
            .or_else(|| interface.as_deref().and_then(|interface| sysfs::pci_path("net", interface)))
            .map(sysfs::first_function),
        guid: sysfs::node_guid(name).unwrap_or(u64::from(number)),
        pointer_support: abi::PTR_HOST
            | if gpu { abi::PTR_CUDA } else { 0 }
            | if dma_buf { abi::PTR_DMABUF } else { 0 },
        speed: interface_speed.or_else(|| sysfs::rdma_speed(name, number)).unwrap_or(sysfs::UNKNOWN_SPEED),
        port: i32::from(number),
    };
    // It lives as long as the process, as its device does: devices that are several have it too.
    let port = Box::leak(Box::new(RdmaPort::new(Arc::clone(context), number, gid)));
    Ok((properties, Kind::Rdma(RdmaPorts::new(vec![port]))))
}

fn tcp(settings: &Settings, refused: &mut Vec<String>) -> Result<Vec<(Properties, Kind)>, PluginError> {
    let all = if_addrs::get_if_addrs().map_err(|error| PluginError::system("getifaddrs", error))?;
    let family = |address: IpAddr| settings.socket_family.is_none_or(|family| family.has(address));
    let mut usable: Vec<_> =
        all.into_iter().filter(|entry| family(entry.ip()) && sysfs::is_up(&entry.name)).collect();
    // IPv4 first, global before link-local: the first address of an interface is the one that is used.
    usable.sort_by_key(|entry| (entry.ip().is_ipv6(), entry.is_link_local()));
    let asked = |entry: &if_addrs::Interface| {
        settings.interface.as_ref().is_none_or(|name| *name == entry.name)
            && settings.address.is_none_or(|address| address == entry.ip())
            && settings.socket_interfaces.as_ref().is_none_or(|list| list.admits(&entry.name, None))
    };
    let named =
        settings.interface.is_some() || settings.address.is_some() || settings.socket_interfaces.is_some();
    let ordinary = |entry: &if_addrs::Interface| !entry.is_loopback() && !entry.name.starts_with("docker");
    let mut chosen: Vec<&if_addrs::Interface> = Vec::new();
    for entry in &usable {
        let wanted = asked(entry) && (named || ordinary(entry));
        if wanted && chosen.iter().all(|earlier| earlier.name != entry.name) {
            chosen.push(entry);
        } else if !wanted {
            refused.push(format!(
                "{} ({}): not among the interfaces that are to be used",
                entry.name,
                entry.ip()
            ));
        }
    }
    if chosen.is_empty() && !named {
        // A machine without a network still has ranks that want to talk.
        chosen.extend(usable.iter().find(|entry| entry.is_loopback()));
    }
    chosen.sort_by_key(|entry| entry.index);
    Ok(chosen.into_iter().map(interface_device).collect())
}

fn interface_device(entry: &if_addrs::Interface) -> (Properties, Kind) {
    let name = entry.name.as_str();
    let index = entry.index.or_else(|| sysfs::interface_index(name)).unwrap_or(0);
    let properties = Properties {
        name: CString::new(name).unwrap_or_default(),
        pci_path: sysfs::pci_path("net", name),
        guid: sysfs::hardware_address(name).unwrap_or(u64::from(index)),
        pointer_support: abi::PTR_HOST,
        speed: sysfs::interface_speed(name).unwrap_or(sysfs::UNKNOWN_SPEED),
        port: 0,
    };
    let interface = TcpInterface { address: entry.ip(), index };
    (properties, Kind::Tcp(interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(name: &str, pci_path: Option<&str>) -> (Properties, Kind) {
        let properties = Properties {
            name: CString::new(name).unwrap(),
            pci_path: pci_path.map(|path| CString::new(path).unwrap()),
            guid: 1,
            pointer_support: abi::PTR_HOST,
            speed: 10,
            port: 1,
        };
        (properties, Kind::Tcp(TcpInterface { address: [127, 0, 0, 1].into(), index: 1 }))
    }

    fn device(name: &str) -> &'static Device {
        let (properties, kind) = properties(name, None);
        let (settings, statistics) = (Settings::from_env().unwrap(), Statistics::default());
        Box::leak(Box::new(Device { members: vec![0], properties, kind, settings, statistics }))
    }

    #[test]
    fn what_was_joined_goes_with_the_last_communicator() {
        let mut devices = Devices { all: vec![device("a"), device("b")], found: 2, contexts: 2 };
        assert_eq!(devices.add(device("a+b")), 2);
        devices.end();
        assert_eq!(devices.all().len(), 3, "another communicator still counts three");
        devices.end();
        assert_eq!(devices.all().len(), 2);
    }

    #[test]
    fn the_functions_of_one_nic_have_ports_of_their_own() {
        let mut found = vec![
            properties("irdma0", Some("/sys/0000:c1:00.0")),
            properties("irdma1", Some("/sys/0000:c1:00.0")),
            properties("irdma2", Some("/sys/0000:c2:00.0")),
            properties("rxe0", None),
            properties("rxe1", None),
        ];
        number_ports(&mut found);
        assert_eq!(found.iter().map(|(device, _)| device.port).collect::<Vec<_>>(), [1, 2, 1, 1, 1]);
    }
}
