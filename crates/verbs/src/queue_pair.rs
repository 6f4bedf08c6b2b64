//! Reliable connected queue pairs.

use std::ffi::c_int;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::completion::CompletionQueue;
use crate::device::PortState;
use crate::error::{Error, errno, last_errno};
use crate::gid::Choice;
use crate::memory::ProtectionDomain;
use crate::sys;
use crate::work_request::WorkRequest;

/// 4.096 us x 2^16 = 268 ms until an unanswered packet is sent again. Lost packets are mostly noticed earlier, by the
/// next one that arrives; this is for a peer that is silent.
const ACK_TIMEOUT: u8 = 16;
/// Then six times more before giving up, after 1.9 s: a host that is only busy has answered by then. Seven, the most that
/// fits, never gives up on rdma_rxe.
const RETRIES: u8 = 6;
/// A receiver that is not ready is asked again after 0.64 ms; 0 would mean 655 ms.
const RECEIVER_NOT_READY_TIMER: u8 = 12;
/// For ever, within the other bounds: there is always a receive posted where one is needed.
const RECEIVER_NOT_READY_RETRIES: u8 = 7;

/// Receives that one call posts.
const RECEIVES_AT_ONCE: usize = 16;

/// How much a queue pair holds.
#[derive(Debug, Clone, Copy)]
pub struct QueuePairLimits {
    /// Work requests posted and not completed.
    pub sends: u32,
    /// Receives posted and not completed: one for each of the peer's immediate values.
    pub receives: u32,
    /// Bytes that may travel in a request. E810 has 101.
    pub inline_bytes: u32,
}

/// How a connection treats packets and silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathOptions {
    /// An unanswered packet is sent again after 4.096 us x 2^this; 0 to 31.
    pub ack_timeout: u8,
    /// How often it is sent again before the peer counts as lost; 0 to 7.
    pub retries: u8,
    /// The IP header's traffic class (DSCP and ECN).
    pub traffic_class: u8,
    /// The service level; 0 to 15. RoCE maps it to an Ethernet priority.
    pub service_level: u8,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self { ack_timeout: ACK_TIMEOUT, retries: RETRIES, traffic_class: 0, service_level: 0 }
    }
}

/// Where a queue pair is, as its peer must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePairAddress {
    /// Its number.
    pub number: u32,
    /// The first packet's number.
    pub first_packet: u32,
    /// The GID of its port.
    pub gid: [u8; 16],
    /// Bytes of a packet's payload on its port.
    pub mtu: u32,
}

/// A reliable connection to one peer.
pub struct QueuePair {
    domain: Arc<ProtectionDomain>,
    completions: Arc<CompletionQueue>,
    raw: NonNull<sys::ibv_qp>,
    choice: Choice,
    first_packet: u32,
}

// SAFETY: libibverbs' calls on a queue pair are thread-safe.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair")
            .field("number", &self.address().number)
            .field("port", &self.choice)
            .finish_non_exhaustive()
    }
}

impl QueuePair {
    /// A queue pair on the chosen port, ready to be connected. `first_packet` is any 24-bit number.
    ///
    /// # Errors
    /// The device refuses.
    pub fn new(
        domain: Arc<ProtectionDomain>,
        completions: Arc<CompletionQueue>,
        choice: Choice,
        limits: QueuePairLimits,
        first_packet: u32,
    ) -> Result<Self, Error> {
        let mut attributes = sys::ibv_qp_init_attr {
            send_cq: completions.raw.as_ptr(),
            recv_cq: completions.raw.as_ptr(),
            qp_type: sys::IBV_QPT_RC,
            cap: sys::ibv_qp_cap {
                max_send_wr: limits.sends,
                max_recv_wr: limits.receives.max(1),
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: limits.inline_bytes,
            },
            ..sys::ibv_qp_init_attr::default()
        };
        // SAFETY: a live protection domain and completion queue of one context.
        let raw = unsafe { (domain.context.library.ibv_create_qp)(domain.raw.as_ptr(), &raw mut attributes) };
        let Some(raw) = NonNull::new(raw) else {
            let (device, cause) = (domain.context.name().to_owned(), last_errno());
            return Err(Error::Call { call: format!("ibv_create_qp with {limits:?}"), device, cause });
        };
        let pair = Self { domain, completions, raw, choice, first_packet: first_packet & 0xff_ffff };
        pair.initialise()?;
        Ok(pair)
    }

