//! What the kernel shows of devices as files.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Mb/s of a device that does not tell.
pub(crate) const UNKNOWN_SPEED: i32 = 10_000;

/// The PCI device behind an entry of /sys/class; `None` for virtual devices.
pub(crate) fn pci_path(class: &str, name: &str) -> Option<CString> {
    let link = format!("/sys/class/{class}/{name}/device");
    let path = fs::canonicalize(link).ok()?;
    // A PCI device has a class file of its own; a virtio device stands one folder below its PCI device.
    let is_pci = |path: &Path| path.join("vendor").exists() && path.join("class").exists();
    let pci = path.ancestors().take(2).find(|path| is_pci(path))?;
    CString::new(pci.to_path_buf().into_os_string().into_vec()).ok()
}

/// The first function of a PCI device. By this path the core sees which ports are those of one NIC: NCCL's own transport
/// tells it the same.
pub(crate) fn first_function(path: CString) -> CString {
    let mut first = path.as_bytes().to_vec();
    if let Some(function) = first.last_mut() {
        *function = b'0';
    }
    match CString::new(first) {
        Ok(first) if Path::new(std::ffi::OsStr::from_bytes(first.as_bytes())).join("vendor").exists() => {
            first
        }
        _ => path,
    }
}

/// An RDMA device's node GUID, `0011:2233:4455:6677` in the file.
pub(crate) fn node_guid(device: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/class/infiniband/{device}/node_guid")).ok()?;
    u64::from_str_radix(&text.trim().replace(':', ""), 16).ok().filter(|guid| *guid != 0)
}

/// The network interface below an RDMA port.
pub(crate) fn interface_of(device: &str, port: u8) -> Option<String> {
    let file = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/ndevs/0");
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// An RDMA port's rate, `100 Gb/sec (4X EDR)` in the file, in Mb/s.
pub(crate) fn rdma_speed(device: &str, port: u8) -> Option<i32> {
    let text = fs::read_to_string(format!("/sys/class/infiniband/{device}/ports/{port}/rate")).ok()?;
    rate(&text)
}

fn rate(text: &str) -> Option<i32> {
    let gigabits: f64 = text.split_whitespace().next()?.parse().ok()?;
    (gigabits > 0.0).then_some((gigabits * 1000.0) as i32)
}

/// An interface's speed in Mb/s; virtual ones show -1 or nothing.
pub(crate) fn interface_speed(name: &str) -> Option<i32> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/speed")).ok()?;
    text.trim().parse().ok().filter(|speed| *speed > 0)
}

/// An interface's hardware address as a number; loopback and tunnels have none.
pub(crate) fn hardware_address(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?;
    u64::from_str_radix(&text.trim().replace(':', ""), 16).ok().filter(|address| *address != 0)
}

/// Whether an interface is up, as far as can be seen: in a network namespace /sys may show another one's interfaces.
pub(crate) fn is_up(name: &str) -> bool {
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 1 != 0)
        || flags.is_empty()
}

/// An interface's number.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_the_kernel_writes_them() {
        assert_eq!(rate("100 Gb/sec (4X EDR)\n"), Some(100_000));
        assert_eq!(rate("2.5 Gb/sec (1X SDR)\n"), Some(2_500));
        assert_eq!(rate("nothing"), None);
    }

    #[test]
    fn both_functions_of_a_nic_stand_where_the_first_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = |function: &str| {
            CString::new(format!("{}/0000:c1:00.{function}", folder.path().display())).unwrap()
        };
        assert_eq!(first_function(path("1")), path("1"), "there is no first one");
        let first = folder.path().join("0000:c1:00.0");
        fs::create_dir(&first).unwrap();
        fs::write(first.join("vendor"), "0x8086").unwrap();
        assert_eq!(first_function(path("1")), path("0"));
        assert_eq!(first_function(path("0")), path("0"));
    }

    #[test]
    fn loopback_is_up_and_no_pci_device() {
        assert!(is_up("lo"));
        assert_eq!(pci_path("net", "lo"), None);
        assert_eq!(hardware_address("lo"), None);
        assert_eq!(interface_index("lo"), Some(1));
    }
}
