//! One port of an RDMA device.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use halo_verbs::{Choice, Context, Gid, GidKind, PortState, ProtectionDomain};

use super::PluginError;
use super::selection::Family;
use crate::plugin::settings::Settings;

/// An RDMA port.
#[derive(Debug)]
pub(crate) struct RdmaPort {
    pub(crate) context: Arc<Context>,
    pub(crate) number: u8,
    /// One protection domain for everything, so that memory is registered once whoever uses it.
    domain: OnceLock<Arc<ProtectionDomain>>,
    opening: Mutex<()>,
    /// The GID that was chosen last.
    gid: Mutex<Option<Gid>>,
}

impl RdmaPort {
    pub(crate) fn new(context: Arc<Context>, number: u8, gid: Gid) -> Self {
        let (domain, opening, gid) = (OnceLock::new(), Mutex::new(()), Mutex::new(Some(gid)));
        Self { context, number, domain, opening, gid }
    }

    /// For messages: device and number.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.context.name(), self.number)
    }

    /// The GID to use now: addresses come and go while a process runs. The table is read anew only when the one that was
    /// chosen last has changed.
    pub(crate) fn current_gid(&self, settings: &Settings) -> Result<Gid, PluginError> {
        let refuse = |cause: String| PluginError::NoDevice { looked_at: format!("{}: {cause}", self.name()) };
        let mut known = self.gid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gid) = known.as_ref()
            && self.context.gid(self.number, gid.index).as_ref() == Some(gid)
        {
            return Ok(gid.clone());
        }
        let gids = self.context.gids(self.number).map_err(|error| refuse(error.to_string()))?;
        let gid = choose(&gids, settings).map_err(refuse)?;
        *known = Some(gid.clone());
        Ok(gid.clone())
    }

    /// Port and GID as queue pairs take them.
    pub(crate) fn choice(&self, settings: &Settings) -> Result<Choice, PluginError> {
        let gid = self.current_gid(settings)?;
        let port =
            self.context.port(self.number).map_err(|error| PluginError::system("ibv_query_port", error))?;
        Ok(Choice { context: Arc::clone(&self.context), port, gid })
    }

    /// The port's protection domain, made when first needed.
    pub(crate) fn domain(&self) -> Result<&Arc<ProtectionDomain>, PluginError> {
        if let Some(domain) = self.domain.get() {
            return Ok(domain);
        }
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.domain.get().is_none() {
            let made = ProtectionDomain::new(Arc::clone(&self.context));
            let made = made.map_err(|error| PluginError::system("ibv_alloc_pd", error))?;
            let _ = self.domain.set(made);
        }
        Ok(self.domain.get().expect("set above"))
    }

    /// Whether it is up, as far as can be seen.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.context.port(self.number), Ok(port) if port.state == PortState::Active)
    }

    /// A word about the port, for the cause of a failure.
    pub(crate) fn state(&self) -> String {
        let name = self.name();
        match self.context.port(self.number).map(|port| port.state) {
            Ok(PortState::Active) => format!("{name} is active"),
            Ok(PortState::Down) => format!("{name} is DOWN"),
            Ok(PortState::Other(state)) => format!("{name} is in state {state}"),
            Err(error) => error.to_string(),
        }
    }
}

/// The GID that the settings mean, or why there is none.
pub(super) fn choose<'a>(gids: &'a [Gid], settings: &Settings) -> Result<&'a Gid, String> {
    if let Some(index) = settings.gid_index {
        let found = gids.iter().find(|gid| gid.index == index);
        return match found {
            Some(gid) if gid.kind == GidKind::RoceV2 => Ok(gid),
            Some(gid) => Err(format!("GID {index} is {}, not RoCE v2 (NCCL_IB_GID_INDEX)", gid.kind)),
            None => Err(format!("there is no GID {index} (NCCL_IB_GID_INDEX)")),
        };
    }
    let usable = |gid: &&Gid| {
        let address = gid.address();
        let interface = settings.interface.as_deref();
        gid.kind == GidKind::RoceV2
            && settings.gid_family.has(address)
            && (settings.gid_family == Family::V4 || !is_link_local(address))
            && settings.gid_range.is_none_or(|range| range.contains(address))
            && settings.address.is_none_or(|wanted| wanted == address)
            && (interface.is_none() || gid.interface.as_deref() == interface)
    };
    gids.iter().find(usable).ok_or_else(|| {
        let seen: Vec<_> = gids.iter().map(|gid| format!("{} ({})", gid.address(), gid.kind)).collect();
        format!(
            "none of its GIDs is usable: {}",
            if seen.is_empty() { "it has none".to_owned() } else { seen.join(", ") }
        )
    })
}

fn is_link_local(address: std::net::IpAddr) -> bool {
    matches!(address, std::net::IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(index: u32, kind: GidKind, address: [u8; 4]) -> Gid {
        let bytes = std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets();
        Gid { index, bytes, kind, interface: Some(format!("eth{index}")) }
    }

    #[test]
    fn the_first_roce_v2_gid_is_chosen_unless_the_user_says_more() {
        let gids = [
            gid(0, GidKind::RoceV1, [192, 168, 100, 1]),
            gid(1, GidKind::RoceV2, [192, 168, 100, 1]),
            gid(3, GidKind::RoceV2, [10, 0, 0, 1]),
        ];
        let mut settings = Settings::from_env().unwrap();
        assert_eq!(choose(&gids, &settings).unwrap().index, 1);
        settings.gid_range = Some("10.0.0.0/8".parse().unwrap());
        assert_eq!(choose(&gids, &settings).unwrap().index, 3);
        settings.interface = Some("eth1".to_owned());
        assert!(choose(&gids, &settings).unwrap_err().contains("10.0.0.1"));
        settings.gid_index = Some(0);
        assert!(choose(&gids, &settings).unwrap_err().contains("RoCE v1"));
        settings.gid_index = Some(9);
        assert!(choose(&gids, &settings).unwrap_err().contains("no GID 9"));
    }
}