    /// What the peer must know.
    pub fn address(&self) -> QueuePairAddress {
        QueuePairAddress {
            // SAFETY: a live queue pair.
            number: unsafe { self.raw.as_ref() }.qp_num,
            first_packet: self.first_packet,
            gid: self.choice.gid.bytes,
            mtu: self.choice.port.mtu,
        }
    }

    /// Whether the device says that this pair's port is not up now. A system call, for who asks why something failed.
    pub fn port_is_down(&self) -> bool {
        let port = self.domain.context.port(self.choice.port.number);
        port.is_ok_and(|port| port.state != PortState::Active)
    }

    /// The queue that reports this pair's work.
    pub fn completions(&self) -> &Arc<CompletionQueue> {
        &self.completions
    }

    fn initialise(&self) -> Result<(), Error> {
        let mut attributes = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_INIT,
            pkey_index: 0,
            port_num: self.choice.port.number,
            // What a peer may do to memory is decided where memory is registered.
            qp_access_flags: sys::IBV_ACCESS_REMOTE_WRITE | sys::IBV_ACCESS_REMOTE_READ,
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_STATE | sys::IBV_QP_PKEY_INDEX | sys::IBV_QP_PORT | sys::IBV_QP_ACCESS_FLAGS;
        self.modify("INIT", &mut attributes, mask, || format!("port {}", self.choice.port.number))
    }

    /// Connects to the peer's queue pair and makes this one ready to send.
    ///
    /// # Errors
    /// The device refuses, usually because the peer's address cannot be reached.
    pub fn connect(&self, peer: &QueuePairAddress) -> Result<(), Error> {
        self.connect_with(peer, PathOptions::default())
    }

    /// [`QueuePair::connect`] with other options than the usual ones.
    ///
    /// # Errors
    /// As there, or an option is out of its range.
    pub fn connect_with(&self, peer: &QueuePairAddress, options: PathOptions) -> Result<(), Error> {
        let mtu = peer.mtu.min(self.choice.port.mtu);
        let mut attributes = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_RTR,
            // IBV_MTU_256 is 1, and each next one is twice as large.
            path_mtu: mtu.max(256).ilog2() - 7,
            dest_qp_num: peer.number,
            rq_psn: peer.first_packet,
            max_dest_rd_atomic: 1,
            min_rnr_timer: RECEIVER_NOT_READY_TIMER,
            ah_attr: sys::ibv_ah_attr {
                is_global: 1,
                sl: options.service_level,
                port_num: self.choice.port.number,
                grh: sys::ibv_global_route {
                    dgid: sys::ibv_gid { raw: peer.gid },
                    sgid_index: self.choice.gid.index as u8,
                    hop_limit: 64,
                    traffic_class: options.traffic_class,
                    ..sys::ibv_global_route::default()
                },
                ..sys::ibv_ah_attr::default()
            },
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_STATE
            | sys::IBV_QP_AV
            | sys::IBV_QP_PATH_MTU
            | sys::IBV_QP_DEST_QPN
            | sys::IBV_QP_RQ_PSN
            | sys::IBV_QP_MAX_DEST_RD_ATOMIC
            | sys::IBV_QP_MIN_RNR_TIMER;
        let asked = || {
            format!(
                "peer {}, GID index {}, MTU {mtu}",
                std::net::Ipv6Addr::from(peer.gid),
                self.choice.gid.index
            )
        };
        self.modify("RTR", &mut attributes, mask, asked)?;

        let mut attributes = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_RTS,
            sq_psn: self.first_packet,
            timeout: options.ack_timeout,
            retry_cnt: options.retries,
            rnr_retry: RECEIVER_NOT_READY_RETRIES,
            max_rd_atomic: 1,
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_STATE
            | sys::IBV_QP_SQ_PSN
            | sys::IBV_QP_TIMEOUT
            | sys::IBV_QP_RETRY_CNT
            | sys::IBV_QP_RNR_RETRY
            | sys::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify("RTS", &mut attributes, mask, || format!("{options:?}"))
    }

