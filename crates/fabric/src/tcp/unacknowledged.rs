//! What the kernel still holds of what a socket was given.

use std::io;
use std::net::TcpStream;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` of `linux/sockios.h`, which is `TIOCOUTQ`: bytes that the other end has not acknowledged (tcp(7)).
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes that the other end's kernel has not acknowledged: they are gone if this end closes and the other one then writes.
pub(super) fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    // SAFETY: for a socket of TCP, SIOCOUTQ writes one int and does nothing else.
    let bytes = unsafe { ioctl(stream, Getter::<SIOCOUTQ, libc::c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_the_other_end_has_no_room_for_is_counted_until_it_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // Until neither kernel has room.
        while let Ok(count) = here.write(&vec![0; 1 << 16]) {
            sent += count;
        }
        assert!((1..=sent).contains(&unacknowledged(&here).unwrap()));
        there.read_exact(&mut vec![0; sent]).unwrap();
        while unacknowledged(&here).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
