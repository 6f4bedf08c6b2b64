//! What a rank needs to know before it can meet the others.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::error::FabricError;
use crate::interrupt::Interrupt;
use crate::key::Key;
use crate::tcp::MOST_SOCKETS;

/// The longest time that can be set: no clock of this machine can be asked about a deadline far beyond.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Payload bytes of one slot unless configured otherwise.
pub const DEFAULT_SLOT_BYTES: usize = 128 * 1024;
/// Slots per peer unless configured otherwise.
pub const DEFAULT_SLOTS: usize = 8;

/// How payloads are asked to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportChoice {
    /// The best that each pair of ranks has: shm on one host, else rdma, else tcp. What was chosen, and why,
    /// is logged and kept in [`crate::LinkInfo`].
    #[default]
    Auto,
    /// RDMA writes between all ranks, or an error.
    Rdma,
    /// TCP between all ranks.
    Tcp,
    /// Shared memory between all ranks, or an error when two are on different hosts.
    Shm,
}

impl TransportChoice {
    /// Every choice, in the order shown to users.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Rdma, Self::Tcp, Self::Shm];
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Rdma => "rdma",
            Self::Tcp => "tcp",
            Self::Shm => "shm",
        })
    }
}

impl FromStr for TransportChoice {
    type Err = FabricError;

    fn from_str(text: &str) -> Result<Self, FabricError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| FabricError::UnknownTransport { given: text.to_owned() })
    }
}

/// How often a reduction of 16-bit and 8-bit floats rounds. It is for the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Once, at the end: the most exact.
    #[default]
    Once,
    /// After every step, as a ring does that passes partial results on in the narrow type (RCCL's among them).
    Each,
}

impl Rounding {
    /// Every choice, in the order shown to users.
    pub const ALL: [Self; 2] = [Self::Once, Self::Each];
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Once => "once",
            Self::Each => "each",
        })
    }
}

impl FromStr for Rounding {
    type Err = FabricError;

    fn from_str(text: &str) -> Result<Self, FabricError> {
        Self::ALL.into_iter().find(|choice| choice.to_string() == text).ok_or_else(|| {
            FabricError::InvalidConfig { what: "rounding", given: text.to_owned(), expected: "once or each" }
        })
    }
}

/// What becomes of a link that loses one of several rails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostRail {
    /// It goes on over the others, and says so.
    #[default]
    Continue,
    /// It has failed.
    Error,
}

impl LostRail {
    /// Every choice, in the order shown to users.
    pub const ALL: [Self; 2] = [Self::Continue, Self::Error];
}

impl fmt::Display for LostRail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Continue => "continue",
            Self::Error => "error",
        })
    }
}

impl FromStr for LostRail {
    type Err = FabricError;

    fn from_str(text: &str) -> Result<Self, FabricError> {
        Self::ALL.into_iter().find(|choice| choice.to_string() == text).ok_or_else(|| {
            FabricError::InvalidConfig {
                what: "lost_rail",
                given: text.to_owned(),
                expected: "continue or error",
            }
        })
    }
}

