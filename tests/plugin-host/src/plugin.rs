//! One face over all versions of the interface.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::fmt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Mutex;

use halo::plugin::abi::net::{CommConfig, NetV8, NetV9, NetV10, NetV11, NetV12, VirtualDevice};
use halo::plugin::abi::{HANDLE_BYTES, INVALID_ARGUMENT, LOG_WARN, Logger, NcclResult, PTR_HOST, SUCCESS};

use crate::Outcome;

/// A version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Version {
    V8,
    V9,
    V10,
    V11,
    V12,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 5] = [Self::V8, Self::V9, Self::V10, Self::V11, Self::V12];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

#[derive(Clone, Copy)]
enum Table {
    V8(&'static NetV8),
    V9(&'static NetV9),
    V10(&'static NetV10),
    V11(&'static NetV11),
    V12(&'static NetV12),
}

/// Calls a function that all versions have in the same form.
macro_rules! call {
    ($plugin:expr, $function:ident($($argument:expr),*)) => {
        match $plugin.table {
            // SAFETY: the core's contract, which is what this host is for.
            Table::V8(table) => unsafe { (table.$function.expect(stringify!($function)))($($argument),*) },
            // SAFETY: as above.
            Table::V9(table) => unsafe { (table.$function.expect(stringify!($function)))($($argument),*) },
            // SAFETY: as above.
            Table::V10(table) => unsafe { (table.$function.expect(stringify!($function)))($($argument),*) },
            // SAFETY: as above.
            Table::V11(table) => unsafe { (table.$function.expect(stringify!($function)))($($argument),*) },
            // SAFETY: as above.
            Table::V12(table) => unsafe { (table.$function.expect(stringify!($function)))($($argument),*) },
        }
    };
}

/// What the plugin answered that was not success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Which call.
    pub call: &'static str,
    /// The core's code.
    pub code: NcclResult,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.call, self.code)
    }
}

impl std::error::Error for Refused {}

fn check(call: &'static str, code: NcclResult) -> Result<(), Refused> {
    if code == SUCCESS { Ok(()) } else { Err(Refused { call, code }) }
}

/// The properties that all versions have, and those of later ones where there are some.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are the core's")]
pub struct Properties {
    pub name: String,
    pub pci_path: Option<String>,
    pub guid: u64,
    pub ptr_support: c_int,
    pub reg_is_global: c_int,
    pub speed: c_int,
    pub port: c_int,
    pub latency: f32,
    pub max_comms: c_int,
    pub max_recvs: c_int,
    pub net_device_type: c_int,
    pub net_device_version: c_int,
    pub force_flush: Option<c_int>,
    pub max_p2p_bytes: Option<usize>,
    pub max_coll_bytes: Option<usize>,
    pub max_multi_request_size: Option<c_int>,
    pub virtual_devices: Option<Vec<c_int>>,
    pub rail_and_plane: Option<(i16, i16)>,
}

/// A pointer that the plugin gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opaque(pub *mut c_void);

// SAFETY: the plugin's objects are used from two threads by contract.
unsafe impl Send for Opaque {}
// SAFETY: as above.
unsafe impl Sync for Opaque {}

/// What a request looks like before the plugin writes it: a core may leave 1 there (see `irecv`).
pub const OPTIONAL_COMPLETION: *mut c_void = std::ptr::without_provenance_mut(1);

/// One part of a receive.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Where it goes.
    pub data: *mut u8,
    /// How much fits.
    pub room: usize,
    /// Its tag.
    pub tag: c_int,
    /// The memory's handle.
    pub memory: Opaque,
}

/// The plugin, loaded.
pub struct Plugin {
    table: Table,
    version: Version,
    library: libloading::Library,
    traffic_class: c_int,
}

impl Plugin {
    /// Loads the library and looks one version up.
    ///
    /// # Errors
    /// No library, or not that version.
    pub fn load(path: &Path, version: Version) -> Outcome<Self> {
        // SAFETY: the library under test; its constructors are Rust's own.
        let library = unsafe { libloading::Library::new(path) }?;
        let symbol = format!("ncclNetPlugin_{version}\0");
        // SAFETY: the symbol is the table itself, which stays: the library is never really unloaded (nodelete).
        let table = unsafe {
            match version {
                Version::V8 => Table::V8(*library.get::<&'static NetV8>(&symbol)?),
                Version::V9 => Table::V9(*library.get::<&'static NetV9>(&symbol)?),
                Version::V10 => Table::V10(*library.get::<&'static NetV10>(&symbol)?),
                Version::V11 => Table::V11(*library.get::<&'static NetV11>(&symbol)?),
                Version::V12 => Table::V12(*library.get::<&'static NetV12>(&symbol)?),
            }
        };
        Ok(Self { table, version, library, traffic_class: -1 })
    }

    /// With this traffic class for every communicator.
    #[must_use]
    pub fn traffic_class(self, traffic_class: Option<u8>) -> Self {
        Self { traffic_class: traffic_class.map_or(-1, c_int::from), ..self }
    }

    /// Which version of the interface this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The library itself.
    pub fn library(&self) -> &libloading::Library {
        &self.library
    }

    /// What `NCCL_NET` would name.
    pub fn name(&self) -> String {
        let name = match self.table {
            Table::V8(table) => table.name,
            Table::V9(table) => table.name,
            Table::V10(table) => table.name,
            Table::V11(table) => table.name,
            Table::V12(table) => table.name,
        };
        text(name).unwrap_or_default()
    }

    /// Initialises the plugin for one communicator; its context, from version 11 on.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn init(&self) -> Result<Opaque, Refused> {
        let mut context = null_mut();
        let mut config = CommConfig { traffic_class: self.traffic_class };
        let log = logger();
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V8(table) => table.init.expect("init")(Some(log)),
                Table::V9(table) => table.init.expect("init")(Some(log)),
                Table::V10(table) => table.init.expect("init")(Some(log), None),
                Table::V11(table) => {
                    table.init.expect("init")(&raw mut context, 7, &raw mut config, Some(log), None)
                }
                Table::V12(table) => {
                    table.init.expect("init")(&raw mut context, 7, &raw mut config, Some(log), None)
                }
            }
        };
        check("init", code).map(|()| Opaque(context))
    }

    /// Ends one communicator.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn finalize(&self, context: Opaque) -> Result<(), Refused> {
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V11(table) => table.finalize.expect("finalize")(context.0),
                Table::V12(table) => table.finalize.expect("finalize")(context.0),
                _ => SUCCESS,
            }
        };
        check("finalize", code)
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn devices(&self) -> Result<c_int, Refused> {
        let mut count = 0;
        check("devices", call!(self, devices(&raw mut count))).map(|()| count)
    }

