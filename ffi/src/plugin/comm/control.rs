//! The control socket of a connection that stands: where the end of a peer shows.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::plugin::connection::stream::{Open, Stream, ending};

/// Looks at the clock are spared: only every so many calls there is one.
const CALLS_BETWEEN_LOOKS: u32 = 64;
/// How often the socket is looked at while a connection waits for something.
const BETWEEN_READS: Duration = Duration::from_millis(5);
/// How long data that was sent before the end may still be on its way.
const GRACE: Duration = Duration::from_secs(1);

/// How a peer ended.
#[derive(Debug, Clone)]
struct Ended {
    cause: String,
    /// It closed the connection itself, so what it sent before is still to come.
    orderly: bool,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) stream: Stream,
    calls: u32,
    read: Instant,
    ended: Option<Ended>,
}

impl Control {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, calls: 0, read: Instant::now(), ended: None }
    }

    /// Reads and flushes the socket now and then; true when it was.
    pub(crate) fn now_and_then(&mut self) -> bool {
        self.calls += 1;
        if self.calls < CALLS_BETWEEN_LOOKS {
            return false;
        }
        self.calls = 0;
        let due = self.read.elapsed() >= BETWEEN_READS;
        if due {
            self.exchange();
        }
        due
    }

    /// Reads and flushes the socket. Its end is noted, not returned: data may still be here.
    pub(crate) fn exchange(&mut self) {
        self.read = Instant::now();
        if self.ended.is_some() {
            return;
        }
        match self.stream.flush().and_then(|()| self.stream.fill()) {
            Ok(Open::Yes) => {}
            Ok(Open::Ended) => self.end("it closed the connection".to_owned(), true),
            Err(error) => self.fail(&error),
        }
    }

    /// Sends what waits, at once.
    pub(crate) fn flush(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // The kernel tells an error once: whoever writes again hears only of a broken pipe.
        if let Err(error) = self.stream.flush() {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let orderly = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        self.end(ending(error), orderly);
    }

    fn end(&mut self, cause: String, orderly: bool) {
        self.ended = Some(Ended { cause, orderly, since: Instant::now() });
    }

    /// Why the peer counts as lost, if nothing can come from it any more.
    pub(crate) fn lost(&self) -> Option<&str> {
        let ended = self.ended.as_ref()?;
        (!ended.orderly || ended.since.elapsed() > GRACE).then_some(ended.cause.as_str())
    }

    /// How the connection ended, if it did, whether or not something may still come.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_ref().map(|ended| ended.cause.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, poll};
    use socket2::SockRef;

    use super::*;

    #[test]
    fn what_is_told_is_the_first_error_whichever_call_meets_it() {
        for meet in [Control::flush, Control::exchange] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (ours, _) = listener.accept().unwrap();
            let watched = ours.try_clone().unwrap();
            let mut control = Control::new(Stream::accepted(ours).unwrap());
            SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
            drop(theirs);
            // Until the reset is here.
            poll(&mut [PollFd::new(&watched, PollFlags::empty())], None).unwrap();
            control.stream.output.push(1);
            meet(&mut control);
            let cause = control.ended().unwrap();
            assert!(cause.starts_with("its process has ended (Connection reset"), "{cause}");
        }
    }
}
