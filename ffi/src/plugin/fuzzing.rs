//! What a fuzzer tries: everything that a peer can send to the plugin, read by the code that reads it in earnest. `fuzz/`
//! drives these with coverage, the tests below with chance.

use halo_fabric::{Key, take_frame};

use super::abi::HANDLE_BYTES;
use super::comm::{Arrival, Incoming};
use super::connection::hello::{Answer, Hello, Parting, Ready};
use super::connection::proof::Proof;
use super::handle::Handle;
use super::protocol::{ANNOUNCEMENT_BYTES, Announced, Announcement, KIND_ANNOUNCE, TagCounters};
use super::{rdma, tcp};

/// A fuzzer's bytes as a script of small decisions; at its end everything is zero.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.take(8).iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// A size: mostly small, at times absurd.
    pub(crate) fn size(&mut self) -> u64 {
        match self.byte() {
            255 => self.word() & ((1 << 40) - 1),
            small => u64::from(small),
        }
    }
}

/// Room of each receive, with as much on both sides that must stay as it is.
const ROOM: usize = 80;
const UNTOUCHED: u8 = 0xee;

/// Memory of receives.
#[derive(Default)]
pub(crate) struct Buffers(Vec<(Box<[u8; 3 * ROOM]>, bool)>);

impl Buffers {
    /// One receive, and its request.
    pub(crate) fn lend(&mut self, tag: i32) -> (usize, Incoming<'static>) {
        self.0.push((Box::new([UNTOUCHED; 3 * ROOM]), false));
        let request = self.0.len() - 1;
        let data = self.0[request].0[ROOM..].as_mut_ptr();
        (request, Incoming { tag, data, room: ROOM as u64, memory: None })
    }

    /// A receive is complete: once, and within its room.
    pub(crate) fn arrived(&mut self, arrival: &Arrival) {
        let (_, complete) = &mut self.0[arrival.request];
        assert!(!std::mem::replace(complete, true), "complete twice");
        assert!(arrival.bytes <= ROOM as u64, "{} bytes in {ROOM}", arrival.bytes);
    }

    /// Nothing was written outside of the receives.
    pub(crate) fn check(&self) {
        for (bytes, _) in &self.0 {
            let mut outside = bytes[..ROOM].iter().chain(&bytes[2 * ROOM..]);
            assert!(outside.all(|byte| *byte == UNTOUCHED), "written outside of the receive");
        }
    }
}

/// The handle that the core carries from peer to peer.
pub fn handle(bytes: &[u8]) {
    let mut whole = [0; HANDLE_BYTES];
    let count = bytes.len().min(HANDLE_BYTES);
    whole[..count].copy_from_slice(&bytes[..count]);
    if let Ok(handle) = Handle::decode(&whole) {
        let again = Handle::decode(&handle.encode()).expect("what was read can be written");
        assert_eq!((again.address.port(), again.secret), (handle.address.port(), handle.secret));
    }
}

/// The set-up of a connection, in pieces: the proof from both sides, and the frames behind it.
pub fn set_up(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let piece = usize::from(script.byte()).max(1);
    let bytes = script.rest();
    let mut output = Vec::new();
    let proofs = [Proof::listener(Key::new("key")), Proof::caller(Key::new("key"), &mut output)];
    for mut proof in proofs.into_iter().flatten() {
        let mut input = Vec::new();
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            match proof.advance(&mut input, &mut output) {
                Ok(proved) => assert!(!proved, "nobody guesses a proof"),
                Err(_) => break,
            }
        }
    }
    let [mut hellos, mut answers, mut ready, mut parting] = [(); 4].map(|()| bytes.to_vec());
    while let Ok(Some(hello)) = take_frame::<Hello>(&mut hellos) {
        if let Hello::Control(introduction) = hello {
            let fits = introduction.terms.check().is_ok();
            let offer = introduction.rdma.as_ref().map(|offer| offer.check(&introduction.terms));
            // What is let through is within what the memory is laid out for.
            if fits && offer.is_none_or(|offer| offer.is_ok()) {
                let parts = introduction.terms.striping().parts(1 << 20).count();
                assert!(parts <= usize::from(introduction.terms.lanes));
                if let Some(offer) = &introduction.rdma {
                    rdma::fuzzing::answer(offer, usize::from(introduction.terms.lanes));
                }
            }
        }
    }
    while let Ok(Some(_)) = take_frame::<Answer>(&mut answers) {}
    while let Ok(Some(_)) = take_frame::<Ready>(&mut ready) {}
    while let Ok(Some(_)) = take_frame::<Parting>(&mut parting) {}
}

