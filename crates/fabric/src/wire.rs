//! Connections between ranks before and beside the data: a versioned preamble, a mutual proof of the key, then
//! length-prefixed frames. Used by the rendezvous, the control connections and to open TCP data links.
//!
//! The preamble never changes shape between versions, so that two releases can tell each other apart:
//! `b"HALO"`, protocol version (u32), purpose (u32), sender's rank (u32), 32 bytes of nonce; little-endian.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::FabricError;
use crate::interrupt::Interrupt;
use crate::key::{Key, PROOF_BYTES, Role, nonce};

/// The version of everything ranks say to each other. It grows when any of it changes.
pub const PROTOCOL_VERSION: u32 = 9;
const MAGIC: [u8; 4] = *b"HALO";
/// Bytes of a [`Preamble`].
pub const PREAMBLE_BYTES: usize = 16 + PROOF_BYTES;
/// No frame of the handshakes comes near this; a larger length is noise, not a message.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// A client of rank 0's key-value store.
    Store = 1,
    /// The control connection between two ranks.
    Control = 2,
    /// The data of a TCP link.
    Data = 3,
    /// A connection of the net plugin for RCCL and NCCL.
    Plugin = 4,
}

impl Purpose {
    fn from_wire(value: u32) -> Option<Self> {
        [Self::Store, Self::Control, Self::Data, Self::Plugin]
            .into_iter()
            .find(|purpose| *purpose as u32 == value)
    }
}

/// The first bytes of every connection, from both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// The protocol that the sender speaks.
    pub version: u32,
    /// A [`Purpose`], as a number: another release may have others.
    pub purpose: u32,
    /// The sender's rank, where it has one.
    pub rank: u32,
    /// What the other side's proof must cover.
    pub nonce: [u8; PROOF_BYTES],
}

impl Preamble {
    /// As it travels.
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.purpose.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.rank.to_le_bytes());
        bytes[16..].copy_from_slice(&self.nonce);
        bytes
    }

    /// `None` when the bytes are not of this protocol at all.
    pub fn decode(bytes: &[u8; PREAMBLE_BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        (bytes[..4] == MAGIC).then(|| Self {
            version: word(4),
            purpose: word(8),
            rank: word(12),
            nonce: bytes[16..].try_into().expect("the rest is the nonce"),
        })
    }
}

/// A connection whose other end has proved the key.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// Who is at the other end, for messages.
    pub(crate) peer: String,
    /// What ends a wait for the other end.
    pub(crate) interrupt: Interrupt,
}

/// How long nobody asks whether a wait should end, unless a signal comes.
pub(crate) const BETWEEN_QUESTIONS: Duration = Duration::from_millis(100);

/// Who called a listener, and for what.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) rank: usize,
    pub(crate) purpose: Purpose,
}

impl Connection {
    /// Proves the key to a listener and has it prove the key in turn.
    pub(crate) fn call(
        stream: TcpStream,
        peer: String,
        purpose: Purpose,
        rank: usize,
        key: &Key,
        deadline: Instant,
    ) -> Result<Self, FabricError> {
        let mut connection = Self::new(stream, peer)?;
        let ours = nonce()?;
        let preamble =
            Preamble { version: PROTOCOL_VERSION, purpose: purpose as u32, rank: rank as u32, nonce: ours };
        connection.write_all(&preamble.encode(), deadline)?;
        let answer = connection.read_preamble(deadline)?;
        connection.check_version(&answer)?;
        let proof = connection.read_array(deadline)?;
        if !key.verify(Role::Listener, &answer.nonce, &ours, &proof) {
            return Err(FabricError::WrongKey { peer: connection.peer });
        }
        connection.write_all(&key.prove(Role::Caller, &ours, &answer.nonce), deadline)?;
        Ok(connection)
    }

    /// The listener's side of [`Connection::call`].
    pub(crate) fn answer(
        stream: TcpStream,
        rank: usize,
        key: &Key,
        deadline: Instant,
    ) -> Result<Caller, FabricError> {
        let peer = stream.peer_addr().map_or_else(|_| "a caller".to_owned(), |address| address.to_string());
        let mut connection = Self::new(stream, peer)?;
        let call = connection.read_preamble(deadline)?;
        let ours = nonce()?;
        let preamble =
            Preamble { version: PROTOCOL_VERSION, purpose: call.purpose, rank: rank as u32, nonce: ours };
        connection.write_all(&preamble.encode(), deadline)?;
        connection.check_version(&call)?;
        connection.write_all(&key.prove(Role::Listener, &ours, &call.nonce), deadline)?;
        let proof = match connection.read_array(deadline) {
            Ok(proof) => proof,
            // The caller hangs up when our proof is wrong for its key.
            Err(FabricError::Handshake { peer, .. }) => return Err(FabricError::WrongKey { peer }),
            Err(error) => return Err(error),
        };
        if !key.verify(Role::Caller, &call.nonce, &ours, &proof) {
            return Err(FabricError::WrongKey { peer: connection.peer });
        }
        let Some(purpose) = Purpose::from_wire(call.purpose) else {
            return Err(connection.failed(format!("it asks for the unknown purpose {}", call.purpose)));
        };
        Ok(Caller { rank: call.rank as usize, purpose, connection })
    }

    fn new(stream: TcpStream, peer: String) -> Result<Self, FabricError> {
        stream.set_nodelay(true).map_err(|error| FabricError::system("setsockopt(TCP_NODELAY)", error))?;
        Ok(Self { stream, peer, interrupt: Interrupt::default() })
    }

    fn check_version(&self, preamble: &Preamble) -> Result<(), FabricError> {
        if preamble.version == PROTOCOL_VERSION {
            return Ok(());
        }
        Err(FabricError::ProtocolVersion {
            peer: self.peer.clone(),
            theirs: preamble.version,
            ours: PROTOCOL_VERSION,
        })
    }

