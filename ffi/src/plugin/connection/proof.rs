//! The preamble and the mutual proof of the key, as a state machine over bytes: no socket, no clock.

use halo_fabric::{Key, PREAMBLE_BYTES, PROOF_BYTES, Preamble, Purpose, Role, nonce};

use crate::plugin::error::PluginError;
use crate::plugin::protocol::PROTOCOL_VERSION;

/// Why a peer was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It speaks another version.
    Version(u32),
    WrongKey,
    /// It speaks something else.
    Noise(&'static str),
}

impl Refusal {
    pub(crate) fn into_error(self, peer: String, device: String) -> PluginError {
        match self {
            Self::Version(theirs) => PluginError::Version { peer, theirs, ours: PROTOCOL_VERSION },
            Self::WrongKey => PluginError::WrongKey { peer },
            Self::Noise(cause) => PluginError::Protocol { peer, device, cause: cause.to_owned() },
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Waits for the other side's preamble.
    Preamble,
    /// Waits for its proof over both nonces.
    Proof {
        theirs: [u8; PROOF_BYTES],
    },
    Done,
}

/// One side of the mutual proof.
#[derive(Debug)]
pub(crate) struct Proof {
    role: Role,
    key: Key,
    ours: [u8; PROOF_BYTES],
    stage: Stage,
}

impl Proof {
    /// The side that connects; its preamble is put into `output`.
    pub(crate) fn caller(key: Key, output: &mut Vec<u8>) -> Result<Self, PluginError> {
        let proof = Self::new(Role::Caller, key)?;
        proof.put_preamble(output);
        Ok(proof)
    }

    /// The side that accepts; it says nothing to who says nothing.
    pub(crate) fn listener(key: Key) -> Result<Self, PluginError> {
        Self::new(Role::Listener, key)
    }

    fn new(role: Role, key: Key) -> Result<Self, PluginError> {
        let ours = nonce().map_err(|error| PluginError::system("getrandom", error))?;
        Ok(Self { role, key, ours, stage: Stage::Preamble })
    }

    fn put_preamble(&self, output: &mut Vec<u8>) {
        let purpose = Purpose::Plugin as u32;
        let preamble = Preamble { version: PROTOCOL_VERSION, purpose, rank: 0, nonce: self.ours };
        output.extend_from_slice(&preamble.encode());
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Goes as far as the bytes in `input` allow; true when the other side has proved the key.
    pub(crate) fn advance(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Result<bool, Refusal> {
        if let Stage::Preamble = self.stage {
            let Some(bytes) = take::<PREAMBLE_BYTES>(input)? else { return Ok(false) };
            let preamble =
                Preamble::decode(&bytes).ok_or(Refusal::Noise("what it says is not halo's protocol"))?;
            let theirs = preamble.nonce;
            if self.role == Role::Listener {
                self.put_preamble(output);
            }
            if preamble.version != PROTOCOL_VERSION {
                return Err(Refusal::Version(preamble.version));
            }
            if preamble.purpose != Purpose::Plugin as u32 {
                return Err(Refusal::Noise("it is a rank of halo, but not its plugin"));
            }
            if self.role == Role::Listener {
                output.extend_from_slice(&self.key.prove(Role::Listener, &self.ours, &theirs));
            }
            self.stage = Stage::Proof { theirs };
        }
        if let Stage::Proof { theirs } = self.stage {
            let Some(proof) = take::<PROOF_BYTES>(input)? else { return Ok(false) };
            let other = if self.role == Role::Caller { Role::Listener } else { Role::Caller };
            if !self.key.verify(other, &theirs, &self.ours, &proof) {
                return Err(Refusal::WrongKey);
            }
            if self.role == Role::Caller {
                output.extend_from_slice(&self.key.prove(Role::Caller, &self.ours, &theirs));
            }
            self.stage = Stage::Done;
        }
        Ok(true)
    }
}

/// The first `N` bytes, if they are here. Noise shows in the first four already.
fn take<const N: usize>(input: &mut Vec<u8>) -> Result<Option<[u8; N]>, Refusal> {
    if N == PREAMBLE_BYTES && !b"HALO".starts_with(&input[..input.len().min(4)]) {
        return Err(Refusal::Noise("what it says is not halo's protocol"));
    }
    let Some(taken) = input.first_chunk::<N>().copied() else { return Ok(None) };
    input.drain(..N);
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Both sides, with the bytes between them handed over in pieces.
    fn meet(
        caller_key: &str,
        listener_key: &str,
        piece: usize,
    ) -> (Result<bool, Refusal>, Result<bool, Refusal>) {
        let (mut to_listener, mut to_caller) = (Vec::new(), Vec::new());
        let mut caller = Proof::caller(Key::new(caller_key), &mut to_listener).unwrap();
        let mut listener = Proof::listener(Key::new(listener_key)).unwrap();
        let (mut at_listener, mut at_caller) = (Vec::new(), Vec::new());
        let (mut called, mut answered) = (Ok(false), Ok(false));
        for _ in 0..400 {
            at_listener.extend(to_listener.drain(..piece.min(to_listener.len())));
            at_caller.extend(to_caller.drain(..piece.min(to_caller.len())));
            if answered == Ok(false) {
                answered = listener.advance(&mut at_listener, &mut to_caller);
            }
            if called == Ok(false) {
                called = caller.advance(&mut at_caller, &mut to_listener);
            }
        }
        (called, answered)
    }

    #[test]
    fn two_sides_with_one_key_meet_however_the_bytes_arrive() {
        for piece in [1, 5, 47, 48, 49, 1000] {
            assert_eq!(meet("key", "key", piece), (Ok(true), Ok(true)), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_caller_with_another_key_is_told_and_proves_nothing() {
        assert_eq!(meet("key", "other", 1000), (Err(Refusal::WrongKey), Ok(false)));
    }

    #[test]
    fn another_version_is_named_to_both() {
        let preamble =
            Preamble { version: 9, purpose: Purpose::Plugin as u32, rank: 0, nonce: [0; PROOF_BYTES] };
        let mut output = Vec::new();
        let mut listener = Proof::listener(Key::new("key")).unwrap();
        assert_eq!(listener.advance(&mut preamble.encode().to_vec(), &mut output), Err(Refusal::Version(9)));
        assert_eq!(output.len(), PREAMBLE_BYTES, "the caller learns which version this side speaks");
    }

    #[test]
    fn noise_shows_at_its_first_byte() {
        let mut listener = Proof::listener(Key::new("key")).unwrap();
        assert!(matches!(listener.advance(&mut b"G".to_vec(), &mut Vec::new()), Err(Refusal::Noise(_))));
    }

    proptest! {
        #[test]
        fn nobody_gets_in_by_chance(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), honest in any::<bool>()) {
            if honest && bytes.len() > 12 {
                bytes[..8].copy_from_slice(b"HALO\x01\0\0\0");
                bytes[8..12].copy_from_slice(&(Purpose::Plugin as u32).to_le_bytes());
            }
            let mut listener = Proof::listener(Key::new("key")).unwrap();
            prop_assert_ne!(listener.advance(&mut bytes, &mut Vec::new()), Ok(true));
        }
    }
}