/// Everything one rank brings to [`crate::Mesh::connect`].
#[derive(Debug, Clone)]
pub struct Config {
    /// A name for logs and statistics, such as `tp:0`.
    pub name: String,
    /// This rank, `0..world`.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// `host:port` where rank 0 listens for the others; not used when a [`crate::Store`] serves instead.
    pub rendezvous: String,
    /// How payloads travel.
    pub transport: TransportChoice,
    /// The secret shared by all ranks.
    pub key: Option<Key>,
    /// Deadline of every wait.
    pub timeout: Duration,
    /// Silence on a control connection after which the peer counts as lost.
    pub peer_timeout: Duration,
    /// Network interface that carries the data.
    pub interface: Option<String>,
    /// This rank's data address, instead of the interface's first one.
    pub address: Option<IpAddr>,
    /// RDMA devices, `name` or `name:port`, instead of all that reach the peer: with one there is one rail, a comma list is
    /// that many.
    pub rdma_device: Option<String>,
    /// What becomes of a link that loses one of several rails.
    pub lost_rail: LostRail,
    /// TCP connections to each peer: large payloads are split over them.
    pub tcp_sockets: usize,
    /// Payload bytes of one slot: a multiple of 64.
    pub slot_bytes: usize,
    /// Slots per peer: at least 2.
    pub slots: usize,
    /// How long a waiting rank spins before it gives its core away between looks.
    pub spin: Duration,
    /// How long a rank waits before it sleeps until a peer wakes it.
    pub sleep_after: Duration,
    /// How often sums of narrow floats round.
    pub rounding: Rounding,
    /// A file with measured plans, for the layer above.
    pub plans: Option<String>,
    /// More that must be equal on all ranks, as (what it is, its value), from the layer above.
    pub agreed: Vec<(&'static str, String)>,
    /// Where statistics are written as JSON; `{name}`, `{rank}` and `{pid}` are replaced.
    pub stats_file: Option<String>,
    /// What ends a wait for other ranks before its deadline.
    pub interrupt: Interrupt,
}

impl Config {
    /// A configuration with every default and no look at the environment.
    pub fn new(rank: usize, world: usize) -> Self {
        Self {
            name: "halo".to_owned(),
            rank,
            world,
            rendezvous: "127.0.0.1:29510".to_owned(),
            transport: TransportChoice::Auto,
            key: None,
            timeout: Duration::from_secs(30),
            peer_timeout: Duration::from_secs(3),
            interface: None,
            address: None,
            rdma_device: None,
            lost_rail: LostRail::Continue,
            tcp_sockets: 1,
            slot_bytes: DEFAULT_SLOT_BYTES,
            slots: DEFAULT_SLOTS,
            spin: Duration::from_micros(50),
            sleep_after: Duration::from_millis(2),
            rounding: Rounding::Once,
            plans: None,
            agreed: Vec::new(),
            stats_file: None,
            interrupt: Interrupt::default(),
        }
    }

    /// [`Config::new`] with every `HALO_*` variable of `halo-env` applied.
    ///
    /// # Errors
    /// A variable with a value that cannot be read.
    pub fn from_env(rank: usize, world: usize) -> Result<Self, FabricError> {
        let mut config = Self::new(rank, world);
        set(&mut config.transport, halo_env::HALO_TRANSPORT)?;
        set(&mut config.tcp_sockets, halo_env::HALO_TCP_SOCKETS)?;
        set(&mut config.slot_bytes, halo_env::HALO_SLOT_BYTES)?;
        set(&mut config.slots, halo_env::HALO_SLOTS)?;
        set(&mut config.rounding, halo_env::HALO_ROUNDING)?;
        set(&mut config.lost_rail, halo_env::HALO_LOST_RAIL)?;
        set_seconds(&mut config.timeout, halo_env::HALO_TIMEOUT)?;
        set_seconds(&mut config.peer_timeout, halo_env::HALO_PEER_TIMEOUT)?;
        if let Some(address) = halo_env::HALO_ADDRESS.get() {
            config.address = Some(parse(&address, halo_env::HALO_ADDRESS)?);
        }
        config.interface = halo_env::HALO_INTERFACE.get();
        config.rdma_device = halo_env::HALO_RDMA_DEVICE.get();
        set_seconds(&mut config.spin, halo_env::HALO_SPIN)?;
        set_seconds(&mut config.sleep_after, halo_env::HALO_SLEEP_AFTER)?;
        config.plans = halo_env::HALO_PLANS.get();
        config.stats_file = halo_env::HALO_STATS_FILE.get();
        config.key = Key::from_env()?;
        Ok(config)
    }