    fn read_preamble(&mut self, deadline: Instant) -> Result<Preamble, FabricError> {
        let bytes = self.read_array::<PREAMBLE_BYTES>(deadline)?;
        Preamble::decode(&bytes).ok_or_else(|| self.failed("what it says is not the halo protocol"))
    }

    /// Sends one frame.
    pub(crate) fn send<T: Serialize>(&mut self, message: &T, deadline: Instant) -> Result<(), FabricError> {
        let frame = encode_frame(message);
        self.write_all(&frame, deadline)
    }

    /// Receives one frame.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, FabricError> {
        let length = u32::from_le_bytes(self.read_array(deadline)?) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(self.failed(format!("it announces a frame of {length} bytes")));
        }
        let mut body = vec![0; length];
        self.read_exact(&mut body, deadline)?;
        postcard::from_bytes(&body).map_err(|error| self.failed(format!("a frame cannot be read: {error}")))
    }

    fn read_array<const N: usize>(&mut self, deadline: Instant) -> Result<[u8; N], FabricError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes, deadline)?;
        Ok(bytes)
    }

    /// Reads until the buffer is full.
    pub(crate) fn read_exact(&mut self, mut buffer: &mut [u8], deadline: Instant) -> Result<(), FabricError> {
        while !buffer.is_empty() {
            let wait = self.next_wait(deadline)?;
            self.stream.set_read_timeout(Some(wait)).map_err(|e| self.failed(e))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.failed("it closed the connection")),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if would_wait(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), FabricError> {
        while !bytes.is_empty() {
            let wait = self.next_wait(deadline)?;
            self.stream.set_write_timeout(Some(wait)).map_err(|e| self.failed(e))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if would_wait(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn next_wait(&self, deadline: Instant) -> Result<Duration, FabricError> {
        self.interrupt.check()?;
        deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .map(|left| left.min(BETWEEN_QUESTIONS))
            .ok_or_else(|| self.failed("it did not answer before the deadline"))
    }

    fn failed(&self, cause: impl std::fmt::Display) -> FabricError {
        FabricError::Handshake { peer: self.peer.clone(), cause: cause.to_string() }
    }
}

/// A message as it travels: its length, then its body.
pub fn encode_frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = postcard::to_allocvec(message).expect("handshake messages are plain data");
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// Takes one whole frame off the front of `buffer`, if one is there.
///
/// # Errors
/// What stands there is no such frame: in words, for a message.
pub fn take_frame<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, String> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(format!("a frame of {length} bytes is announced"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = postcard::from_bytes(&buffer[4..4 + length]).map_err(|error| error.to_string())?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

/// Whether an I/O error only means "not now".
pub fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Runs one side against raw bytes, so that a test can say what no honest peer would.
    fn answer_to(bytes: &'static [u8]) -> FabricError {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let caller = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let (stream, _) = listener.accept().unwrap();
        let error = Connection::answer(stream, 0, &Key::new("k"), soon()).unwrap_err();
        caller.join().unwrap();
        error
    }

    fn shake(
        caller: &'static str,
        listener_key: &'static str,
    ) -> (Result<(), FabricError>, Result<Caller, FabricError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let call = std::thread::spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            Connection::call(stream, "rank 0".into(), Purpose::Control, 3, &Key::new(caller), soon()).map(
                |mut c| {
                    c.send(&vec![1u8, 2, 3], soon()).unwrap();
                },
            )
        });
        let (stream, _) = listener.accept().unwrap();
        let answer = Connection::answer(stream, 0, &Key::new(listener_key), soon());
        (call.join().unwrap(), answer)
    }

    #[test]
    fn two_sides_with_one_key_meet_and_exchange_frames() {
        let (call, answer) = shake("key", "key");
        call.unwrap();
        let mut caller = answer.unwrap();
        assert_eq!((caller.rank, caller.purpose), (3, Purpose::Control));
        assert_eq!(caller.connection.receive::<Vec<u8>>(soon()).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_wrong_key_is_told_to_both_sides() {
        let (call, answer) = shake("key", "other");
        assert!(matches!(call, Err(FabricError::WrongKey { .. })), "{call:?}");
        assert!(matches!(answer, Err(FabricError::WrongKey { .. })), "{answer:?}");
    }

    #[test]
    fn another_protocol_version_is_named() {
        let preamble = Preamble { version: 77, purpose: 1, rank: 1, nonce: [0; 32] }.encode();
        let error = answer_to(Box::leak(Box::new(preamble)));
        assert!(
            matches!(error, FabricError::ProtocolVersion { theirs: 77, ours: PROTOCOL_VERSION, .. }),
            "{error}"
        );
    }

    #[test]
    fn noise_and_truncation_are_handshake_errors() {
        let noise = answer_to(b"GET / HTTP/1.1\r\nHost: somewhere\r\nAccept: everything\r\n\r\n");
        assert!(noise.to_string().contains("not the halo protocol"), "{noise}");
        let truncated = answer_to(b"HALO\x01\0\0");
        assert!(truncated.to_string().contains("closed"), "{truncated}");
    }

    #[test]
    fn frames_are_taken_whole_or_not_at_all() {
        let frame = encode_frame(&"hello");
        let mut buffer = frame[..3].to_vec();
        assert_eq!(take_frame::<String>(&mut buffer), Ok(None));
        buffer.extend_from_slice(&frame[3..]);
        buffer.push(9);
        assert_eq!(take_frame::<String>(&mut buffer), Ok(Some("hello".to_owned())));
        assert_eq!(buffer, [9]);
        assert!(take_frame::<String>(&mut vec![255; 8]).is_err());
    }
}
