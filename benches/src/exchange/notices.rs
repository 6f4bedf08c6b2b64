//! What the kernel says in a socket's error queue about sends whose payload it did not copy.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::from_ref;

use libc::{c_int, socklen_t};

// Of the kernel's `socket.h` and `errqueue.h`; libc has none of them.
const SO_ZEROCOPY: c_int = 60;
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Sends whose memory may be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    /// The first of them: the kernel counts a socket's sends from 0.
    pub first: u32,
    /// How many.
    pub sends: u32,
    /// Whether the kernel copied them after all.
    pub copied: bool,
}

/// Lets `MSG_ZEROCOPY` mean something on this socket.
pub(super) fn enable(socket: impl AsFd) -> io::Result<()> {
    let one: c_int = 1;
    let (value, length) = (from_ref(&one).cast(), size_of_val(&one) as socklen_t);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is an int that outlives the call, and `length` is its size.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, SO_ZEROCOPY, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next notice, if there is one; this queue is never waited for.
pub(super) fn next(socket: impl AsFd) -> io::Result<Option<Notice>> {
    // Words, because control messages are aligned to them; a notice with its address needs 48 bytes.
    let mut control = [0_u64; 16];
    // SAFETY: every field is a number or a pointer that may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `message` names `control` with its size, and no other memory.
    let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel has filled in `message`, and `control` is still there.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: a header of `message`, or null at its end.
    while let Some(found) = unsafe { header.as_ref() } {
        if let (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) =
            (found.cmsg_level, found.cmsg_type)
        {
            // SAFETY: behind a header of this type the kernel writes such a structure, aligned or not.
            let error = unsafe { libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned() };
            return if error.ee_origin == SO_EE_ORIGIN_ZEROCOPY && error.ee_errno == 0 {
                let (first, last) = (error.ee_info, error.ee_data);
                let sends = last.wrapping_sub(first).wrapping_add(1);
                let copied = error.ee_code == SO_EE_CODE_ZEROCOPY_COPIED;
                Ok(Some(Notice { first, sends, copied }))
            } else {
                Err(io::Error::from_raw_os_error(error.ee_errno as i32))
            };
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(None)
}
