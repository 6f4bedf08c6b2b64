//! The communicator as a Python object. Buffers come as addresses, see [`View`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halo_ccl::{Communicator, Config, DType, Error, FabricError, Input, Key, ReduceOp};
use pyo3::prelude::*;

use crate::allocation::NativeAllocation;
use crate::blocks;
use crate::error::{detached, exception, panicked, raise};
use crate::registration::NativeRegistration;
use crate::stop::Stop;
use crate::store::PyStore;
use crate::view::{View, apart, apart_unless};

/// The native communicator behind `halo.Communicator`.
#[pyclass(frozen, module = "halo._halo")]
pub(crate) struct NativeCommunicator {
    /// Its rank among how many.
    place: (usize, usize),
    open: Mutex<Option<Communicator>>,
    stop: Arc<Stop>,
}

#[pymethods]
impl NativeCommunicator {
    /// Meets the other ranks, at `settings["rendezvous"]` or through `store`.
    #[new]
    #[pyo3(signature = (rank, world, *, name, store=None, rendezvous=None, transport=None, key=None, timeout=None, peer_timeout=None, interface=None, address=None, rdma_device=None, stats_file=None, rounding=None))]
    #[allow(clippy::too_many_arguments, reason = "one keyword argument per setting")]
    fn new(
        py: Python<'_>,
        rank: usize,
        world: usize,
        name: String,
        store: Option<Py<PyAny>>,
        rendezvous: Option<String>,
        transport: Option<String>,
        key: Option<Vec<u8>>,
        timeout: Option<f64>,
        peer_timeout: Option<f64>,
        interface: Option<String>,
        address: Option<String>,
        rdma_device: Option<String>,
        stats_file: Option<String>,
        rounding: Option<String>,
    ) -> PyResult<Self> {
        let mut config = Config::from_env(rank, world).map_err(|error| raise(&error.into()))?;
        let fabric = |error: FabricError| raise(&error.into());
        if let Some(transport) = transport {
            config.transport = transport.parse().map_err(fabric)?;
        }
        if let Some(rounding) = rounding {
            config.rounding = rounding.parse().map_err(fabric)?;
        }
        if let Some(address) = address {
            config.address = Some(address.parse().map_err(|_| {
                fabric(FabricError::InvalidConfig {
                    what: "address",
                    given: address,
                    expected: "an IP address",
                })
            })?);
        }
        set_seconds(&mut config.timeout, "timeout", timeout).map_err(fabric)?;
        set_seconds(&mut config.peer_timeout, "peer_timeout", peer_timeout).map_err(fabric)?;
        config.rendezvous = rendezvous.unwrap_or(config.rendezvous);
        config.key = key.map(Key::new).or(config.key);
        config.interface = interface.or(config.interface);
        config.rdma_device = rdma_device.or(config.rdma_device);
        config.stats_file = stats_file.or(config.stats_file);
        let stop = Arc::new(Stop::default());
        config.interrupt = stop.interrupt();
        let store = store.map(|store| PyStore::new(store, format!("halo/{name}")));
        config.name = name;
        let communicator = detached(py, || match &store {
            Some(store) => {
                let communicator = Communicator::connect_with_store(&config, store)?;
                store.clean().map_err(|error| FabricError::Store {
                    key: format!("halo/{}", config.name),
                    cause: error.to_string(),
                })?;
                Ok(communicator)
            }
            None => Communicator::connect(&config),
        })
        .map_err(|error| stop.instead_of(error))?;
        Ok(Self::over(communicator, stop))
    }

    /// In place when `input` and `output` are the same memory.
    fn all_reduce(&self, py: Python<'_>, input: View, output: View, dtype: &str, op: &str) -> PyResult<()> {
        let (dtype, op) = (parse::<DType>(dtype)?, parse::<ReduceOp>(op)?);
        let (input, output) = apart_unless(input == output, "all_reduce", input, output)?;
        self.run(py, |communicator| communicator.all_reduce(input, output, dtype, op))
    }

