//! The 128 bytes by which a peer finds a listener. The core carries them from the listening rank to the calling one.
//!
//! They hold a secret that is made anew for every listener: whoever has not been given the handle by the core cannot
//! connect. With `HALO_KEY` set, that key is part of the proof as well. The last eight bytes are the caller's own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bytemuck::{Pod, Zeroable};
use halo_fabric::{Key, PROOF_BYTES};

use super::abi::HANDLE_BYTES;
use super::error::PluginError;
use super::protocol::PROTOCOL_VERSION;

const MAGIC: [u8; 8] = *b"HALONET\n";
const HOST_BYTES: usize = 32;

/// A handle, as it travels.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Wire {
    magic: [u8; 8],
    version: u32,
    /// Of the address, which is IPv4-mapped where it is none.
    scope: u32,
    address: [u8; 16],
    secret: [u8; PROOF_BYTES],
    host: [u8; HOST_BYTES],
    port: u16,
    reserved: [u8; 14],
    /// Over everything before it, so that a handle from elsewhere is told from a good one.
    sum: u64,
    /// The caller's number for the attempt; 0 from the listener.
    attempt: u64,
}

const _: () = assert!(size_of::<Wire>() == HANDLE_BYTES);

/// Where a listener is and what it takes to connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) address: SocketAddr,
    pub(crate) secret: [u8; PROOF_BYTES],
    /// The listener's host, for messages.
    pub(crate) host: String,
}

impl Handle {
    /// As the core carries it.
    pub(crate) fn encode(&self) -> [u8; HANDLE_BYTES] {
        let address = match self.address.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut host = [0; HOST_BYTES];
        let name = &self.host.as_bytes()[..self.host.len().min(HOST_BYTES)];
        host[..name.len()].copy_from_slice(name);
        let mut wire = Wire {
            magic: MAGIC,
            version: PROTOCOL_VERSION,
            scope: if let SocketAddr::V6(address) = self.address { address.scope_id() } else { 0 },
            address: address.octets(),
            secret: self.secret,
            host,
            port: self.address.port(),
            ..Wire::zeroed()
        };
        wire.sum = sum(&wire);
        bytemuck::cast(wire)
    }

    /// A handle that came from a peer.
    pub(crate) fn decode(bytes: &[u8; HANDLE_BYTES]) -> Result<Self, PluginError> {
        let refuse = |cause: String| PluginError::Handle { cause };
        let wire: Wire = bytemuck::pod_read_unaligned(bytes);
        if wire.magic != MAGIC {
            return Err(refuse("another network's plugin has made it".to_owned()));
        }
        if wire.version != PROTOCOL_VERSION {
            let (theirs, ours) = (wire.version, PROTOCOL_VERSION);
            let peer = name(&wire.host);
            return Err(PluginError::Version { peer, theirs, ours });
        }
        if wire.sum != sum(&wire) || wire.port == 0 {
            return Err(refuse("it was damaged on its way".to_owned()));
        }
        let address = Ipv6Addr::from(wire.address);
        let address = match address.to_ipv4_mapped() {
            Some(address) => SocketAddr::from((address, wire.port)),
            // The scope is the listener's number of its interface; here only the caller's own would mean anything.
            None => SocketAddrV6::new(address, wire.port, 0, wire.scope).into(),
        };
        Ok(Self { address, secret: wire.secret, host: name(&wire.host) })
    }

    /// What both sides of the connection must prove to have.
    pub(crate) fn key(&self, shared: Option<&Key>) -> Key {
        connection_key(&self.secret, shared)
    }
}

/// The listener's secret, and the shared key behind it where there is one.
pub(crate) fn connection_key(secret: &[u8; PROOF_BYTES], shared: Option<&Key>) -> Key {
    let mut bytes = secret.to_vec();
    bytes.extend_from_slice(shared.map_or(&[], Key::expose));
    Key::new(bytes)
}

/// The caller's number for its attempt, in the handle that the core keeps for it.
pub(crate) fn attempt(bytes: &[u8; HANDLE_BYTES]) -> u64 {
    bytemuck::pod_read_unaligned::<Wire>(bytes).attempt
}

/// Notes the caller's number for its attempt.
pub(crate) fn set_attempt(bytes: &mut [u8; HANDLE_BYTES], attempt: u64) {
    bytes[HANDLE_BYTES - 8..].copy_from_slice(&attempt.to_ne_bytes());
}

fn name(host: &[u8; HOST_BYTES]) -> String {
    let end = host.iter().position(|byte| *byte == 0).unwrap_or(HOST_BYTES);
    String::from_utf8_lossy(&host[..end]).into_owned()
}

/// FNV-1a: enough to tell damage; strangers are kept out by the secret.
fn sum(wire: &Wire) -> u64 {
    let bytes = &bytemuck::bytes_of(wire)[..HANDLE_BYTES - 16];
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handle(address: &str) -> Handle {
        Handle { address: address.parse().unwrap(), secret: [7; PROOF_BYTES], host: "box".to_owned() }
    }

    #[test]
    fn a_handle_is_read_as_it_was_written() {
        for address in ["192.168.100.1:4711", "[fd00::1]:5", "[fe80::1%3]:5"] {
            let made = handle(address);
            let mut bytes = made.encode();
            set_attempt(&mut bytes, 99);
            assert_eq!((Handle::decode(&bytes).unwrap(), attempt(&bytes)), (made, 99));
        }
    }

    #[test]
    fn another_release_and_another_plugin_are_told_apart() {
        let mut bytes = handle("10.0.0.1:1").encode();
        bytes[8] = 77;
        assert!(matches!(Handle::decode(&bytes), Err(PluginError::Version { theirs: 77, .. })));
        assert!(matches!(Handle::decode(&[0; HANDLE_BYTES]), Err(PluginError::Handle { .. })));
    }

    #[test]
    fn the_shared_key_is_part_of_the_proof() {
        let handle = handle("10.0.0.1:1");
        assert_ne!(handle.key(None), handle.key(Some(&Key::new("secret"))));
    }

    proptest! {
        #[test]
        fn damage_is_noticed_and_nothing_panics(at in 0usize..HANDLE_BYTES - 8, flip in 1u8..) {
            let mut bytes = handle("10.0.0.1:1").encode();
            bytes[at] ^= flip;
            prop_assert!(Handle::decode(&bytes).is_err());
        }
    }
}