    fn modify(
        &self,
        state: &'static str,
        attributes: &mut sys::ibv_qp_attr,
        mask: sys::ibv_qp_attr_mask,
        asked: impl Fn() -> String,
    ) -> Result<(), Error> {
        // SAFETY: a live queue pair and attributes for every bit of the mask.
        let status = unsafe {
            (self.domain.context.library.ibv_modify_qp)(self.raw.as_ptr(), attributes, mask as c_int)
        };
        if status == 0 {
            return Ok(());
        }
        Err(Error::Transition {
            device: self.domain.context.name().to_owned(),
            state,
            attributes: asked(),
            cause: errno(status.abs()),
        })
    }

    /// Posts writes, linked, in one call: they reach the peer's memory in this order.
    ///
    /// # Errors
    /// The queue is full, or the device refuses.
    #[inline]
    pub fn post<const N: usize>(&self, requests: &[WorkRequest; N]) -> Result<(), Error> {
        let mut segments = [sys::ibv_sge::default(); N];
        let mut inline = [[0; 8]; N];
        let mut lowered = [sys::ibv_send_wr::default(); N];
        for index in 0..N {
            lowered[index] = requests[index].lower(&mut segments[index], &mut inline[index]);
        }
        for index in 1..N {
            lowered[index - 1].next = &raw mut lowered[index];
        }
        // SAFETY: the context is open, and its table is filled by the provider before it is handed out.
        let post = unsafe { self.domain.context.raw.as_ref() }.ops.post_send;
        let Some(post) = post else { return Err(Error::SymbolMissing { symbol: "post_send" }) };
        let mut refused = std::ptr::null_mut();
        // SAFETY: a live queue pair; the requests, their segments and inline data live until the call returns, and the
        // provider copies what it needs.
        let status = unsafe { post(self.raw.as_ptr(), lowered.as_mut_ptr(), &raw mut refused) };
        self.check("ibv_post_send", status)
    }

    /// Posts `count` receives without memory, each for one of the peer's writes with an immediate value, which completes
    /// with the number `id`.
    ///
    /// # Errors
    /// The queue is full, or the device refuses.
    pub fn post_receives(&self, count: usize, id: u64) -> Result<(), Error> {
        // SAFETY: as in `post`.
        let post = unsafe { self.domain.context.raw.as_ref() }.ops.post_recv;
        let Some(post) = post else { return Err(Error::SymbolMissing { symbol: "post_recv" }) };
        for first in (0..count).step_by(RECEIVES_AT_ONCE) {
            let request = sys::ibv_recv_wr { wr_id: id, ..sys::ibv_recv_wr::default() };
            let mut requests = [request; RECEIVES_AT_ONCE];
            for index in 1..RECEIVES_AT_ONCE.min(count - first) {
                requests[index - 1].next = &raw mut requests[index];
            }
            let mut refused = std::ptr::null_mut();
            // SAFETY: a live queue pair; the requests live until the call returns, and the provider copies what it
            // needs.
            let status = unsafe { post(self.raw.as_ptr(), requests.as_mut_ptr(), &raw mut refused) };
            self.check("ibv_post_recv", status)?;
        }
        Ok(())
    }

    fn check(&self, call: &str, status: c_int) -> Result<(), Error> {
        self.domain.context.check(call, status)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: created here, destroyed once.
        unsafe { (self.domain.context.library.ibv_destroy_qp)(self.raw.as_ptr()) };
    }
}
