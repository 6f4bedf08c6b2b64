//! By which calls two ranks exchange over TCP.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use clap::ValueEnum;

use super::{Exchange, Outcome, Pair, Uring, Zerocopy};
use crate::peers::Peer;

/// By which calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Calls that do not wait, again and again.
    Plain,
    /// The same with `MSG_ZEROCOPY`.
    Zerocopy,
    /// io_uring.
    Uring,
}

impl By {
    /// As whom an exchange is measured; what plain calls only can do is nobody's otherwise.
    pub fn peer(self, exchange: Exchange) -> Option<Peer> {
        match (self, exchange) {
            (Self::Plain, _) => Some(exchange.peer()),
            (Self::Zerocopy, Exchange::Exchange) => Some(Peer::ExchangeZerocopy),
            (Self::Uring, Exchange::Exchange) => Some(Peer::ExchangeUring),
            _ => None,
        }
    }

    /// As the program that exchanges is told.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }

    /// What this system says to such calls, if it refuses them. Containers often do.
    pub fn refused(self) -> Option<String> {
        let tried = match self {
            Self::Plain => Ok(()),
            Self::Zerocopy => one_byte(|stream| Zerocopy::over(stream, 1)),
            Self::Uring => one_byte(|stream| Uring::over(stream, 1)),
        };
        tried.err().map(|error| error.to_string())
    }
}

/// Exchanges one byte with nobody.
fn one_byte<P: Pair>(over: impl FnOnce(TcpStream) -> Outcome<P>) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let mut other = listener.accept()?.0;
    other.write_all(&[1])?;
    over(stream)?.exchange(1, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Place;
    use crate::results::{Absent, Quantile, Results};
    use crate::{rounds, table};

    /// Has the kernel refuse io_uring to this thread, as containers do.
    fn refuse_uring() {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
        let mut steps = [
            step(LOAD, 0, 0), // the call's number comes first
            step(EQUALS, libc::SYS_io_uring_setup as u32, 1),
            step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
            step(RETURN, libc::SECCOMP_RET_ALLOW, 0),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        rustix::thread::set_no_new_privs(true).unwrap();
        // SAFETY: `program` and the steps it names outlive the call, which copies them.
        let result =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn where_io_uring_is_refused_the_rest_goes_on_and_the_table_says_so() {
        let refused = || {
            refuse_uring();
            let reason = By::Uring.refused().expect("the filter refuses it");
            assert!(reason.contains("io_uring_setup") && reason.contains("not permitted"), "{reason}");
            assert_eq!(By::Plain.refused(), None);
            let others = |peer: &Peer| !matches!(peer, Peer::Exchange | Peer::ExchangeUring);
            let without: Vec<Peer> = Peer::value_variants().iter().copied().filter(others).collect();
            let mut results = Results::default();
            // No round, because a test has no programs beside it.
            rounds::run(Place::Tcp, 0, &[8], &without, &mut results, |_, _| ()).unwrap();
            let absent = Absent { place: Place::Tcp, peer: Peer::ExchangeUring, reason: reason.clone() };
            assert_eq!(results.absent, [absent]);
            let table = table::other_calls(&results, Place::Tcp, Quantile::P50).unwrap();
            assert!(table.contains(&format!("both write, io_uring: not measured: {reason}")), "{table}");
        };
        // The filter goes with its thread.
        std::thread::spawn(refused).join().unwrap();
    }

    #[test]
    fn a_peer_and_its_calls_find_each_other() {
        for by in By::value_variants() {
            let peer = by.peer(Exchange::Exchange).unwrap();
            assert_eq!(peer.other_calls(), (*by != By::Plain).then_some(*by));
            let sum = by.peer(Exchange::ExchangeSum);
            assert_eq!(sum, (*by == By::Plain).then_some(Peer::ExchangeSum));
        }
    }
}
