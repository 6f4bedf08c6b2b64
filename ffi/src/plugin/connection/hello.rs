//! What caller and listener tell each other once the key is proved.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::plugin::device::{Device, Kind};
use crate::plugin::protocol::{MAX_EAGER_BYTES, MAX_LANES, Striping, lanes_over};
use crate::plugin::rdma::RdmaOffer;

/// The first frame of every socket, from the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// The control socket of a new connection.
    Control(Introduction),
    /// A data socket of a connection.
    Data { connection: [u8; 16], lane: u8 },
}

/// Who calls, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// A random number that its data sockets name too.
    pub(crate) connection: [u8; 16],
    pub(crate) who: Identity,
    pub(crate) terms: Terms,
    /// Over RDMA: the caller's queue pairs and memory.
    pub(crate) rdma: Option<RdmaOffer>,
}

/// The listener's answer on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Welcome {
        who: Identity,
        /// What the caller asked for, or less.
        eager_bytes: u32,
        rdma: Option<RdmaOffer>,
    },
    /// It cannot be, in words.
    Refused { cause: String },
}

/// The caller's last word: it has everything in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready;

/// The last word of a side whose part of the connection has failed: why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parting {
    pub(crate) cause: String,
}

/// How the connection is used; the caller decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) eager_bytes: u32,
    pub(crate) stripe_bytes: u64,
    /// Queue pairs, or data sockets.
    pub(crate) lanes: u8,
    /// Over RDMA: of the messages, and of what their receiver tells unless it knows better.
    pub(crate) traffic_class: u8,
}

impl Terms {
    /// What this side proposes. As with NCCL, a traffic class in the environment wins over the communicator's.
    pub(crate) fn of(device: &Device, traffic_class: Option<u8>) -> Self {
        let settings = &device.settings;
        let lanes = match device.kind {
            Kind::Tcp(_) => settings.sockets,
            Kind::Rdma(ref ports) => lanes_over(ports.count(), settings.queue_pairs),
        };
        Self {
            eager_bytes: settings.eager_bytes as u32,
            stripe_bytes: settings.stripe_bytes as u64,
            lanes: lanes as u8,
            traffic_class: settings.traffic_class.or(traffic_class).unwrap_or(0),
        }
    }

    /// Refuses what no honest caller proposes.
    pub(crate) fn check(&self) -> Result<(), String> {
        let good = self.eager_bytes as usize <= MAX_EAGER_BYTES
            && (1..=MAX_LANES).contains(&usize::from(self.lanes))
            && self.stripe_bytes >= 1;
        if good { Ok(()) } else { Err(format!("it proposes {self:?}")) }
    }

    pub(crate) fn striping(&self) -> Striping {
        Striping { lanes: usize::from(self.lanes), threshold: self.stripe_bytes as usize }
    }
}

/// A process and its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) process: u32,
    pub(crate) device: String,
    pub(crate) rdma: bool,
}

impl Identity {
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            host: host_name(),
            process: std::process::id(),
            device: device.describe(),
            rdma: matches!(device.kind, Kind::Rdma(_)),
        }
    }

    /// For messages.
    pub(crate) fn describe(&self, at: &str) -> String {
        format!("{} (process {}, {}, {at})", self.host, self.process, self.device)
    }
}

/// A peer that has not introduced itself yet.
pub(crate) fn stranger(host: &str, address: SocketAddr) -> String {
    format!("{host} ({address})")
}

/// This host's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use halo_fabric::{encode_frame, take_frame};
    use proptest::prelude::*;

    #[test]
    fn terms_out_of_range_are_refused() {
        let terms = Terms { eager_bytes: 0, stripe_bytes: 4096, lanes: 1, traffic_class: 0 };
        assert!(terms.check().is_ok());
        assert!(Terms { lanes: 0, ..terms }.check().is_err());
        assert!(Terms { lanes: 9, ..terms }.check().is_err());
        assert!(Terms { eager_bytes: 1 << 20, ..terms }.check().is_err());
    }

    proptest! {
        #[test]
        fn whatever_arrives_after_the_proof_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            // Reading must end, in a message or a refusal; what it reads is written the same way again.
            if let Ok(Some(hello)) = take_frame::<Hello>(&mut framed.clone()) {
                prop_assert_eq!(take_frame(&mut encode_frame(&hello)), Ok(Some(hello)));
            }
            if let Ok(Some(answer)) = take_frame::<Answer>(&mut framed) {
                prop_assert_eq!(take_frame(&mut encode_frame(&answer)), Ok(Some(answer)));
            }
        }
    }
}
