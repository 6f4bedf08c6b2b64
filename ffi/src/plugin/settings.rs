//! What the environment says, read once per initialisation. Every variable is declared in `halo-env`.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use halo_env::Variable;
use halo_fabric::Key;
use halo_verbs::PathOptions;

use super::device::selection::{AddressRange, Family, NameList};
use super::error::PluginError;
use super::protocol::{MAX_EAGER_BYTES, MAX_LANES};

/// Which kinds of devices are offered to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// RDMA ports, or where there is none, TCP interfaces.
    Auto,
    Rdma,
    Tcp,
}

/// The plugin's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) transport: Transport,
    pub(crate) key: Option<Key>,
    /// For setting one connection up.
    pub(crate) timeout: Duration,
    /// Of silence, until a peer's host counts as lost.
    pub(crate) peer_timeout: Duration,
    pub(crate) eager_bytes: usize,
    pub(crate) stripe_bytes: usize,
    pub(crate) sockets: usize,
    pub(crate) queue_pairs: usize,
    /// Of messages, before what a communicator asks for.
    pub(crate) traffic_class: Option<u8>,
    /// For a receiver's announcements; the messages' own unless told otherwise.
    pub(crate) announcement_traffic_class: Option<u8>,
    pub(crate) gpu_direct: bool,
    /// Whether the core may have several devices as one.
    pub(crate) merge: bool,
    pub(crate) stats_file: Option<String>,
    pub(crate) rdma_device: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) ib_devices: NameList,
    pub(crate) gid_index: Option<u32>,
    pub(crate) gid_family: Family,
    pub(crate) gid_range: Option<AddressRange>,
    pub(crate) path: PathOptions,
    pub(crate) socket_interfaces: Option<NameList>,
    pub(crate) socket_family: Option<Family>,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn from_env() -> Result<Self, PluginError> {
        let disabled = number(halo_env::NCCL_IB_DISABLE, 0, 0..=1)? == 1;
        let transport = match halo_env::HALO_TRANSPORT.get().as_deref() {
            None | Some("auto") if disabled => Transport::Tcp,
            None | Some("auto") => Transport::Auto,
            Some("rdma") => Transport::Rdma,
            Some("tcp") => Transport::Tcp,
            Some(_) => return Err(refuse(halo_env::HALO_TRANSPORT, "the plugin takes auto, rdma or tcp")),
        };
        number(halo_env::NCCL_IB_ROCE_VERSION_NUM, 2, 2..=2)?;
        let defaults = PathOptions::default();
        // -1 stands for the default wherever NCCL takes it so.
        let or_default = |variable, default: u8, range: std::ops::RangeInclusive<i64>| {
            let given = number(variable, -1, -1..=*range.end())?;
            let given = if given < 0 { i64::from(default) } else { given };
            range.contains(&given).then_some(given as u8).ok_or_else(|| refuse(variable, variable.meaning))
        };
        Ok(Self {
            transport,
            key: Key::from_env().map_err(|error| PluginError::Key { cause: error.to_string() })?,
            timeout: seconds(halo_env::HALO_PLUGIN_TIMEOUT, 120.0, 0.1)?,
            peer_timeout: seconds(halo_env::HALO_PEER_TIMEOUT, 3.0, 1.0)?,
            eager_bytes: number(halo_env::HALO_PLUGIN_EAGER_BYTES, 16384, 0..=MAX_EAGER_BYTES as i64)?
                as usize,
            stripe_bytes: stripe_bytes()?,
            sockets: number(halo_env::HALO_PLUGIN_SOCKETS, sockets_of_nccl()?, 1..=MAX_LANES as i64)?
                as usize,
            queue_pairs: number(halo_env::NCCL_IB_QPS_PER_CONNECTION, 1, 1..=MAX_LANES as i64)? as usize,
            traffic_class: u8::try_from(number(halo_env::NCCL_IB_TC, -1, -1..=255)?).ok(),
            announcement_traffic_class: u8::try_from(number(halo_env::NCCL_IB_FIFO_TC, -1, -1..=255)?).ok(),
            gpu_direct: number(halo_env::HALO_PLUGIN_GPU_DIRECT, 0, 0..=1)? == 1,
            merge: number(halo_env::NCCL_IB_MERGE_NICS, 1, 0..=1)? == 1,
            stats_file: halo_env::HALO_PLUGIN_STATS_FILE.get(),
            rdma_device: halo_env::HALO_RDMA_DEVICE.get(),
            interface: halo_env::HALO_INTERFACE.get(),
            address: parsed(halo_env::HALO_ADDRESS)?,
            ib_devices: halo_env::NCCL_IB_HCA.get().map(|text| NameList::read(&text)).unwrap_or_default(),
            gid_index: u32::try_from(number(halo_env::NCCL_IB_GID_INDEX, -1, -1..=65535)?).ok(),
            gid_family: parsed(halo_env::NCCL_IB_ADDR_FAMILY)?.unwrap_or(Family::V4),
            gid_range: parsed(halo_env::NCCL_IB_ADDR_RANGE)?,
            path: PathOptions {
                ack_timeout: or_default(halo_env::NCCL_IB_TIMEOUT, defaults.ack_timeout, 1..=31)?,
                retries: or_default(halo_env::NCCL_IB_RETRY_CNT, defaults.retries, 0..=7)?,
                service_level: or_default(halo_env::NCCL_IB_SL, defaults.service_level, 0..=15)?,
                // Each connection's terms have it.
                ..defaults
            },
            socket_interfaces: halo_env::NCCL_SOCKET_IFNAME.get().map(|text| NameList::read(&text)),
            socket_family: parsed(halo_env::NCCL_SOCKET_FAMILY)?,
        })
    }
}

