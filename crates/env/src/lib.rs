//! Every environment variable that halo reads or sets, declared once.
//!
//! A variable is a [`Variable`] constant below and stands in [`ALL`]; `docs/environment.md` is written from
//! that table (a test holds the two together), so a variable cannot exist without being documented.

/// One environment variable: its name, what it does, and what holds when it is unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The name as the process environment spells it.
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub meaning: &'static str,
    /// What holds when it is unset, as a reader would write it.
    pub default: &'static str,
}

impl Variable {
    /// The value, if it is set, not empty, and valid UTF-8.
    pub fn get(&self) -> Option<String> {
        std::env::var(self.name).ok().filter(|value| !value.is_empty())
    }
}

macro_rules! variables {
    ($($ident:ident, $meaning:literal, $default:literal;)*) => {
        $(#[doc = $meaning] pub const $ident: Variable =
            Variable { name: stringify!($ident), meaning: $meaning, default: $default };)*
        /// All variables, in the order of the documentation.
        pub const ALL: &[Variable] = &[$($ident),*];
    };
}

variables! {
    HALO_TRANSPORT, "How payloads travel: `auto`, `rdma`, `tcp` or `shm`. A named transport that cannot be had is an error, never a silent fall-back.", "`auto`";
    HALO_KEY, "The secret that ranks prove to each other before they tell anything of their memory. Needed as soon as other machines can reach the rendezvous or an address of a rank.", "none (loopback only)";
    HALO_KEY_FILE, "A file that holds the key, so that it appears in no process listing. `HALO_KEY` wins when both are set.", "none";
    HALO_TIMEOUT, "The deadline of every wait, in seconds: connecting, and each collective.", "`30`";
    HALO_PEER_TIMEOUT, "Seconds of silence on the control connection after which a peer counts as lost.", "`3`";
    HALO_INTERFACE, "The network interface whose address is given to peers for tcp data and that chooses the RDMA device, e.g. `enp1s0`. ", "the interface that routes to the rendezvous";
    HALO_ADDRESS, "This rank's own data address, when the interface has several or the rendezvous is on another network.", "the address of `HALO_INTERFACE`";
    HALO_RDMA_DEVICE, "The RDMA device (and port) to use, e.g. `irdma0` or `irdma0:1`; a comma list for several at once, of which one has the data address.", "the one whose GID matches the data address, and all others with a network that the peer also has";
    HALO_LOST_RAIL, "What becomes of a link over several RDMA devices that loses one: `continue` over the others and say so, or `error`. Must be the same on every rank.", "`continue`";
    HALO_TCP_SOCKETS, "TCP connections to each peer, 1 to 8; payloads of 64 KiB and more are split over them. Must be the same on every rank.", "`1`";
    HALO_SLOT_BYTES, "Payload bytes of one slot of the arena; messages above it travel in chunks. Must be the same on every rank.", "`131072`";
    HALO_SLOTS, "Slots per peer in the arena. Must be the same on every rank.", "`8`";
    HALO_ROUNDING, "How often a reduction of 16-bit and 8-bit floats rounds: `once`, at the end, or after `each` step, as a ring in the narrow type does. Must be the same on every rank.", "`once`";
    HALO_LOG, "What is logged to standard error, as a tracing filter: `info`, `debug`, `halo_fabric=trace`.", "`warn`";
    HALO_SPIN, "Seconds that a rank spins for a peer before it gives its core away between looks. Longer costs power, shorter costs latency.", "`0.00005`";
    HALO_SLEEP_AFTER, "Seconds that a rank waits for a peer before it sleeps until it is woken. A sleeping rank takes well under 1 % of a core.", "`0.002`";
    HALO_PLANS, "A plan table: which algorithm an all-reduce uses at which size, as `halo-perf tune` writes it. Must be the same on every rank.", "the built-in table";
    HALO_STATS_FILE, "Where each rank writes its statistics as JSON when its communicator closes; `{rank}` and `{pid}` are replaced.", "none";
    HALO_CLUSTER_LAUNCH, "Set by halo-cluster in every process of a launch: the name of that launch, by which its processes are told from others.", "not part of a launch";
    HALO_LIBIBVERBS, "The libibverbs to load instead of the system's, for hosts that keep rdma-core elsewhere.", "`libibverbs.so.1`";
    HALO_PLUGIN_TIMEOUT, "The net plugin for RCCL and NCCL: seconds that setting up one connection may take, from the first attempt on.", "`120`";
    HALO_PLUGIN_EAGER_BYTES, "Net plugin: messages up to this size need not wait for the receiver; 0 to 65536. The connecting side decides.", "`16384`";
    HALO_PLUGIN_STRIPE_BYTES, "Net plugin: messages from this size on are split over all queue pairs or sockets of a connection. The connecting side decides.", "`262144`";
    HALO_PLUGIN_SOCKETS, "Net plugin: data sockets of a TCP connection, 1 to 8. The connecting side decides.", "`1`";
    HALO_PLUGIN_GPU_DIRECT, "Net plugin: `1` offers GPU memory to the NIC (dma-buf or peer memory). Off, the core stages through host memory.", "`0`";
    HALO_PLUGIN_STATS_FILE, "Net plugin: where bytes and messages per device are written as JSON whenever a connection closes; `{pid}` is replaced.", "none";
    HALO_TUNER_FILE, "Net plugin: the tuner's table of algorithm, protocol and channels by ranks and size; `off` leaves every choice to the core.", "the built-in table";
    NCCL_IB_DISABLE, "Net plugin, as NCCL means it: `1` leaves RDMA devices alone, so that TCP is used.", "`0`";
    NCCL_IB_HCA, "Net plugin, as NCCL means it: a comma list of RDMA devices `name[:port]` by prefix; `=` in front means exact names, `^` all but these.", "every usable port";
    NCCL_IB_GID_INDEX, "Net plugin, as NCCL means it: the GID's place in the table; -1 chooses by kind and address.", "`-1`";
    NCCL_IB_ROCE_VERSION_NUM, "Net plugin, as NCCL means it: the RoCE version. Only 2 is spoken; anything else is an error.", "`2`";
    NCCL_IB_ADDR_FAMILY, "Net plugin, as NCCL means it: `AF_INET` or `AF_INET6`, the family of the GID's address.", "`AF_INET`";
    NCCL_IB_ADDR_RANGE, "Net plugin, as NCCL means it: only a GID with an address in this range, such as `192.168.100.0/24`.", "any";
    NCCL_IB_TC, "Net plugin, as NCCL means it: the traffic class, 0 to 255. It wins over a communicator's own. The connecting side decides.", "the communicator's, else `0`";
    NCCL_IB_SL, "Net plugin, as NCCL means it: the service level, 0 to 15.", "`0`";
    NCCL_IB_TIMEOUT, "Net plugin, as NCCL means it: a packet is sent again after 4.096 us x 2^this; 1 to 31.", "`16`";
    NCCL_IB_RETRY_CNT, "Net plugin, as NCCL means it: how often it is sent again, 0 to 7.", "`6`";
    NCCL_IB_QPS_PER_CONNECTION, "Net plugin, as NCCL means it: queue pairs of one connection, 1 to 8; several ports that are used as one have as many more as give each its share. The connecting side decides.", "`1`";
    NCCL_IB_MERGE_NICS, "Net plugin, as NCCL means it: `0` keeps the core from using several RDMA ports as one device.", "`1`";
    NCCL_IB_SPLIT_DATA_ON_QPS, "Net plugin, as NCCL means it: `1` splits every message over all queue pairs of its connection, `0` gives each message whole to the next one. The connecting side decides.", "split from `HALO_PLUGIN_STRIPE_BYTES` on";
    NCCL_IB_FIFO_TC, "Net plugin, as NCCL means it: the traffic class of what a receiver tells its sender, 0 to 255. The receiving side decides.", "that of the messages";
    NCCL_SOCKET_NTHREADS, "Net plugin: times `NCCL_NSOCKS_PERTHREAD`, the sockets of a TCP connection, at most 8, where `HALO_PLUGIN_SOCKETS` is not set. No thread is started.", "`1`";
    NCCL_NSOCKS_PERTHREAD, "Net plugin: see `NCCL_SOCKET_NTHREADS`.", "`1`";
    NCCL_SOCKET_IFNAME, "Net plugin, as NCCL means it: a comma list of interfaces for TCP by prefix; `=` in front means exact names, `^` all but these.", "every interface that is up but `lo` and `docker*`";
    NCCL_SOCKET_FAMILY, "Net plugin, as NCCL means it: `AF_INET` or `AF_INET6`, the family of TCP's addresses.", "`AF_INET`, else `AF_INET6`";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    /// `docs/environment.md` is this table; regenerate it with `UPDATE_DOCS=1 cargo test -p halo-env`.
    #[test]
    fn the_documentation_lists_exactly_these_variables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/environment.md");
        let mut page =
            String::from("# Environment variables\n\n| variable | meaning | when unset |\n|---|---|---|\n");
        for variable in ALL {
            page +=
                &format!("| `{}` | {} | {} |\n", variable.name, variable.meaning.trim(), variable.default);
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            page,
            "run UPDATE_DOCS=1 cargo test -p halo-env"
        );
    }
}