    /// A device's properties.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn properties(&self, device: c_int) -> Result<Properties, Refused> {
        macro_rules! read {
            ($table:expr, $later:expr) => {{
                let mut target = std::mem::MaybeUninit::zeroed();
                let ask = $table.get_properties.expect("getProperties");
                // SAFETY: the core's contract; zeroes are valid properties.
                let code = unsafe { ask(device, target.as_mut_ptr()) };
                check("getProperties", code)?;
                // SAFETY: as above.
                $later(unsafe { target.assume_init() })
            }};
        }
        macro_rules! common {
            ($p:expr) => {
                Properties {
                    name: text($p.name).unwrap_or_default(),
                    pci_path: text($p.pci_path),
                    guid: $p.guid,
                    ptr_support: $p.ptr_support,
                    reg_is_global: $p.reg_is_global,
                    speed: $p.speed,
                    port: $p.port,
                    latency: $p.latency,
                    max_comms: $p.max_comms,
                    max_recvs: $p.max_recvs,
                    net_device_type: $p.net_device_type,
                    net_device_version: $p.net_device_version,
                    force_flush: None,
                    max_p2p_bytes: None,
                    max_coll_bytes: None,
                    max_multi_request_size: None,
                    virtual_devices: None,
                    rail_and_plane: None,
                }
            };
        }
        macro_rules! later {
            ($p:expr) => {{
                let devices = &$p.virtual_device;
                Properties {
                    force_flush: Some($p.force_flush),
                    max_p2p_bytes: Some($p.max_p2p_bytes),
                    max_coll_bytes: Some($p.max_coll_bytes),
                    virtual_devices: Some(devices.devs[..devices.ndevs as usize].to_vec()),
                    ..common!($p)
                }
            }};
        }
        Ok(match self.table {
            Table::V8(table) => read!(table, |p: halo::plugin::abi::net::PropertiesV8| common!(p)),
            Table::V9(table) => read!(table, |p: halo::plugin::abi::net::PropertiesV9<4>| later!(p)),
            Table::V10(table) => read!(table, |p: halo::plugin::abi::net::PropertiesV9<4>| later!(p)),
            Table::V11(table) => read!(table, |p: halo::plugin::abi::net::PropertiesV11| Properties {
                max_multi_request_size: Some(p.max_multi_request_size),
                ..later!(p.before)
            }),
            Table::V12(table) => read!(table, |p: halo::plugin::abi::net::PropertiesV12| Properties {
                max_multi_request_size: Some(p.max_multi_request_size),
                rail_and_plane: Some((p.rail_id, p.plane_id)),
                ..later!(p.before)
            }),
        })
    }

