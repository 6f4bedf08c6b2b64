//! The control socket of a connection that stands: where the end of a peer shows.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::plugin::connection::hello::Parting;
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
    /// Whether a side that gives up says why: where nothing else is said on the socket.
    says_why: bool,
}

impl Control {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, calls: 0, read: Instant::now(), ended: None, says_why: false }
    }

    /// On which both sides say nothing but why they give up.
    pub(crate) fn silent(self) -> Self {
        Self { says_why: true, ..self }
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
            Ok(Open::Ended) => {
                let cause = self.last_words();
                self.end(cause, true);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Gives the connection up with a word to the peer, to whom all may look well.
    pub(crate) fn give_up(&mut self, cause: &str) {
        if std::mem::take(&mut self.says_why) && self.ended.is_none() {
            self.stream.put_frame(&Parting { cause: cause.to_owned() });
            self.stream.close();
        }
    }

    /// How a peer has ended that closed the connection itself.
    fn last_words(&mut self) -> String {
        let parting = if self.says_why { self.stream.take_frame::<Parting>() } else { Ok(None) };
        match parting {
            Ok(Some(Parting { cause })) => format!("it gave the connection up: {cause}"),
            _ => "it closed the connection".to_owned(),
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

    fn pair() -> [Control; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        [there, listener.accept().unwrap().0].map(|socket| Control::new(Stream::accepted(socket).unwrap()))
    }

    /// How the other side has ended, once that shows.
    fn heard(control: &mut Control) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        while control.ended().is_none() && Instant::now() < deadline {
            control.exchange();
        }
        control.ended().unwrap_or("nothing").to_owned()
    }

    #[test]
    fn a_side_that_gives_up_says_why_and_one_that_closes_does_not() {
        let [here, there] = pair();
        let (mut here, mut there) = (here.silent(), there.silent());
        here.give_up("rxe1:1 is DOWN");
        here.give_up("it is said once");
        assert_eq!(heard(&mut there), "it gave the connection up: rxe1:1 is DOWN");
        let [here, there] = pair();
        drop(here);
        assert_eq!(heard(&mut there.silent()), "it closed the connection");
    }

    #[test]
    fn what_else_stands_on_the_socket_is_nobodys_last_word() {
        let [mut here, mut there] = pair();
        here.stream.output.extend_from_slice(&[3; 64]);
        here.stream.close();
        assert_eq!(heard(&mut there), "it closed the connection");
        assert_eq!(there.stream.take::<64>(), Some([3; 64]));
        let [mut here, there] = pair();
        here.stream.output.extend_from_slice(&[255; 64]);
        here.stream.close();
        assert_eq!(heard(&mut there.silent()), "it closed the connection");
    }
}
