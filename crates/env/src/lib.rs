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
    HALO_KEY, "The secret that ranks prove to each other before they tell anything of their memory. Needed as soon as the rendezvous is reachable from other machines.", "none (loopback only)";
    HALO_KEY_FILE, "A file that holds the key, so that it appears in no process listing. `HALO_KEY` wins when both are set.", "none";
    HALO_TIMEOUT, "The deadline of every wait, in seconds: connecting, and each collective.", "`30`";
    HALO_PEER_TIMEOUT, "Seconds of silence on the control connection after which a peer counts as lost.", "`3`";
    HALO_INTERFACE, "The network interface whose address is given to peers for tcp data and that chooses the RDMA device, e.g. `enp1s0`. ", "the interface that routes to the rendezvous";
    HALO_ADDRESS, "This rank's own data address, when the interface has several or the rendezvous is on another network.", "the address of `HALO_INTERFACE`";
    HALO_RDMA_DEVICE, "The RDMA device (and port) to use, e.g. `irdma0` or `irdma0:1`.", "the one whose GID matches the data address";
    HALO_SLOT_BYTES, "Payload bytes of one slot of the arena; messages above it travel in chunks. Must be the same on every rank.", "`131072`";
    HALO_SLOTS, "Slots per peer in the arena. Must be the same on every rank.", "`8`";
    HALO_LOG, "What is logged to standard error, as a tracing filter: `info`, `debug`, `halo_fabric=trace`.", "`warn`";
    HALO_SPIN, "Seconds that a rank spins for a peer before it gives its core away between looks. Longer costs power, shorter costs latency.", "`0.00005`";
    HALO_SLEEP_AFTER, "Seconds that a rank waits for a peer before it sleeps until it is woken. A sleeping rank takes well under 1 % of a core.", "`0.002`";
    HALO_PLANS, "A plan table: which algorithm an all-reduce uses at which size, as `halo-perf tune` writes it. Must be the same on every rank.", "the built-in table";
    HALO_STATS_FILE, "Where each rank writes its statistics as JSON when its communicator closes; `{rank}` and `{pid}` are replaced.", "none";
    HALO_CLUSTER_LAUNCH, "Set by halo-cluster in every process of a launch: the name of that launch, by which its processes are told from others.", "not part of a launch";
    HALO_LIBIBVERBS, "The libibverbs to load instead of the system's, for hosts that keep rdma-core elsewhere.", "`libibverbs.so.1`";
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
