//! The communicator: a group of ranks, what it knows of them, and its beginning and end.

mod allocate;
mod collectives;
mod group;
mod job;
mod queue;
mod run;
mod split;

use std::path::Path;
use std::sync::Arc;

use halo_fabric::{Config, Fabric, Interrupt, LinkInfo, Mesh, Registration, Store};

use crate::error::Error;
use crate::operation::Operation;
use crate::plan::{Algorithm, Choices, PlanTable};
use crate::statistics::{Counters, Statistics, StatisticsFile};

pub use queue::{Queue, Ticket};

/// A group of ranks that run collectives together. Every rank issues the same operations in the same order.
///
/// After a failure of the fabric, a mismatch or a time-out the communicator is poisoned: every later call answers
/// with the same error at once.
#[derive(Debug)]
pub struct Communicator {
    mesh: Mesh,
    config: Config,
    plans: PlanTable,
    choices: Choices,
    epoch: u32,
    /// Communicators split off so far.
    splits: u32,
    /// What was done last: a peer may have done something else instead.
    last: Option<Operation>,
    /// The peers know that this rank waits, and in what.
    said_waits: bool,
    failed: Option<Error>,
    counters: Arc<Counters>,
    statistics_file: Option<StatisticsFile>,
    links: Vec<LinkInfo>,
    /// Where plans collect inputs of other ranks; kept for the next time.
    scratch: Vec<u8>,
    /// Where a group packs its small operations; kept, too, and not the same: what is packed is reduced by a plan.
    together: Vec<u8>,
}

impl Communicator {
    /// Meets the other ranks at `config.rendezvous`, where rank 0 listens.
    ///
    /// # Errors
    /// Whatever keeps the ranks from meeting within `config.timeout`: see [`halo_fabric::FabricError`].
    pub fn connect(config: &Config) -> Result<Self, Error> {
        let (config, plans) = prepared(config)?;
        Self::over(Mesh::connect(&config)?, config, plans)
    }

    /// Meets the other ranks through a store that the caller serves; `config.rendezvous` is not used.
    ///
    /// # Errors
    /// As [`Communicator::connect`].
    pub fn connect_with_store(config: &Config, store: &dyn Store) -> Result<Self, Error> {
        let (config, plans) = prepared(config)?;
        Self::over(Mesh::connect_with_store(&config, store)?, config, plans)
    }

    fn over(mesh: Mesh, config: Config, plans: PlanTable) -> Result<Self, Error> {
        let counters = Arc::new(Counters::new(&config, &mesh));
        let statistics_file = StatisticsFile::start(&config, &counters)?;
        let choices = plans
            .choices(mesh.world(), mesh.carrier(), mesh.slot_bytes())
            .map_err(|cause| Error::PlanTable { path: config.plans.clone().unwrap_or_default(), cause })?;
        let links = mesh.links().map(|(info, _)| info.clone()).collect();
        Ok(Self {
            mesh,
            config,
            plans,
            choices,
            epoch: 0,
            splits: 0,
            last: None,
            said_waits: false,
            failed: None,
            counters,
            statistics_file,
            links,
            scratch: Vec::new(),
            together: Vec::new(),
        })
    }

    /// From now on every all-reduce uses this algorithm, in chunks of `chunk` bytes: for measuring. All ranks do this
    /// between the same operations.
    pub fn force_algorithm(&mut self, algorithm: Algorithm, chunk: usize) {
        let whole_lines = (chunk / 64 * 64).clamp(64, self.mesh.slot_bytes());
        self.choices.force(algorithm, whole_lines);
    }

    /// What an all-reduce of this many bytes uses.
    pub fn algorithm(&self, bytes: usize) -> Algorithm {
        self.choices.of(bytes).algorithm
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.mesh.rank()
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.mesh.world()
    }

    /// What carries payloads to each peer, and why; in rank order, without this rank.
    pub fn links(&self) -> &[LinkInfo] {
        &self.links
    }

