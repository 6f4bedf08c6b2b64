//! Over TCP by io_uring: a send and a receive are handed over together, and what became of them is looked for in memory.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::tcp::BUFFERS;
use super::{Outcome, Pair, Partner, moved, only_payloads};
use crate::buffer::Buffer;

/// Requests under way at most: one each way.
const ENTRIES: u32 = 2;
/// Bytes of one request at most; its length has 32 bits.
const MOST: usize = 1 << 30;

const SEND: usize = 0;
const RECEIVE: usize = 1;

/// One end of a connection. It stays with the thread that made it, which the kernel insists on.
pub struct Uring {
    // Before the memory that its requests name, so that it is gone first.
    ring: IoUring,
    stream: TcpStream,
    own: Buffer,
    theirs: [Buffer; BUFFERS],
    turn: usize,
}

impl Uring {
    /// A connection to the other rank, for payloads of at most `most` bytes.
    ///
    /// # Errors
    /// The system refused a socket or a ring.
    pub fn connect(partner: &mut Partner, most: usize) -> Outcome<Self> {
        Self::over(partner.connect_again()?, most)
    }

    pub(super) fn over(stream: TcpStream, most: usize) -> Outcome<Self> {
        // A socket that does not wait would have its requests fail instead of being kept until they can go on.
        stream.set_nodelay(true)?;
        // What has come is told in memory, without an interrupt of this processor, and finished when this thread enters the
        // kernel next: of all ways to wait for a ring the quickest that was found (docs/performance.md).
        let built = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES);
        let ring = built.map_err(|error| format!("io_uring_setup, with flags of Linux 6.1: {error}"))?;
        let theirs = std::array::from_fn(|_| Buffer::new(most));
        Ok(Self { ring, stream, own: Buffer::new(most), theirs, turn: 0 })
    }

    /// Asks for what is left of one way.
    fn ask(&mut self, way: usize, from: usize, to: usize) {
        let to = to.min(from + MOST);
        let (socket, length) = (types::Fd(self.stream.as_raw_fd()), (to - from) as u32);
        // Where less than all has moved, the kernel goes on by itself.
        let entry = if way == SEND {
            let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            opcode::Send::new(socket, self.own[from..to].as_ptr(), length).flags(flags).build()
        } else {
            let payload = self.theirs[self.turn % BUFFERS][from..to].as_mut_ptr();
            opcode::Recv::new(socket, payload, length).flags(libc::MSG_WAITALL).build()
        };
        // SAFETY: the memory is this structure's, and `exchange` neither touches it nor returns before the request has
        // ended; where that cannot be known, it is never given back.
        unsafe { self.ring.submission().push(&entry.user_data(way as u64)) }.expect("room for one each way");
    }

    /// Hands over what was asked for, and has the kernel finish what is ready; otherwise it is left alone.
    fn enter(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let nothing_to_do = queue.is_empty() && !queue.taskrun();
        drop(queue);
        if nothing_to_do {
            return Ok(());
        }
        match self.ring.submit() {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives up the memory that a request may still name.
    fn abandon(&mut self) {
        let [first, second] = &mut self.theirs;
        for buffer in [&mut self.own, first, second] {
            std::mem::forget(std::mem::replace(buffer, Buffer::new(0)));
        }
    }
}

impl Pair for Uring {
    fn exchange(&mut self, bytes: usize, flagged: bool) -> Outcome {
        only_payloads(flagged)?;
        self.turn += 1;
        let (mut done, mut under_way) = ([0; 2], [false; 2]);
        let mut failure: Option<io::Error> = None;
        loop {
            for way in [SEND, RECEIVE] {
                if failure.is_none() && !under_way[way] && done[way] < bytes {
                    self.ask(way, done[way], bytes);
                    under_way[way] = true;
                }
            }
            if under_way == [false; 2] {
                return failure.map_or(Ok(()), |error| Err(error.into()));
            }
            if let Err(error) = self.enter() {
                self.abandon();
                return Err(format!("io_uring_enter: {error}").into());
            }
            for completion in self.ring.completion() {
                let way = completion.user_data() as usize;
                under_way[way] = false;
                let result = completion.result();
                match moved(usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))) {
                    Ok(bytes) => done[way] += bytes,
                    Err(error) => {
                        failure.get_or_insert(error);
                        // The other way ends with it.
                        let _ = self.stream.shutdown(Shutdown::Both);
                    }
                }
            }
        }
    }

    fn inputs(&self, bytes: usize) -> (&[u8], &[u8]) {
        (&self.own[..bytes], &self.theirs[self.turn % BUFFERS][..bytes])
    }
}

/// Whether the same call may succeed next time.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::exchange::{By, trial};

    /// Whether this system has rings at all. Many containers refuse them, which is the answer that is wanted there.
    fn has_rings() -> bool {
        let Some(reason) = By::Uring.refused() else { return true };
        assert!(reason.starts_with("io_uring_setup"), "{reason}");
        eprintln!("nothing is exchanged here: {reason}");
        false
    }

    #[test]
    fn what_is_handed_to_the_ring_arrives_or_the_system_refuses_rings() {
        if has_rings() {
            trial::exchange(Uring::connect, |pair, rank| trial::write(&mut pair.own, rank));
        }
    }

    #[test]
    fn a_rank_that_goes_away_ends_both_requests_or_the_system_refuses_rings() {
        if !has_rings() {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut other = listener.accept().unwrap().0;
        let mut pair = Uring::over(stream, 64 << 20).unwrap();
        // More than sockets take in by themselves: the send is still under way when the end of the connection comes.
        other.write_all(&[1; 100]).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        let error = pair.exchange(64 << 20, false).unwrap_err();
        assert!(error.downcast_ref::<io::Error>().is_some(), "{error}");
    }
}
