//! One control connection: notices out, notices in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use serde::{Deserialize, Serialize};

use crate::rdma::RailClosed;
use crate::wire::{take_frame, would_wait};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Notice {
    Heartbeat,
    Goodbye,
    Stop {
        reason: String,
    },
    /// It has waited long, in this; or it goes on.
    Waits {
        within: Option<String>,
    },
    RailClosed(RailClosed),
    /// It sleeps, and asks to be rung.
    Sleeps,
    /// It has written something to a rank that slept.
    Rings,
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// The peer's process ended.
    Peer(String),
    /// Its network did: the peer may be heard over another.
    Network(String),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    pub(super) ended: bool,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new(), output: Vec::new(), ended: false })
    }

    /// Has a frame sent.
    pub(super) fn say(&mut self, frame: &[u8]) {
        if !self.ended {
            self.output.extend_from_slice(frame);
        }
    }

    /// Whether all that was to be said has left.
    pub(super) fn is_idle(&self) -> bool {
        self.output.is_empty()
    }

    pub(super) fn flush(&mut self) {
        while !self.ended && !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                // A broken connection shows on the reading side, which knows what to make of it.
                Err(_) => break,
            }
        }
    }

    pub(super) fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Takes in what has arrived; says how the connection ended, if it did.
    pub(super) fn read(&mut self) -> Option<End> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Some(End::Peer(
                        "its process ended (the control connection was closed)".to_owned(),
                    ));
                }
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if would_wait(&error) => return None,
                Err(error) => {
                    let cause = format!("its control connection broke: {error}");
                    let by_peer = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                    return Some(if by_peer { End::Peer(cause) } else { End::Network(cause) });
                }
            }
        }
    }

    pub(super) fn next_notice(&mut self) -> Option<Notice> {
        next_notice(&mut self.input)
    }
}

/// The next thing that a peer says of itself, if it is here whole.
fn next_notice(input: &mut Vec<u8>) -> Option<Notice> {
    // A frame that cannot be read ends the conversation; silence then says the rest.
    take_frame(input).unwrap_or_else(|_| {
        input.clear();
        None
    })
}

/// What a fuzzer tries: how many notices a peer's words are.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn notices(input: &mut Vec<u8>) -> usize {
    std::iter::from_fn(|| next_notice(input)).count()
}
