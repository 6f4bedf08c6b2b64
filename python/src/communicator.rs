//! The communicator as a Python object. Buffers come as addresses: `halo/_views.py` has checked that they are
//! contiguous memory of this process, of the stated length, writable where needed, and keeps them alive for the call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halo_ccl::{Communicator, Config, DType, Error, FabricError, Input, Key, ReduceOp};
use pyo3::prelude::*;

use crate::allocation::NativeAllocation;
use crate::blocks;
use crate::error::{detached, exception, raise};
use crate::registration::NativeRegistration;
use crate::stop::Stop;
use crate::store::PyStore;

/// An address and a length in bytes.
type View = (usize, usize);

/// The native communicator behind `halo.Communicator`.
#[pyclass(frozen, module = "halo._halo")]
pub(crate) struct NativeCommunicator {
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
        let store = store.map(|store| PyStore::new(store, format!("halo/{name}"), Arc::clone(&stop)));
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

    /// `input` is `None` in place.
    fn all_reduce(
        &self,
        py: Python<'_>,
        input: Option<View>,
        output: View,
        dtype: &str,
        op: &str,
    ) -> PyResult<()> {
        let (dtype, op) = (parse::<DType>(dtype)?, parse::<ReduceOp>(op)?);
        self.run(py, |communicator| {
            let input = input.map_or(Input::InPlace, |input| Input::From(bytes(input)));
            communicator.all_reduce(input, bytes_mut(output), dtype, op)
        })
    }

    /// `output` is `None` on every rank but the root.
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
        self.run(py, |communicator| {
            let input = Input::From(bytes(input));
            communicator.reduce(input, output.map(bytes_mut), dtype, op, root)
        })
    }

    fn all_gather(&self, py: Python<'_>, input: View, output: View, dtype: &str) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.all_gather(bytes(input), bytes_mut(output), dtype))
    }

    fn reduce_scatter(
        &self,
        py: Python<'_>,
        input: View,
        output: View,
        dtype: &str,
        op: &str,
    ) -> PyResult<()> {
        let (dtype, op) = (parse(dtype)?, parse(op)?);
        self.run(py, |communicator| communicator.reduce_scatter(bytes(input), bytes_mut(output), dtype, op))
    }

    fn broadcast(&self, py: Python<'_>, buffer: View, dtype: &str, root: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.broadcast(bytes_mut(buffer), dtype, root))
    }

    fn gather(
        &self,
        py: Python<'_>,
        input: View,
        output: Option<View>,
        dtype: &str,
        root: usize,
    ) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.gather(bytes(input), output.map(bytes_mut), dtype, root))
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
        self.run(py, |communicator| communicator.scatter(input.map(bytes), bytes_mut(output), dtype, root))
    }

    fn all_to_all(&self, py: Python<'_>, input: View, output: View, dtype: &str) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.all_to_all(bytes(input), bytes_mut(output), dtype))
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
        self.run(py, |communicator| {
            blocks::all_to_all(communicator, bytes(input), bytes_mut(output), dtype, &to, &from)
        })
    }

    fn send(&self, py: Python<'_>, data: View, dtype: &str, to: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.send(bytes(data), dtype, to))
    }

    fn recv(&self, py: Python<'_>, data: View, dtype: &str, from: usize) -> PyResult<()> {
        let dtype = parse(dtype)?;
        self.run(py, |communicator| communicator.recv(bytes_mut(data), dtype, from))
    }

    fn barrier(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Communicator::barrier)
    }

    /// Registers memory; `owner` keeps it where it is.
    fn register(&self, py: Python<'_>, memory: View, owner: Py<PyAny>) -> PyResult<NativeRegistration> {
        let (start, length) = memory;
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
    }

    /// Says good-bye; a second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.map_or(Ok(()), Communicator::close)
        })
    }
}

impl NativeCommunicator {
    fn over(mut communicator: Communicator, stop: Arc<Stop>) -> Self {
        let asked = Arc::clone(&stop);
        communicator.interrupt_when(move || asked.wanted());
        Self { open: Mutex::new(Some(communicator)), stop }
    }

    fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Communicator) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            work(open.as_mut().ok_or(Error::Fabric(FabricError::Closed))?)
        })
        .map_err(|error| self.stop.instead_of(error))
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

fn bytes<'a>((address, length): View) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: `halo/_views.py` took address and length from a contiguous buffer that it keeps alive for this call.
    unsafe { std::slice::from_raw_parts(address as *const u8, length) }
}

fn bytes_mut<'a>((address, length): View) -> &'a mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as in `bytes`, and the buffer is writable. Another Python thread that writes it meanwhile spoils the
    // data, as with every buffer that is handed out without the lock.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) }
}