/// From which size on a message is split. NCCL knows all or nothing.
fn stripe_bytes() -> Result<usize, PluginError> {
    let own = number(halo_env::HALO_PLUGIN_STRIPE_BYTES, 262_144, 4096..=1 << 40)? as usize;
    Ok(match number(halo_env::NCCL_IB_SPLIT_DATA_ON_QPS, -1, -1..=1)? {
        0 => usize::MAX,
        1 => 1,
        _ => own,
    })
}

/// NCCL's threads times their sockets, as far as a connection can have them here; -2 is NCCL's own choice there.
fn sockets_of_nccl() -> Result<i64, PluginError> {
    let factor = |variable| number(variable, -2, -2..=64).map(|given| if given < 1 { 1 } else { given });
    let product = factor(halo_env::NCCL_SOCKET_NTHREADS)? * factor(halo_env::NCCL_NSOCKS_PERTHREAD)?;
    Ok(product.min(MAX_LANES as i64))
}

/// A word about variables of NCCL's own network transports that are set and mean nothing here.
pub(crate) fn without_effect(names: impl Iterator<Item = String>) -> Option<String> {
    let meant_for_transports = |name: &String| {
        name.starts_with("NCCL_IB_")
            || ["NCCL_SOCKET_INLINE", "NCCL_SOCKET_MIN_TASKSIZE", "NCCL_GDR_FLUSH_DISABLE"]
                .contains(&name.as_str())
    };
    let known = |name: &String| halo_env::ALL.iter().any(|variable| variable.name == name);
    let mut idle: Vec<String> = names.filter(|name| meant_for_transports(name) && !known(name)).collect();
    idle.sort();
    let are = if idle.len() == 1 { "is set and has" } else { "are set and have" };
    (!idle.is_empty()).then(|| format!("{} {are} no effect with halo", idle.join(", ")))
}

fn refuse(variable: Variable, meaning: &str) -> PluginError {
    let given = variable.get().unwrap_or_default();
    PluginError::Setting { name: variable.name, given, meaning: meaning.trim().to_owned() }
}

fn parsed<T: FromStr>(variable: Variable) -> Result<Option<T>, PluginError> {
    let Some(text) = variable.get() else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| refuse(variable, variable.meaning))
}

fn number(
    variable: Variable,
    default: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<i64, PluginError> {
    let given = parsed(variable)?.unwrap_or(default);
    range.contains(&given).then_some(given).ok_or_else(|| refuse(variable, variable.meaning))
}

fn seconds(variable: Variable, default: f64, least: f64) -> Result<Duration, PluginError> {
    let given = parsed(variable)?.unwrap_or(default);
    let allowed = (least..=1e6).contains(&given);
    allowed.then(|| Duration::from_secs_f64(given)).ok_or_else(|| refuse(variable, variable.meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_without_effect_are_named_and_others_are_not() {
        let told = |names: &[&str]| without_effect(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(told(&["NCCL_IB_TC", "NCCL_DEBUG", "NCCL_SOCKET_RETRY_CNT", "PATH"]), None);
        assert_eq!(
            told(&["NCCL_IB_PKEY", "NCCL_IB_HCA"]).unwrap(),
            "NCCL_IB_PKEY is set and has no effect with halo"
        );
        let both = told(&["NCCL_SOCKET_INLINE", "NCCL_IB_MERGE_VFS"]).unwrap();
        assert_eq!(both, "NCCL_IB_MERGE_VFS, NCCL_SOCKET_INLINE are set and have no effect with halo");
    }
}
