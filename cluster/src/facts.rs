//! What a node says of itself, as its script (`agent/facts/`) reads it. Judging is done elsewhere, by functions that
//! see nothing but these values, so that the facts of a machine can be recorded and judged again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::Node;

/// One node, raw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub user: String,
    pub uid: u32,
    pub home: String,
    pub host: String,
    /// The address at which ssh came in.
    pub ssh_address: Option<IpAddr>,
    /// Whether root's rights are to be had without a password.
    pub sudo: bool,
    pub python3: String,
    pub system: System,
    pub memory: Memory,
    pub limits: Limits,
    /// Device files with `r` and `w` as far as this user may.
    pub devices: BTreeMap<String, String>,
    /// The groups of device files that this user may not open, and is not in.
    #[serde(default)]
    pub missing_groups: Vec<String>,
    pub interfaces: Vec<Interface>,
    pub routes: Vec<Route>,
    pub rdma: Vec<RdmaDevice>,
    /// The release of rdma-core.
    pub libibverbs: Option<u32>,
    pub firewall: Firewall,
    pub network_manager: NetworkManager,
    pub packages: Packages,
    /// Files that were asked for; none where there is no such file.
    #[serde(default)]
    pub texts: BTreeMap<String, Option<String>>,
    pub public_key: Option<String>,
    pub python: Option<Python>,
    pub container: Option<ContainerFacts>,
    pub model: Option<Model>,
    pub port_error: Option<String>,
}

/// Operating system and firmware.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// /etc/os-release.
    pub os: BTreeMap<String, String>,
    pub kernel: String,
    pub machine: String,
    /// What the running kernel was given.
    pub command_line: Option<String>,
    pub time_synchronized: Option<bool>,
    pub product: Option<String>,
    pub power_profile: Option<String>,
    pub power_profiles: Vec<String>,
    pub governor: Option<String>,
    pub boot: Boot,
}

/// What the next kernel will be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// The arguments of the default entry, by grubby (Fedora).
    pub grubby: Option<String>,
    /// The program that writes grub.cfg (Debian, Ubuntu).
    pub mkconfig: Option<String>,
    pub grub_default: Option<String>,
}

/// Memory and the GPUs that share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub total_bytes: u64,
    pub gpus: Vec<Gpu>,
    /// `gfx1151`, one per GPU that ROCm's driver knows.
    pub gfx: Vec<String>,
    pub ttm_pages: Option<u64>,
}

/// An AMD GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub vendor: String,
    pub device: Option<String>,
    pub vram_bytes: Option<u64>,
    pub gtt_bytes: Option<u64>,
}

/// Limits and what systemd does at logout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes that a process may lock, in this ssh session; -1 for any.
    pub memlock: i64,
    pub memlock_system: Option<String>,
    pub memlock_user: Option<String>,
    pub remove_ipc: Option<bool>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    pub permanent_mac: Option<String>,
    pub mtu: Option<u32>,
    /// Whether the other end of the cable is there.
    pub carrier: bool,
    pub speed_mbit: Option<i64>,
    pub driver: Option<String>,
    pub physical: bool,
    /// `0000:c1:00.0`.
    pub pci: Option<String>,
    pub vendor: Option<String>,
    /// `16.0 GT/s PCIe`.
    pub pcie_speed: Option<String>,
    pub pcie_width: Option<u32>,
    /// The RDMA device on the same function.
    pub rdma: Option<String>,
    pub addresses: Vec<(IpAddr, u8)>,
    pub firmware: Option<String>,
    pub port: Option<String>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub dst: String,
    pub dev: Option<String>,
    pub gateway: Option<String>,
}

/// An RDMA device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RdmaDevice {
    pub name: String,
    pub interface: Option<String>,
    /// `1: CA` or `4: RNIC`, the latter for iWARP.
    pub node_type: Option<String>,
    pub state: Option<String>,
    pub gids: Vec<Gid>,
}

impl RdmaDevice {
    /// The entry for RoCE v2 with this address.
    pub fn roce_v2_gid(&self, address: IpAddr) -> Option<&Gid> {
        let wanted = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        self.gids.iter().find(|gid| gid.gid.parse::<Ipv6Addr>() == Ok(wanted) && gid.kind == "RoCE v2")
    }
}

