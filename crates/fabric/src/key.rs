//! The shared key and the proof that a peer has it.
//!
//! Both sides send a random nonce; each answers with an HMAC-SHA-256 over its role and both nonces. A stranger
//! learns nothing but two random numbers, and a recorded proof is worthless for the next connection. What follows
//! on the connection is not encrypted: the key keeps strangers out, it does not hide data from the wire.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::FabricError;

/// Bytes of a nonce and of a proof.
pub const PROOF_BYTES: usize = 32;

/// The secret that all ranks of a communicator share. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key from any text or bytes.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(secret.into())
    }

    /// 256 random bits as 64 hexadecimal digits.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, FabricError> {
        Ok(Self(hexadecimal(&nonce()?).into_bytes()))
    }

    /// The key in `HALO_KEY`, else in the file named by `HALO_KEY_FILE`, else none.
    ///
    /// # Errors
    /// A key file that cannot be read or is empty.
    pub fn from_env() -> Result<Option<Self>, FabricError> {
        if let Some(secret) = halo_env::HALO_KEY.get() {
            return Ok(Some(Self::new(secret)));
        }
        let Some(path) = halo_env::HALO_KEY_FILE.get() else { return Ok(None) };
        let refuse = |cause: String| FabricError::KeyFile { path: path.clone(), cause };
        let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
        match text.trim() {
            "" => Err(refuse("it is empty".to_owned())),
            secret => Ok(Some(Self::new(secret))),
        }
    }

    /// The secret itself, to hand to a child process or a store.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    fn mac(&self, role: Role, ours: &[u8; PROOF_BYTES], theirs: &[u8; PROOF_BYTES]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(match role {
            Role::Caller => b"halo caller",
            Role::Listener => b"halo listener",
        });
        mac.update(ours);
        mac.update(theirs);
        mac
    }

    /// The proof that the side in `role`, which sent `own` and received `other`, has this key.
    pub fn prove(&self, role: Role, own: &[u8; PROOF_BYTES], other: &[u8; PROOF_BYTES]) -> [u8; PROOF_BYTES] {
        self.mac(role, own, other).finalize().into_bytes().into()
    }

    /// Whether `proof` was made with this key by the side in `role`; compared in constant time.
    pub fn verify(
        &self,
        role: Role,
        own: &[u8; PROOF_BYTES],
        other: &[u8; PROOF_BYTES],
        proof: &[u8; PROOF_BYTES],
    ) -> bool {
        self.mac(role, own, other).verify_slice(proof).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Which side of a connection a proof speaks for; without it a proof could be sent back to its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It opened the connection.
    Caller,
    /// It accepted the connection.
    Listener,
}

/// 32 random bytes.
///
/// # Errors
/// The system has no randomness to give.
pub fn nonce() -> Result<[u8; PROOF_BYTES], FabricError> {
    let mut bytes = [0; PROOF_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| FabricError::system("getrandom", error))?;
    Ok(bytes)
}

/// Two digits per byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_key_role_and_nonces_alone() {
        let (key, other) = (Key::new("secret"), Key::new("Secret"));
        let (a, b) = (nonce().unwrap(), nonce().unwrap());
        let proof = key.prove(Role::Caller, &a, &b);
        assert!(key.verify(Role::Caller, &a, &b, &proof));
        assert!(!other.verify(Role::Caller, &a, &b, &proof));
        assert!(!key.verify(Role::Listener, &a, &b, &proof), "a proof sent back to its maker");
        assert!(!key.verify(Role::Caller, &b, &a, &proof));
        assert!(!key.verify(Role::Caller, &a, &nonce().unwrap(), &proof), "a replay");
    }

    #[test]
    fn generated_keys_differ_and_are_not_shown() {
        let key = Key::generate().unwrap();
        assert_ne!(key, Key::generate().unwrap());
        assert_eq!(key.expose().len(), 64);
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