/// Announcements on the control connection, and the sends that look for theirs.
pub fn announcements(bytes: &[u8]) {
    let (mut announced, mut sent) = (Announced::default(), TagCounters::default());
    for chunk in bytes.chunks(ANNOUNCEMENT_BYTES + 1) {
        let Some(told) = chunk.first_chunk() else { return };
        let Ok(told) = Announcement::decode(told) else { return };
        if told.kind == KIND_ANNOUNCE && announced.add(told, &sent).is_err() {
            return;
        }
        let tag = told.tag.wrapping_add(i32::from(chunk.last().is_some_and(|byte| *byte == 1)));
        if announced.find(tag, sent.next(tag)).is_some() {
            announced.remove(tag, sent.next(tag));
            sent.advance(tag);
        }
    }
}

/// A sender's TCP stream.
pub fn tcp_lane(bytes: &[u8]) {
    tcp::fuzzing::lane(bytes);
}

/// A sender's writes into the receiver's memory.
pub fn rdma_inbox(bytes: &[u8]) {
    rdma::fuzzing::inbox(bytes);
}

/// A receiver's writes into the sender's memory.
pub fn rdma_ring(bytes: &[u8]) {
    rdma::fuzzing::ring(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::connection::hello::{Identity, Introduction, Terms};
    use halo_fabric::encode_frame;
    use proptest::prelude::*;

    /// Bytes, and bytes that begin as the real thing does.
    fn near(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let flips = proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4);
        let noise = proptest::collection::vec(any::<u8>(), 0..300);
        let valid = proptest::sample::select(valid);
        let mutated = (valid, flips, noise.clone()).prop_map(|(mut bytes, flips, noise)| {
            for (at, value) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.extend(noise);
            bytes
        });
        prop_oneof![1 => noise, 3 => mutated]
    }

    fn frames() -> Vec<Vec<u8>> {
        let who = Identity { host: "box".to_owned(), process: 1, device: "lo".to_owned(), rdma: false };
        let terms = Terms { eager_bytes: 5, stripe_bytes: 1, lanes: 8, traffic_class: 7 };
        let connection = [3; 16];
        let offer = rdma::offer_for_tests(&[0, 1], 2);
        let over_rdma = Terms { lanes: 2, ..terms };
        let hello = Hello::Control(Introduction { connection, who: who.clone(), terms, rdma: None });
        let rdma_hello = Hello::Control(Introduction {
            connection,
            who: who.clone(),
            terms: over_rdma,
            rdma: Some(offer),
        });
        let welcome = Answer::Welcome { who, eager_bytes: 5, rdma: None };
        let preamble = b"HALO\x01\0\0\0\x04\0\0\0\0\0\0\0";
        let framed =
            [encode_frame(&hello), encode_frame(&rdma_hello), encode_frame(&welcome), preamble.to_vec()];
        framed.into_iter().map(|frame| [vec![40], frame].concat()).collect()
    }

    fn announcement(tag: i32, index: u64) -> Vec<u8> {
        let told = Announcement { kind: KIND_ANNOUNCE, tag, index, ..Announcement::credit(0) };
        bytemuck::bytes_of(&told).to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn handles_are_read_or_refused(bytes in near(vec![
            Handle { address: ([10, 0, 0, 1], 9).into(), secret: [7; 32], host: "box".to_owned() }.encode().to_vec(),
        ])) {
            handle(&bytes);
        }

        #[test]
        fn setting_up_ends_in_a_message_or_a_refusal(bytes in near(frames())) {
            set_up(&bytes);
        }

        #[test]
        fn announcements_are_read_or_refused(bytes in near(vec![
            [announcement(0, 0), vec![0], announcement(0, 1), vec![1], announcement(2, 5)].concat(),
        ])) {
            announcements(&bytes);
        }

        #[test]
        fn a_sender_that_writes_what_it_likes_stays_within_the_receives(
            steps in proptest::collection::vec((0u8..6, proptest::collection::vec(any::<u8>(), 1..6)), 1..60),
        ) {
            rdma_inbox(&steps.into_iter().flat_map(|(kind, rest)| [vec![kind], rest].concat()).collect::<Vec<_>>());
        }

        #[test]
        fn a_receiver_that_writes_what_it_likes_is_read_or_refused(
            steps in proptest::collection::vec((0u8..5, 0i32..3, 0u64..3, any::<u64>()), 1..60),
        ) {
            let bytes = steps.into_iter().flat_map(|(kind, tag, index, word)| match kind {
                0 => [vec![0], announcement(tag, index)].concat(),
                4 => vec![4, tag as u8],
                kind => [vec![kind], word.to_be_bytes().to_vec()].concat(),
            });
            rdma_ring(&bytes.collect::<Vec<_>>());
        }

        #[test]
        fn a_lane_reads_or_refuses(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            tcp_lane(&bytes);
        }
    }
}