    /// Has several devices used as one; its number. Version 8 knows nothing of that.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn make_virtual_device(&self, members: &[c_int]) -> Result<c_int, Refused> {
        fn asked<const N: usize>(members: &[c_int]) -> VirtualDevice<N> {
            let mut devs = [-1; N];
            let count = members.len().min(N);
            devs[..count].copy_from_slice(&members[..count]);
            VirtualDevice { ndevs: members.len() as c_int, devs }
        }
        let mut made = -1;
        let (mut four, mut eight) = (asked::<4>(members), asked::<8>(members));
        let out = &raw mut made;
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V8(_) => return Err(Refused { call: "makeVDevice", code: INVALID_ARGUMENT }),
                Table::V9(t) => t.make_virtual_device.expect("makeVDevice")(out, &raw mut four),
                Table::V10(t) => t.make_virtual_device.expect("makeVDevice")(out, &raw mut four),
                Table::V11(t) => t.make_virtual_device.expect("makeVDevice")(out, &raw mut four),
                Table::V12(t) => t.make_virtual_device.expect("makeVDevice")(out, &raw mut eight),
            }
        };
        check("makeVDevice", code).map(|()| made)
    }

    /// All devices as one; its number.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn join_all(&self) -> Result<c_int, Refused> {
        let all: Vec<_> = (0..self.devices()?).collect();
        self.make_virtual_device(&all)
    }

    /// Listens; the listener, and the handle for a peer.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn listen(&self, context: Opaque, device: c_int) -> Result<(Opaque, [u8; HANDLE_BYTES]), Refused> {
        let (mut handle, mut listener) = ([0u8; HANDLE_BYTES], null_mut());
        let (at, out) = (handle.as_mut_ptr().cast(), &raw mut listener);
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V8(table) => table.listen.expect("listen")(device, at, out),
                Table::V9(table) => table.listen.expect("listen")(device, at, out),
                Table::V10(table) => table.listen.expect("listen")(device, at, out),
                Table::V11(table) => table.listen.expect("listen")(context.0, device, at, out),
                Table::V12(table) => table.listen.expect("listen")(context.0, device, at, out),
            }
        };
        check("listen", code).map(|()| (Opaque(listener), handle))
    }

    /// Connects, or goes on connecting.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn connect(
        &self,
        context: Opaque,
        device: c_int,
        handle: &mut [u8; HANDLE_BYTES],
    ) -> Result<Option<Opaque>, Refused> {
        let mut comm = null_mut();
        let (at, out) = (handle.as_mut_ptr().cast(), &raw mut comm);
        let mut config = CommConfig { traffic_class: self.traffic_class };
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V8(table) => table.connect.expect("connect")(device, at, out, null_mut()),
                Table::V9(table) => table.connect.expect("connect")(device, at, out, null_mut()),
                Table::V10(table) => {
                    table.connect.expect("connect")(device, &raw mut config, at, out, null_mut())
                }
                Table::V11(table) => table.connect.expect("connect")(context.0, device, at, out, null_mut()),
                Table::V12(table) => table.connect.expect("connect")(context.0, device, at, out, null_mut()),
            }
        };
        check("connect", code).map(|()| (!comm.is_null()).then_some(Opaque(comm)))
    }

    /// Accepts, or goes on accepting.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn accept(&self, listener: Opaque) -> Result<Option<Opaque>, Refused> {
        let mut comm = null_mut();
        let code = call!(self, accept(listener.0, &raw mut comm, null_mut()));
        check("accept", code).map(|()| (!comm.is_null()).then_some(Opaque(comm)))
    }

    /// Registers host memory.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn register(&self, comm: Opaque, data: *mut u8, bytes: usize) -> Result<Opaque, Refused> {
        self.register_as(comm, data, bytes, PTR_HOST)
    }

    /// Registers memory of any kind.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn register_as(
        &self,
        comm: Opaque,
        data: *mut u8,
        bytes: usize,
        kind: c_int,
    ) -> Result<Opaque, Refused> {
        let mut memory = null_mut();
        let code = call!(self, reg_mr(comm.0, data.cast(), bytes, kind, &raw mut memory));
        check("regMr", code).map(|()| Opaque(memory))
    }

    /// Registers memory of any kind that belongs to a dma-buf.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn register_dma_buf(
        &self,
        comm: Opaque,
        data: *mut u8,
        bytes: usize,
        kind: c_int,
        file: c_int,
    ) -> Result<Opaque, Refused> {
        let mut memory = null_mut();
        let code = call!(self, reg_mr_dma_buf(comm.0, data.cast(), bytes, kind, 0, file, &raw mut memory));
        check("regMrDmaBuf", code).map(|()| Opaque(memory))
    }

    /// Gives a registration back.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn deregister(&self, comm: Opaque, memory: Opaque) -> Result<(), Refused> {
        check("deregMr", call!(self, dereg_mr(comm.0, memory.0)))
    }

    /// Begins to send.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn send(
        &self,
        comm: Opaque,
        data: *const u8,
        bytes: usize,
        tag: c_int,
        memory: Opaque,
    ) -> Result<Option<Opaque>, Refused> {
        let (data, mut request) = (data.cast_mut().cast(), OPTIONAL_COMPLETION);
        let out = &raw mut request;
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V8(t) => t.isend.expect("isend")(comm.0, data, bytes as c_int, tag, memory.0, out),
                Table::V9(t) => t.isend.expect("isend")(comm.0, data, bytes, tag, memory.0, out),
                Table::V10(t) => t.isend.expect("isend")(comm.0, data, bytes, tag, memory.0, null_mut(), out),
                Table::V11(t) => t.isend.expect("isend")(comm.0, data, bytes, tag, memory.0, null_mut(), out),
                Table::V12(t) => t.isend.expect("isend")(comm.0, data, bytes, tag, memory.0, null_mut(), out),
            }
        };
        check("isend", code).map(|()| (!request.is_null()).then_some(Opaque(request)))
    }

    /// Begins to receive. From version 9 on the core may come in with 1 in the request.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn receive(&self, comm: Opaque, parts: &[Part]) -> Result<Option<Opaque>, Refused> {
        let count = parts.len() as c_int;
        let mut data: Vec<*mut c_void> = parts.iter().map(|part| part.data.cast()).collect();
        let mut sizes: Vec<usize> = parts.iter().map(|part| part.room).collect();
        let mut small: Vec<c_int> = parts.iter().map(|part| part.room as c_int).collect();
        let mut tags: Vec<c_int> = parts.iter().map(|part| part.tag).collect();
        let mut memories: Vec<*mut c_void> = parts.iter().map(|part| part.memory.0).collect();
        let mut request = OPTIONAL_COMPLETION;
        let (data, sizes, small, tags) =
            (data.as_mut_ptr(), sizes.as_mut_ptr(), small.as_mut_ptr(), tags.as_mut_ptr());
        let (memories, out, none) = (memories.as_mut_ptr(), &raw mut request, null_mut());
        // SAFETY: the core's contract; arrays as long as the count.
        let code = unsafe {
            match self.table {
                Table::V8(t) => t.irecv.expect("irecv")(comm.0, count, data, small, tags, memories, out),
                Table::V9(t) => t.irecv.expect("irecv")(comm.0, count, data, sizes, tags, memories, out),
                Table::V10(t) => {
                    t.irecv.expect("irecv")(comm.0, count, data, sizes, tags, memories, none, out)
                }
                Table::V11(t) => {
                    t.irecv.expect("irecv")(comm.0, count, data, sizes, tags, memories, none, out)
                }
                Table::V12(t) => {
                    t.irecv.expect("irecv")(comm.0, count, data, sizes, tags, memories, none, out)
                }
            }
        };
        check("irecv", code).map(|()| (!request.is_null()).then_some(Opaque(request)))
    }

    /// Flushes what was received; `None` when there is nothing to wait for.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn flush(&self, comm: Opaque, part: &Part) -> Result<Option<Opaque>, Refused> {
        let (mut data, mut size) = (part.data.cast::<c_void>(), part.room as c_int);
        let (mut memory, mut request) = (part.memory.0, null_mut());
        let (data, size, memory, out) = (&raw mut data, &raw mut size, &raw mut memory, &raw mut request);
        let code = call!(self, iflush(comm.0, 1, data, size, memory, out));
        check("iflush", code).map(|()| (!request.is_null()).then_some(Opaque(request)))
    }

    /// Whether a request is complete, and how large its parts are.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn test(&self, request: Opaque) -> Result<Option<[c_int; 8]>, Refused> {
        let (mut done, mut sizes) = (0, [-1; 8]);
        check("test", call!(self, test(request.0, &raw mut done, sizes.as_mut_ptr())))?;
        Ok((done != 0).then_some(sizes))
    }

    /// Whether a request is complete, by a core that does not want the sizes.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn test_without_sizes(&self, request: Opaque) -> Result<bool, Refused> {
        let mut done = 0;
        check("test", call!(self, test(request.0, &raw mut done, null_mut()))).map(|()| done != 0)
    }

    /// Closes the sending half of a connection.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn close_send(&self, comm: Opaque) -> Result<(), Refused> {
        check("closeSend", call!(self, close_send(comm.0)))
    }

    /// Closes the receiving half.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn close_receive(&self, comm: Opaque) -> Result<(), Refused> {
        check("closeRecv", call!(self, close_recv(comm.0)))
    }

    /// Closes a listener.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn close_listen(&self, listener: Opaque) -> Result<(), Refused> {
        check("closeListen", call!(self, close_listen(listener.0)))
    }
}

fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: the plugin's strings are terminated and static.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Everything the plugin has logged as a warning.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The warnings so far.
pub fn warnings() -> Vec<String> {
    WARNINGS.lock().map(|warnings| warnings.clone()).unwrap_or_default()
}

/// A core's logger. Rust has no variadic functions; one whose sixth argument is a pointer receives what a variadic one
/// is passed there, on x86-64 and on arm64, and the plugin passes exactly one string.
extern "C" fn log(
    level: c_int,
    _: c_ulong,
    _: *const c_char,
    _: c_int,
    format: *const c_char,
    first: *const c_char,
) {
    let line = text(first).unwrap_or_default();
    assert_eq!(text(format).as_deref(), Some("%s"), "the plugin logs through %s alone");
    if level == LOG_WARN {
        eprintln!("WARN {line}");
        if let Ok(mut warnings) = WARNINGS.lock() {
            warnings.push(line);
        }
    } else {
        eprintln!("INFO {line}");
    }
}

fn logger() -> Logger {
    // SAFETY: see `log`.
    unsafe { std::mem::transmute::<*const (), Logger>(log as *const ()) }
}