    /// Refuses what cannot work, before anything is opened.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), FabricError> {
        let refuse = |what: &'static str, given: String, expected: &'static str| {
            Err(FabricError::InvalidConfig { what, given, expected })
        };
        if self.world == 0 || self.world > crate::MAX_WORLD {
            return refuse("world", self.world.to_string(), "1 to 1024 ranks");
        }
        if self.rank >= self.world {
            return refuse(
                "rank",
                format!("{} of world {}", self.rank, self.world),
                "a rank below the world size",
            );
        }
        if !(1..=MOST_SOCKETS).contains(&self.tcp_sockets) {
            return refuse("tcp_sockets", self.tcp_sockets.to_string(), "1 to 8 sockets");
        }
        if self.slot_bytes < 64 || !self.slot_bytes.is_multiple_of(64) || self.slot_bytes > 1 << 30 {
            return refuse("slot_bytes", self.slot_bytes.to_string(), "a multiple of 64 from 64 to 1 GiB");
        }
        if self.slots < 2 || self.slots > 4096 {
            return refuse("slots", self.slots.to_string(), "2 to 4096 slots");
        }
        if self.timeout.is_zero() {
            return refuse("timeout", "0".to_owned(), "a deadline above zero");
        }
        for (what, given) in [
            ("timeout", self.timeout),
            ("peer_timeout", self.peer_timeout),
            ("spin", self.spin),
            ("sleep_after", self.sleep_after),
        ] {
            if given > LONGEST {
                return refuse(what, format!("{} s", given.as_secs()), "at most a year");
            }
        }
        if self.peer_timeout < Duration::from_millis(100) {
            return refuse("peer_timeout", format!("{:?}", self.peer_timeout), "at least 0.1 seconds");
        }
        Ok(())
    }
}

fn set<T: FromStr>(field: &mut T, variable: halo_env::Variable) -> Result<(), FabricError> {
    if let Some(text) = variable.get() {
        *field = parse(&text, variable)?;
    }
    Ok(())
}

fn set_seconds(field: &mut Duration, variable: halo_env::Variable) -> Result<(), FabricError> {
    if let Some(text) = variable.get() {
        let seconds: f64 = parse(&text, variable)?;
        *field = Duration::try_from_secs_f64(seconds).map_err(|_| bad_variable(&text, variable))?;
    }
    Ok(())
}

fn parse<T: FromStr>(text: &str, variable: halo_env::Variable) -> Result<T, FabricError> {
    text.parse().map_err(|_| bad_variable(text, variable))
}

fn bad_variable(text: &str, variable: halo_env::Variable) -> FabricError {
    FabricError::BadVariable { name: variable.name, given: text.to_owned(), meaning: variable.meaning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_clock_reaches_are_refused() {
        let given = Duration::from_secs(u64::MAX);
        for config in [
            Config { timeout: given, ..Config::new(0, 2) },
            Config { peer_timeout: given, ..Config::new(0, 2) },
            Config { spin: given, ..Config::new(0, 2) },
            Config { sleep_after: given, ..Config::new(0, 2) },
        ] {
            let refused = config.validate();
            assert!(
                matches!(refused, Err(FabricError::InvalidConfig { expected: "at most a year", .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn transports_read_as_they_are_written() {
        for choice in TransportChoice::ALL {
            assert_eq!(choice.to_string().parse::<TransportChoice>().unwrap(), choice);
        }
        let error = "roce".parse::<TransportChoice>().unwrap_err().to_string();
        assert!(error.contains("`roce`"), "{error}");
    }

    #[test]
    fn roundings_read_as_they_are_written() {
        for rounding in Rounding::ALL {
            assert_eq!(rounding.to_string().parse::<Rounding>().unwrap(), rounding);
        }
        let refused = "never".parse::<Rounding>();
        assert!(
            matches!(refused, Err(FabricError::InvalidConfig { expected: "once or each", .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn what_becomes_of_a_link_reads_as_it_is_written() {
        for choice in LostRail::ALL {
            assert_eq!(choice.to_string().parse::<LostRail>().unwrap(), choice);
        }
        let refused = "ignore".parse::<LostRail>();
        assert!(
            matches!(refused, Err(FabricError::InvalidConfig { expected: "continue or error", .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::new(0, 2);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.rank = 2).contains("rank"));
        assert!(refused(|c| c.world = 0).contains("world"));
        assert!(refused(|c| c.slot_bytes = 100).contains("slot_bytes"));
        assert!(refused(|c| c.slots = 1).contains("slots"));
        assert!(refused(|c| c.tcp_sockets = 0).contains("tcp_sockets"));
        assert!(refused(|c| c.tcp_sockets = 9).contains("tcp_sockets"));
        assert!(refused(|c| c.timeout = Duration::ZERO).contains("timeout"));
        assert!(Config::new(1, 2).validate().is_ok());
    }
}