    /// `output` is `None` on every rank but the root. In place when `input` and `output` are the same memory.
    fn reduce(
        &self,
        py: Python<'_>,
        input: View,
        output: Option<View>,
        dtype: &str,
        op: &str,
        root: usize,
    ) -> PyResult<()> {
        let (dtype, op) = (parse::<DType>(dtype)?, parse::<ReduceOp>(op)?);
        let (input, output) =
            roots(input, output, |output| apart_unless(input == output, "reduce", input, output))?;
        self.run(py, |communicator| communicator.reduce(input, output, dtype, op, root))
    }

    /// In place when `input` is this rank's own block of `output`.
    fn all_gather(&self, py: Python<'_>, input: View, output: View, dtype: &str) -> PyResult<()> {
        let dtype = parse(dtype)?;
        let own = input.is_block(self.place, output);
        let (input, output) = apart_unless(own, "all_gather", input, output)?;
        self.run(py, |communicator| communicator.all_gather(input, output, dtype))
    }

    /// In place when `output` is this rank's own block of `input`.
    fn reduce_scatter(
        &self,
        py: Python<'_>,
        input: View,
        output: View,
        dtype: &str,
        op: &str,
    ) -> PyResult<()> {
        let (dtype, op) = (parse(dtype)?, parse(op)?);
        let own = output.is_block(self.place, input);
        // The result lies in the input: that is the buffer.
        let output = if own { input } else { output };
        let (input, output) = apart_unless(own, "reduce_scatter", input, output)?;
        self.run(py, |communicator| communicator.reduce_scatter(input, output, dtype, op))
    }

    fn broadcast(&self, py: Python<'_>, buffer: View, dtype: &str, root: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.broadcast(buffer.to_write(), dtype, root))
    }

    /// `output` is `None` on every rank but the root. In place when `input` is the root's own block of `output`.
    fn gather(
        &self,
        py: Python<'_>,
        input: View,
        output: Option<View>,
        dtype: &str,
        root: usize,
    ) -> PyResult<()> {
        let dtype = parse(dtype)?;
        let (input, output) = roots(input, output, |output| {
            apart_unless(input.is_block(self.place, output), "gather", input, output)
        })?;
        self.run(py, |communicator| communicator.gather(input, output, dtype, root))
    }

    /// `input` is `None` on every rank but the root.
    fn scatter(
        &self,
        py: Python<'_>,
        input: Option<View>,
        output: View,
        dtype: &str,
        root: usize,
    ) -> PyResult<()> {
        let dtype = parse(dtype)?;
        let (input, output) = match input {
            Some(input) => apart("scatter", input, output).map(|(input, output)| (Some(input), output))?,
            None => (None, output.to_write()),
        };
        self.run(py, |communicator| communicator.scatter(input, output, dtype, root))
    }

    fn all_to_all(&self, py: Python<'_>, input: View, output: View, dtype: &str) -> PyResult<()> {
        let dtype = parse(dtype)?;
        let (input, output) = apart("all_to_all", input, output)?;
        self.run(py, |communicator| communicator.all_to_all(input, output, dtype))
    }

    /// Blocks of any size: `to[i]` bytes of `input` go to rank i, `from[i]` bytes of `output` come from it.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python are owned")]
    fn all_to_all_blocks(
        &self,
        py: Python<'_>,
        input: View,
        output: View,
        dtype: &str,
        to: Vec<usize>,
        from: Vec<usize>,
    ) -> PyResult<()> {
        let dtype = parse(dtype)?;
        let (input, output) = apart("all_to_all", input, output)?;
        self.run(py, |communicator| blocks::all_to_all(communicator, input, output, dtype, &to, &from))
    }

    fn send(&self, py: Python<'_>, data: View, dtype: &str, to: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.send(data.to_read(), dtype, to))
    }

    fn recv(&self, py: Python<'_>, data: View, dtype: &str, from: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.recv(data.to_write(), dtype, from))
    }

