//! Asynchronous events: what a device says unasked, such as a port that goes down.

use std::os::fd::BorrowedFd;

use crate::device::Context;
use crate::error::{Error, last_errno};
use crate::library::text;
use crate::sys;

/// One event, acknowledged when it is dropped.
pub struct AsyncEvent<'a> {
    context: &'a Context,
    raw: sys::ibv_async_event,
}

impl Context {
    /// The file that can be read when an event has come: for whoever sleeps in poll(2).
    pub fn event_file(&self) -> BorrowedFd<'_> {
        // SAFETY: the context's event file is open as long as the context.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_ref().async_fd) }
    }

    /// The next event, if one has come; never waits.
    ///
    /// # Errors
    /// The device's event file cannot be read.
    pub fn next_event(&self) -> Result<Option<AsyncEvent<'_>>, Error> {
        let failed = |cause: String| Error::Call {
            call: "ibv_get_async_event".to_owned(),
            device: self.name().to_owned(),
            cause,
        };
        let file = self.event_file();
        let mut watched = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut watched, Some(&now)).map_err(|error| failed(error.to_string()))? == 0 {
            return Ok(None);
        }
        let mut raw = sys::ibv_async_event::default();
        // SAFETY: an open context with an event to read, which is written.
        let status = unsafe { (self.library.ibv_get_async_event)(self.raw.as_ptr(), &raw mut raw) };
        if status != 0 {
            return Err(failed(last_errno()));
        }
        Ok(Some(AsyncEvent { context: self, raw }))
    }
}

impl AsyncEvent<'_> {
    /// Whether it says that this port carries nothing any more: the port is down, or the whole device has failed.
    pub fn ends_port(&self, port: u8) -> bool {
        match self.raw.event_type {
            sys::IBV_EVENT_DEVICE_FATAL => true,
            // SAFETY: for events of ports this member is the one that is written.
            sys::IBV_EVENT_PORT_ERR => (unsafe { self.raw.element.port_num }) == i32::from(port),
            _ => false,
        }
    }
}

impl std::fmt::Display for AsyncEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the call takes any value and returns a static string.
        f.pad(&text(unsafe { (self.context.library.ibv_event_type_str)(self.raw.event_type) }))
    }
}

impl Drop for AsyncEvent<'_> {
    fn drop(&mut self) {
        // SAFETY: an event that was got and not acknowledged yet.
        unsafe { (self.context.library.ibv_ack_async_event)(&raw mut self.raw) };
    }
}
