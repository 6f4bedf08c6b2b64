//! One connection as the core holds it: a sending or a receiving half, its requests, its memory.

pub(crate) mod control;
pub(crate) mod memory;
mod requests;

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::boundary::Report;
use super::device::{Device, MAX_MESSAGE_BYTES, MAX_RECEIVES};
use super::error::PluginError;
use super::process::Lent;
use super::protocol::MAX_POSTED;
use super::statistics;
use super::{rdma, tcp};
use memory::Memory;
use requests::{Outcome, Requests};

/// What a data path reports when a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer is gone.
    Lost(String),
    /// This side's device does not work.
    Device(String),
    /// The peer says what makes no sense.
    Protocol(String),
    /// A message larger than its receive.
    Truncation { tag: i32, bytes: u64, room: u64 },
}

/// A message on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) request: usize,
    pub(crate) tag: i32,
    pub(crate) data: *const u8,
    pub(crate) bytes: u64,
    pub(crate) memory: Option<&'a Memory>,
}

/// One part of a receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) tag: i32,
    pub(crate) data: *mut u8,
    pub(crate) room: u64,
    pub(crate) memory: Option<&'a Memory>,
}

impl Incoming<'_> {
    /// A place in an array that is not filled.
    pub(crate) const NONE: Self = Self { tag: 0, data: std::ptr::null_mut(), room: 0, memory: None };
}

/// A part of a receive that is complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) request: usize,
    pub(crate) part: usize,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) enum SendPath {
    Tcp(Box<tcp::Sender>),
    Rdma(Box<rdma::Sender>),
}

#[derive(Debug)]
pub(crate) enum ReceivePath {
    Tcp(Box<tcp::Receiver>),
    Rdma(Box<rdma::Receiver>),
}

#[derive(Debug)]
enum Half {
    Send(Mutex<(Requests, SendPath)>),
    Receive(Mutex<(Requests, ReceivePath)>),
}

/// A request as the core holds it: a pointer to this.
#[derive(Debug)]
pub(crate) struct Ticket {
    comm: *const Comm,
    request: usize,
}

// SAFETY: the connection it points to is `Sync`, and owns it.
unsafe impl Send for Ticket {}
// SAFETY: as above.
unsafe impl Sync for Ticket {}

/// A connection.
#[derive(Debug)]
pub(crate) struct Comm {
    process: u32,
    pub(crate) device: &'static Device,
    peer: String,
    half: Half,
    /// The first failure; every later call answers with it.
    failure: OnceLock<PluginError>,
    tickets: Box<[Ticket]>,
}

impl Comm {
    pub(crate) fn sender(device: &'static Device, peer: String, path: SendPath) -> Box<Self> {
        Self::new(device, peer, Half::Send(Mutex::new((Requests::default(), path))))
    }

    pub(crate) fn receiver(device: &'static Device, peer: String, path: ReceivePath) -> Box<Self> {
        Self::new(device, peer, Half::Receive(Mutex::new((Requests::default(), path))))
    }

    fn new(device: &'static Device, peer: String, half: Half) -> Box<Self> {
        let (process, failure) = (std::process::id(), OnceLock::new());
        let mut comm = Box::new(Self { process, device, peer, half, failure, tickets: Box::default() });
        let at: *const Self = &raw const *comm;
        comm.tickets = (0..MAX_POSTED).map(|request| Ticket { comm: at, request }).collect();
        comm
    }