    fn barrier(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Communicator::barrier)
    }

    /// Registers memory; `owner` keeps it where it is.
    fn register(&self, py: Python<'_>, memory: View, owner: Py<PyAny>) -> PyResult<NativeRegistration> {
        let View(start, length) = memory;
        // SAFETY: `halo/_views.py` took address and length from a contiguous, writable buffer, whose owner is kept until
        // the registration is given back.
        let held = self.run(py, |communicator| unsafe { communicator.register(start as *mut u8, length) })?;
        Ok(NativeRegistration::new(held, owner))
    }

    /// Zeroed memory of so many bytes, on every rank.
    fn allocate(&self, py: Python<'_>, bytes: usize) -> PyResult<NativeAllocation> {
        self.run(py, |communicator| communicator.allocate(bytes)).map(NativeAllocation::new)
    }

    /// The communicator of the ranks that give the same color, and this rank's place and number in it.
    fn split(&self, py: Python<'_>, color: Option<u32>, key: i64) -> PyResult<Option<(Self, usize, usize)>> {
        let made = self.run(py, |communicator| communicator.split(color, key))?;
        Ok(made.map(|made| {
            let (rank, world) = (made.rank(), made.world());
            (Self::over(made, Arc::default()), rank, world)
        }))
    }

    /// (peer, host, transport, reason) per peer.
    fn links(&self, py: Python<'_>) -> PyResult<Vec<(usize, String, String, String)>> {
        self.run(py, |communicator| {
            let link = |link: &halo_ccl::LinkInfo| {
                (link.peer, link.host.clone(), link.transport.to_string(), link.reason.clone())
            };
            Ok(communicator.links().iter().map(link).collect())
        })
    }

    /// The statistics as JSON.
    fn statistics(&self, py: Python<'_>) -> PyResult<String> {
        self.run(py, |communicator| {
            Ok(serde_json::to_string(&communicator.statistics()).expect("statistics are plain data"))
        })
    }

    /// Ends what another thread waits for, and every later operation.
    fn abort(&self) {
        self.stop.abort();
    }

    /// Says good-bye, unless another thread is in an operation: a process that ends waits for none.
    fn close_if_idle(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            let taken = self.open.try_lock().ok().and_then(|mut open| open.take());
            taken.map_or(Ok(()), Communicator::close)
        })
        .map_err(|error| self.stop.instead_of(error))
    }

    /// Says good-bye; a second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let taken = self.locked(py, |open| Ok(open.take()))?;
        detached(py, || taken.map_or(Ok(()), Communicator::close))
            .map_err(|error| self.stop.instead_of(error))
    }
}

impl NativeCommunicator {
    fn over(mut communicator: Communicator, stop: Arc<Stop>) -> Self {
        communicator.interrupt_when(stop.interrupt());
        let place = (communicator.rank(), communicator.world());
        Self { place, open: Mutex::new(Some(communicator)), stop }
    }

    fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Communicator) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        self.locked(py, |open| work(open.as_mut().ok_or(Error::Fabric(FabricError::Closed))?))
            .map_err(|error| self.stop.instead_of(error))
    }

    /// Runs `work` on what only one thread at a time has. After a panic in it nobody gets there any more.
    fn locked<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Option<Communicator>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let done = detached(py, || self.open.lock().map_or(Ok(None), |mut open| work(&mut open).map(Some)));
        if self.open.is_poisoned() {
            // The peers are told, so that nobody waits for it. Should that panic too, the first panic is what counts.
            let _ = detached(py, || {
                if let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    open.abandon("HALO-E0501: halo panicked");
                }
                Ok(())
            });
        }
        done?.ok_or_else(|| panicked("an earlier call with this communicator did"))
    }
}

fn set_seconds(field: &mut Duration, what: &'static str, given: Option<f64>) -> Result<(), FabricError> {
    if let Some(seconds) = given {
        *field = Duration::try_from_secs_f64(seconds).map_err(|_| FabricError::InvalidConfig {
            what,
            given: seconds.to_string(),
            expected: "a number of seconds",
        })?;
    }
    Ok(())
}

fn parse<T: std::str::FromStr<Err = Error>>(text: &str) -> PyResult<T> {
    text.parse().map_err(|error: Error| {
        let help = error.hint().unwrap_or_default();
        exception(&error.stable_code(), &error.to_string(), &help, None)
    })
}

/// The input, and the output where this rank is the root and has one.
fn roots<'a>(
    input: View,
    output: Option<View>,
    pair: impl FnOnce(View) -> PyResult<(Input<'a>, &'a mut [u8])>,
) -> PyResult<(Input<'a>, Option<&'a mut [u8]>)> {
    let Some(output) = output else {
        return Ok((Input::From(input.to_read()), None));
    };
    pair(output).map(|(input, output)| (input, Some(output)))
}