/// An entry of a GID table that is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gid {
    pub index: u32,
    pub gid: String,
    /// `RoCE v2` or `IB/RoCE v1`.
    #[serde(rename = "type")]
    pub kind: String,
    pub interface: Option<String>,
}

/// The firewall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firewall {
    pub firewalld: bool,
    /// Interface to zone.
    pub zones: BTreeMap<String, Option<String>>,
    /// Zone to target.
    pub targets: BTreeMap<String, Option<String>>,
    /// What `ufw status` says, where there is ufw and a way to ask it.
    pub ufw: Option<String>,
}

/// NetworkManager and its connections that are up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkManager {
    pub running: bool,
    pub connections: Vec<Connection>,
}

/// A connection of NetworkManager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    pub uuid: String,
    pub interface: String,
    pub name: String,
}

/// Packages, of those that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packages {
    /// `apt`, `dnf` or neither.
    pub manager: Option<String>,
    pub installed: Vec<String>,
}

/// What the interpreter that will serve has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// Why it could not be asked.
    pub error: Option<String>,
    pub executable: Option<String>,
    pub python: Option<String>,
    pub vllm: Option<String>,
    pub ray: Option<String>,
    pub torch: Option<String>,
    pub halo: Option<String>,
    pub rocm: Option<String>,
    pub rccl: Option<String>,
}

/// The container of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Whether its engine is installed.
    pub engine: bool,
    pub exists: bool,
    /// Devices that were passed in; none if the engine does not tell.
    pub devices: Option<Vec<String>>,
    pub said: Option<String>,
}

/// The model's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The digest of its config.json.
    pub config: Option<String>,
    pub bytes: u64,
    pub free_bytes: Option<u64>,
}

impl Facts {
    /// The interface that carries halo's data: the one named in the configuration, else the one with the address.
    pub fn data_interface(&self, node: &Node) -> Option<&Interface> {
        match &node.interface {
            Some(name) => self.interfaces.iter().find(|interface| interface.name == *name),
            None => self.holder(node.address),
        }
    }

    /// The interface that has `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&Interface> {
        let has = |interface: &&Interface| interface.addresses.iter().any(|(own, _)| *own == address);
        self.interfaces.iter().find(has)
    }

    /// The interfaces by which this machine is reached: that of the ssh connection, and that of the default route if
    /// there is one alone (of two, one is a mistake that `configure` may have to take back).
    pub fn ways_in(&self) -> impl Iterator<Item = &str> {
        let ssh =
            self.ssh_address.and_then(|address| self.holder(address)).map(|holder| holder.name.as_str());
        let alone = self.default_routes().count() == 1;
        ssh.into_iter().chain(self.default_routes().filter(move |_| alone))
    }

    /// The interfaces of default routes.
    pub fn default_routes(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter(|route| route.dst == "default").filter_map(|route| route.dev.as_deref())
    }

    /// Whether this is a distribution of Fedora's or of Debian's family.
    pub fn is_like(&self, family: &str) -> bool {
        let has = |key: &str| {
            self.system.os.get(key).is_some_and(|value| value.split_whitespace().any(|word| word == family))
        };
        has("ID") || has("ID_LIKE")
    }

    /// A kernel argument's value in `line`: the last one wins, as in the kernel.
    pub fn argument<'a>(line: &'a str, name: &str) -> Option<&'a str> {
        line.split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next_back()
    }
}

impl Interface {
    /// What it is, by its driver.
    pub fn link(&self) -> crate::config::Link {
        use crate::config::Link;
        match self.driver.as_deref() {
            Some("thunderbolt-net" | "thunderbolt_net") => Link::Usb4,
            _ if self.name.starts_with("thunderbolt") => Link::Usb4,
            Some("ice" | "mlx5_core" | "bnxt_en" | "ionic" | "i40e" | "qede" | "hns3") => Link::Roce,
            _ if self.rdma.is_some() => Link::Roce,
            _ => Link::Ethernet,
        }
    }
}
