//! Completion queues.

use std::ffi::c_int;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::device::Context;
use crate::error::{Error, last_errno};
use crate::library::text;
use crate::sys;

/// What became of a work request.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// The number the work request was given.
    pub id: u64,
    /// The immediate value that came with a peer's write, on the receiving side.
    pub immediate: Option<u32>,
    /// Bytes that the peer's write brought, on the receiving side; no meaning on the sending side.
    pub bytes: u32,
    status: sys::ibv_wc_status,
}

impl Completion {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.status == sys::IBV_WC_SUCCESS
    }

    /// Whether it only says that its queue pair had failed before.
    pub fn flushed(&self) -> bool {
        self.status == sys::IBV_WC_WR_FLUSH_ERR
    }
}

/// Where finished work requests are reported.
pub struct CompletionQueue {
    pub(crate) context: Arc<Context>,
    pub(crate) raw: NonNull<sys::ibv_cq>,
}

// SAFETY: libibverbs' calls on a completion queue are thread-safe.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompletionQueue").field(&self.context).finish()
    }
}

impl CompletionQueue {
    /// A queue for at least `depth` completions.
    ///
    /// # Errors
    /// The device refuses.
    pub fn new(context: Arc<Context>, depth: u32) -> Result<Arc<Self>, Error> {
        // SAFETY: an open context; no event channel, no user pointer.
        let raw = unsafe {
            (context.library.ibv_create_cq)(
                context.raw.as_ptr(),
                depth as c_int,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
            )
        };
        let Some(raw) = NonNull::new(raw) else {
            let (device, cause) = (context.name().to_owned(), last_errno());
            return Err(Error::Call { call: format!("ibv_create_cq of {depth} entries"), device, cause });
        };
        Ok(Arc::new(Self { context, raw }))
    }

    /// Takes up to `N` completions that have come; never waits.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn poll<const N: usize>(&self, mut take: impl FnMut(Completion)) -> Result<usize, Error> {
        let mut entries = [sys::ibv_wc::default(); N];
        // SAFETY: the queue's context is open, and its table is filled by the provider before it is handed out.
        let poll = unsafe { self.context.raw.as_ref() }.ops.poll_cq;
        let Some(poll) = poll else { return Err(Error::SymbolMissing { symbol: "poll_cq" }) };
        // SAFETY: a live queue, and room for N entries.
        let count = unsafe { poll(self.raw.as_ptr(), N as c_int, entries.as_mut_ptr()) };
        if count < 0 {
            let (device, cause) = (self.context.name().to_owned(), last_errno());
            return Err(Error::Call { call: "ibv_poll_cq".to_owned(), device, cause });
        }
        for entry in &entries[..count as usize] {
            // rdma_rxe sets the flag on the sending side too.
            let received = entry.opcode & sys::IBV_WC_RECV != 0;
            let with_immediate = received && entry.wc_flags & sys::IBV_WC_WITH_IMM != 0;
            // SAFETY: 32 bits, in whichever form.
            let immediate = u32::from_be(unsafe { entry.__bindgen_anon_1.imm_data });
            take(Completion {
                id: entry.wr_id,
                immediate: with_immediate.then_some(immediate),
                bytes: entry.byte_len,
                status: entry.status,
            });
        }
        Ok(count as usize)
    }

    /// The error that a failed completion stands for.
    pub fn explain(&self, completion: &Completion) -> Error {
        // SAFETY: the call takes any value and returns a static string.
        let words = text(unsafe { (self.context.library.ibv_wc_status_str)(completion.status) });
        let status = format!("{words} (status {})", completion.status);
        Error::Completion { device: self.context.name().to_owned(), status }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: created here; queue pairs that report to it hold it and are gone.
        unsafe { (self.context.library.ibv_destroy_cq)(self.raw.as_ptr()) };
    }
}