    /// Begins to send; `None` when it cannot be begun now.
    pub(crate) fn send(
        &self,
        data: *const u8,
        bytes: u64,
        tag: i32,
        memory: Option<&Memory>,
    ) -> Result<Option<&Ticket>, Report> {
        self.check()?;
        let Half::Send(half) = &self.half else { return Err(argument("isend", "a receiving connection")) };
        self.check_buffer("isend", data, bytes, memory)?;
        let (requests, path) = &mut *lock(half);
        let Some(request) = requests.begin(1) else { return Ok(None) };
        let message = Outgoing { request, tag, data, bytes, memory };
        let posted = match path {
            SendPath::Tcp(path) => path.post(&message),
            SendPath::Rdma(path) => path.post(&message),
        };
        match posted {
            Ok(true) => {
                self.device.statistics.sent(bytes);
                progress_send(requests, path).map_err(|failure| self.fail(failure))?;
                Ok(Some(&self.tickets[request]))
            }
            Ok(false) => {
                requests.cancel(request);
                Ok(None)
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    /// Begins to receive up to eight messages as one request; `None` when it cannot be begun now.
    pub(crate) fn receive(&self, parts: &[Incoming<'_>]) -> Result<Option<&Ticket>, Report> {
        self.check()?;
        let Half::Receive(half) = &self.half else { return Err(argument("irecv", "a sending connection")) };
        if parts.is_empty() || parts.len() > MAX_RECEIVES {
            return Err(argument("irecv", format!("{} receives", parts.len())));
        }
        for part in parts {
            self.check_buffer("irecv", part.data, part.room, part.memory)?;
        }
        let (requests, path) = &mut *lock(half);
        let room = match path {
            ReceivePath::Tcp(path) => Ok(path.room()),
            ReceivePath::Rdma(path) => path.room(|arrival| self.note(requests, &arrival)),
        };
        if room.map_err(|failure| self.fail(failure))? < parts.len() {
            return Ok(None);
        }
        let Some(request) = requests.begin(parts.len()) else { return Ok(None) };
        let posted = match path {
            ReceivePath::Tcp(path) => {
                path.post(request, parts);
                Ok(())
            }
            ReceivePath::Rdma(path) => path.post(request, parts),
        };
        posted.map_err(|failure| self.fail(failure))?;
        Ok(Some(&self.tickets[request]))
    }

    /// Makes what was received into GPU memory visible to the GPU; `None` when there is nothing to do. The NIC's writes
    /// are ordered, so `last` stands for everything that was written before it.
    pub(crate) fn flush(&self, last: &Incoming<'_>) -> Result<Option<&Ticket>, Report> {
        self.check()?;
        let Half::Receive(half) = &self.half else { return Err(argument("iflush", "a sending connection")) };
        let (requests, path) = &mut *lock(half);
        let ReceivePath::Rdma(path) = path else { return Ok(None) };
        if !last.memory.is_some_and(Memory::is_gpu) {
            return Ok(None);
        }
        let Some(request) = requests.begin(1) else {
            return Err(argument("iflush", "more requests than a connection has"));
        };
        path.flush(request, last).map_err(|failure| self.fail(failure))?;
        Ok(Some(&self.tickets[request]))
    }

    /// Whether a request is complete, and the sizes of its parts. A complete request is gone afterwards.
    fn test(&self, request: usize) -> Result<Option<Outcome>, Report> {
        self.check()?;
        let finished = match &self.half {
            Half::Send(half) => {
                let (requests, path) = &mut *lock(half);
                let progress = progress_send(requests, path);
                requests.take(request).map(Ok).or(progress.err().map(Err))
            }
            Half::Receive(half) => {
                let (requests, path) = &mut *lock(half);
                let arrived = |arrival: Arrival| self.note(requests, &arrival);
                let progress = match path {
                    ReceivePath::Tcp(path) => path.progress(arrived),
                    ReceivePath::Rdma(path) => path.progress(arrived),
                };
                requests.take(request).map(Ok).or(progress.err().map(Err))
            }
        };
        // What is complete stays complete, whatever has become of the connection since.
        finished.transpose().map_err(|failure| self.fail(failure))
    }

    fn note(&self, requests: &mut Requests, arrival: &Arrival) {
        self.device.statistics.received(arrival.bytes);
        requests.finish_part(arrival.request, arrival.part, arrival.bytes);
    }

    fn check_buffer(
        &self,
        call: &'static str,
        data: *const u8,
        bytes: u64,
        memory: Option<&Memory>,
    ) -> Result<(), Report> {
        let refuse = |what: String| Err(argument(call, what));
        if bytes > MAX_MESSAGE_BYTES {
            return refuse(format!("{bytes} bytes, more than the {MAX_MESSAGE_BYTES} of a message"));
        }
        if bytes > 0 && data.is_null() {
            return refuse(format!("{bytes} bytes at NULL"));
        }
        match memory {
            Some(memory) if !memory.holds(data, bytes) => {
                refuse(format!("{bytes} bytes at {data:p}, outside of the memory of its handle"))
            }
            // Another device's ports know nothing of it.
            Some(memory) if self.device.ports().is_some() && !memory.is_of(self.device) => {
                refuse(format!("{bytes} bytes of memory that is registered with another device"))
            }
            None if bytes > 0 && self.device.ports().is_some() => {
                refuse(format!("{bytes} bytes of memory that is not registered"))
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Report> {
        self.failure.get().map_or(Ok(()), |error| Err(Report::Told(error.clone())))
    }

    fn fail(&self, failure: Failure) -> Report {
        let (peer, device) = (self.peer.clone(), self.device.describe());
        let error = match failure {
            Failure::Lost(cause) => PluginError::PeerLost { peer, device, cause },
            Failure::Device(cause) => PluginError::Device { device, peer, cause },
            Failure::Protocol(cause) => PluginError::Protocol { peer, device, cause },
            Failure::Truncation { tag, bytes, room } => {
                PluginError::Truncation { peer, device, tag, bytes, room }
            }
        };
        match self.failure.set(error.clone()) {
            Ok(()) => Report::New(error),
            Err(_) => Report::Told(error),
        }
    }
}

impl Lent for Comm {
    fn process(&self) -> u32 {
        self.process
    }
}

impl Drop for Comm {
    fn drop(&mut self) {
        statistics::write(&self.device.settings);
    }
}

impl Ticket {
    /// As the core holds it.
    pub(crate) fn as_pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// [`Comm::test`] of the request this stands for.
    pub(crate) fn test(&self) -> Result<Option<Outcome>, Report> {
        // SAFETY: a connection owns its tickets and does not move; the core gives no request of a closed connection.
        unsafe { &*self.comm }.test(self.request)
    }
}

fn progress_send(requests: &mut Requests, path: &mut SendPath) -> Result<(), Failure> {
    let finished = |request, bytes| requests.finish_part(request, 0, bytes);
    match path {
        SendPath::Tcp(path) => path.progress(finished),
        SendPath::Rdma(path) => path.progress(finished),
    }
}

fn lock<T>(half: &Mutex<T>) -> MutexGuard<'_, T> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

fn argument(call: &'static str, what: impl Into<String>) -> Report {
    PluginError::Argument { call, what: what.into() }.into()
}