    /// What carries payloads between the ranks, the same on all of them: see [`Mesh::carrier`].
    pub fn transport(&self) -> &'static str {
        self.mesh.carrier()
    }

    /// Bytes of registered memory that this rank keeps for its peers.
    pub fn arena_bytes(&self) -> usize {
        self.mesh.arena_bytes()
    }

    /// What pages that memory is made of, such as `huge pages of 2048 KiB`, and why they are no better ones.
    pub fn arena_pages(&self) -> &str {
        self.mesh.arena_pages()
    }

    /// Registers `bytes` bytes from `start` for rdma: long payloads that lie there are written from where they lie, and
    /// peers write their parts of an all-gather, broadcast, gather, scatter or all-to-all straight to an output there.
    /// Each rank registers what it likes, and when: nobody needs to be asked. To register the same memory again, or
    /// part of it, costs a look-up. Over shm and tcp this is accepted and does nothing.
    ///
    /// Dropping the [`Registration`] gives it back; an operation under way that uses it keeps it until it is complete.
    ///
    /// # Errors
    /// No memory at all, the memlock limit, a NIC that refuses. The communicator goes on working without it.
    ///
    /// # Safety
    /// The memory stays mapped and in its place until the registration is dropped, so it is dropped before the memory is
    /// freed. What an operation is given of it is left alone until that operation has ended, as is any buffer; if it has
    /// failed, the contents are undefined.
    pub unsafe fn register(&mut self, start: *mut u8, bytes: usize) -> Result<Registration, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // SAFETY: this function's own contract.
        Ok(unsafe { self.mesh.register(start, bytes)? })
    }

    /// What has been done so far.
    pub fn statistics(&self) -> Statistics {
        self.counters.snapshot()
    }

    /// Has `interrupt` asked several times a second while an operation waits for a peer: `true` ends the operation with
    /// [`Error::Interrupted`]. For the wait until the ranks have met there is [`Config::interrupt`].
    pub fn interrupt_when(&mut self, interrupt: Interrupt) {
        self.config.interrupt = interrupt;
    }

    /// Waits until the last bytes have reached the peers' hosts, for at most the configured timeout or until it is
    /// interrupted, and says good-bye. Dropping does the same, without the error and for a second at most.
    ///
    /// # Errors
    /// Bytes that did not arrive, the failure that had poisoned the communicator, a message of an operation that this
    /// rank took no part in, or statistics that could not be written.
    pub fn close(mut self) -> Result<(), Error> {
        let written = self.statistics_file.as_mut().map_or(Ok(()), StatisticsFile::finish);
        let closed = self.mesh.close(self.config.timeout, &self.config.interrupt);
        match self.failed.take() {
            Some(error) => Err(error),
            None => match closed {
                Ok(()) => self.all_heard().and(written),
                Err(error) => Err(self.amid(self.last.as_ref(), error)),
            },
        }
    }

    /// Ends at once, for a program in which something has happened that should not: the peers are told `reason`, and no
    /// memory of the caller's is read or written any more.
    pub fn abandon(mut self, reason: &str) {
        self.break_off(reason);
    }

    fn break_off(&mut self, reason: &str) {
        self.mesh.stop_everybody(reason.to_owned());
        self.counters.fail(reason.to_owned());
    }

    /// Ranks that only send in what they believe to be the last operation notice nothing else of a disagreement.
    fn all_heard(&self) -> Result<(), Error> {
        for link in &self.links {
            let unheard = self.mesh.head(link.peer)?.and_then(|message| Operation::from_tag(message.tag));
            if let Some(theirs) = unheard {
                return Err(self.mismatch(&"close", link.peer, theirs));
            }
        }
        Ok(())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.break_off("its program panicked");
        }
    }
}

/// The configuration with what the ranks must agree on beside the fabric's own settings.
fn prepared(config: &Config) -> Result<(Config, PlanTable), Error> {
    let plans = config.plans.as_deref().map(Path::new).map_or(Ok(PlanTable::default()), PlanTable::read)?;
    let mut config = config.clone();
    config.agreed.push(("plan table", plans.fingerprint()));
    config.agreed.push(("rounding", config.rounding.to_string()));
    Ok((config, plans))
}
