//! Whether a path carries the segments that TCP will fill.
//!
//! Both ends of a connection agree on a segment size by the MTU of their own interfaces. A switch, a bridge or a VPN between
//! them that takes less drops what is larger without a word: the handshakes pass, and the first large message hangs. So
//! both ends send one full segment before anybody relies on it.

use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::error::FabricError;
use crate::mesh::LinkInfo;
use crate::wire::Connection;

/// How long a segment may take: lost by accident, TCP sends it again after 0.2, 0.6, 1.4 and 3 seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less says nothing about the path: an accident may take as long.
const SURE: Duration = Duration::from_millis(1500);

/// Sends one full segment over `data` each way, and says how many bytes the own one had. What else there is to say goes by
/// `control`, in small segments: behind a lost one nothing arrives.
pub(super) fn exchange(
    data: &mut Connection,
    control: &mut Connection,
    info: &LinkInfo,
    deadline: Instant,
) -> Result<u16, FabricError> {
    let size = SockRef::from(&data.stream).tcp_mss();
    let size = size.map_err(|error| FabricError::system("getsockopt(TCP_MAXSEG)", error))?;
    // As TCP announces it (RFC 9293, 3.7.1).
    let size = u16::try_from(size).unwrap_or(u16::MAX);
    control.send(&size, deadline)?;
    let theirs: u16 = control.receive(deadline)?;

    // Half of what is left, so that there is time to tell the peer.
    let start = Instant::now();
    let patience = PATIENCE.min(deadline.saturating_duration_since(start) / 2);
    data.write_all(&vec![0; usize::from(size)], start + patience)?;
    let taken = data.read_exact(&mut vec![0; usize::from(theirs)], start + patience);
    if let Err(error) = &taken
        && start.elapsed() < patience
    {
        return Err(error.clone());
    }
    control.send(&taken.is_ok(), deadline)?;
    let ours_arrived: bool = control.receive(deadline)?;

    let lost = |bytes, direction| FabricError::SegmentsLost {
        bytes,
        direction,
        peer: info.peer,
        host: info.host.clone(),
    };
    match (taken, ours_arrived) {
        (Ok(()), true) => Ok(size),
        (Err(error), _) if patience < SURE => Err(error),
        (Err(_), _) => Err(lost(theirs, "from")),
        (Ok(()), false) => Err(lost(size, "to")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::interrupt::Interrupt;
    use crate::link::Transport;

    fn pair() -> (Connection, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = |stream| {
            let (peer, interrupt) = ("the other".to_owned(), Interrupt::default());
            Connection { stream, peer, interrupt }
        };
        (connection(caller), connection(listener.accept().unwrap().0))
    }

    fn info(peer: usize) -> LinkInfo {
        let (host, reason) = ("there".to_owned(), String::new());
        LinkInfo { peer, host, transport: Transport::Tcp, reason }
    }

    #[test]
    fn a_path_that_carries_full_segments_is_silent_afterwards() {
        let ((mut data, mut their_data), (mut control, mut their_control)) = (pair(), pair());
        let deadline = Instant::now() + Duration::from_secs(60);
        let (ours, theirs) = std::thread::scope(|scope| {
            let other =
                scope.spawn(|| exchange(&mut their_data, &mut their_control, &info(0), deadline).unwrap());
            (exchange(&mut data, &mut control, &info(1), deadline).unwrap(), other.join().unwrap())
        });
        assert!(ours > 500 && theirs > 500, "{ours} and {theirs} bytes");
        // Nothing of it is left for whoever reads next.
        drop(their_data);
        assert_eq!(data.stream.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_segment_that_does_not_come_is_an_error_on_both_ends() {
        let ((mut data, their_data), (mut control, mut their_control)) = (pair(), pair());
        let deadline = Instant::now() + 2 * SURE + Duration::from_millis(200);
        let error = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A peer whose full segment is lost on the way: it says its size, and nothing more comes.
                let _: u16 = their_control.receive(deadline).unwrap();
                their_control.send(&8948_u16, deadline).unwrap();
                their_control.send(&true, deadline).unwrap();
                assert!(!their_control.receive::<bool>(deadline).unwrap(), "it is told");
                drop(their_data);
            });
            exchange(&mut data, &mut control, &info(1), deadline).unwrap_err()
        });
        assert!(
            matches!(error, FabricError::SegmentsLost { bytes: 8948, direction: "from", peer: 1, .. }),
            "{error}"
        );
    }
}
