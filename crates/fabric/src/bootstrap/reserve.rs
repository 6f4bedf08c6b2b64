//! A free port that stays free until somebody listens there.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use socket2::SockRef;

/// A port of `host` for a listener that has yet to be started, maybe by another process.
///
/// A port that was only asked for and let go may be given to any connection in between, which then lies in the
/// listener's way. This one has a connection behind it that ended on this side. For the minute in which TCP remembers
/// that (TIME_WAIT), the system gives the port to nobody who does not name it, and whoever names it and sets
/// `SO_REUSEADDR`, as servers do, may listen there.
///
/// # Errors
/// `host` is not an address of this machine, or it has no port left.
pub fn reserve_port(host: IpAddr) -> io::Result<SocketAddr> {
    reserve(&TcpListener::bind((host, 0))?)
}

/// Shuts sockets down rather than to close them: a process that another thread is just starting holds a copy of every
/// socket until it runs its own program, and for as long a closed one would go on to listen.
fn reserve(listener: &TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let caller = TcpStream::connect(address)?;
    let (called, _) = listener.accept()?;
    // Who ends first is who remembers.
    called.shutdown(Shutdown::Both)?;
    caller.shutdown(Shutdown::Both)?;
    SockRef::from(listener).shutdown(Shutdown::Both)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_listened_at() {
        // Of 28,232 ports (Linux's own range), 600 picked by chance are all different once in 600 tries.
        let ports: Vec<_> = (0..600).map(|_| reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        for address in ports {
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn a_port_can_be_listened_at_while_a_process_that_is_being_started_holds_the_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let held = listener.try_clone().unwrap();
        let address = reserve(&listener).unwrap();
        drop(listener);
        TcpListener::bind(address).unwrap();
        drop(held);
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let error = reserve_port(Ipv4Addr::new(192, 0, 2, 1).into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
