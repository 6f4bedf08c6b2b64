//! Whatever a peer sends, nothing is written where no receive waits, and nothing panics.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use proptest::prelude::*;

use super::Receiver;
use super::header::{EAGER, Header};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Failure, Incoming};
use crate::plugin::connection::stream::Stream;

/// The largest eager message here.
const EAGER_BYTES: usize = 512;
/// Room of each receive, with as much on both sides that must stay as it is.
const ROOM: usize = 300;
const UNTOUCHED: u8 = 0xee;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, there)
}

/// A frame as some peer might send it: often nearly right.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let slot = prop_oneof![4 => 0u32..4, 2 => Just(EAGER), 1 => any::<u32>()];
    let total = prop_oneof![4 => 0u64..600, 1 => any::<u64>()];
    let part = prop_oneof![3 => Just(None), 2 => (0u64..400, 0u64..400).prop_map(Some), 1 => any::<(u64, u64)>().prop_map(Some)];
    (0i32..3, slot, 0u32..3, 0u64..4, total, part, 0usize..700).prop_map(
        |(tag, slot, generation, index, total, part, payload)| {
            let part = part.unwrap_or((0, total));
            let header = Header::new(tag, slot, generation, index, total, part);
            let mut bytes = bytemuck::bytes_of(&header).to_vec();
            let honest = usize::try_from(part.1).ok().filter(|length| *length < 700);
            bytes.resize(bytes.len() + honest.unwrap_or(payload), 0x11);
            bytes
        },
    )
}

#[test]
fn a_lane_that_has_ended_loses_nothing_that_comes_by_another() {
    let ((control, _control_peer), (first, first_peer), (second, mut second_peer)) = (pair(), pair(), pair());
    let lanes = [first, second];
    for lane in &lanes {
        lane.set_nonblocking(true).unwrap();
    }
    let control = Control::new(Stream::accepted(control).unwrap());
    let mut receiver = Receiver::new(control, lanes.into(), EAGER_BYTES);
    let mut memory = [UNTOUCHED; ROOM];
    for request in 0..2 {
        let data = memory.as_mut_ptr();
        receiver.post(request, &[Incoming { tag: 0, data, room: ROOM as u64, memory: None }]);
    }
    drop(first_peer);
    let mut arrived = Vec::new();
    // Loopback hands an end over at once.
    receiver.progress(|arrival| arrived.push(arrival.request)).unwrap();
    assert!(receiver.lanes_ended() == [true, false] && arrived.is_empty(), "{arrived:?}");
    let header = Header::new(0, EAGER, 0, 0, 5, (0, 5));
    second_peer.write_all(bytemuck::bytes_of(&header)).unwrap();
    second_peer.write_all(b"later").unwrap();
    drop(second_peer);
    receiver.progress(|arrival| arrived.push(arrival.request)).unwrap();
    // The first receive is complete, the second will never be.
    let lost = receiver.progress(|_| unreachable!("nothing is left")).unwrap_err();
    assert!(matches!(&lost, Failure::Lost(cause) if cause.contains("closed")), "{lost:?}");
    assert_eq!((arrived.as_slice(), &memory[..6]), ([0].as_slice(), b"later\xee".as_slice()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn frames_of_any_kind_stay_within_the_receives_that_wait(
        frames in proptest::collection::vec(frame(), 1..12),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
        posts in proptest::collection::vec(0i32..3, 0..6),
    ) {
        let ((control, _control_peer), (data, mut peer)) = (pair(), pair());
        data.set_nonblocking(true).unwrap();
        let control = Control::new(Stream::accepted(control).unwrap());
        let mut receiver = Receiver::new(control, vec![data], EAGER_BYTES);
        let mut memory = vec![vec![UNTOUCHED; 3 * ROOM]; posts.len()];
        for (request, (tag, bytes)) in posts.iter().zip(&mut memory).enumerate() {
            let data = bytes[ROOM..].as_mut_ptr();
            receiver.post(request, &[Incoming { tag: *tag, data, room: ROOM as u64, memory: None }]);
        }
        for frame in &frames {
            peer.write_all(frame).unwrap();
        }
        peer.write_all(&noise).unwrap();
        drop(peer);
        let mut arrived = vec![None; posts.len()];
        // Until the end of the stream is seen, or the peer has broken the protocol.
        for _ in 0..100 {
            let progress = receiver.progress(|arrival| {
                assert!(arrived[arrival.request].replace(arrival.bytes).is_none(), "complete twice");
            });
            if progress.is_err() {
                break;
            }
        }
        for (bytes, arrived) in memory.iter().zip(&arrived) {
            let outside = bytes[..ROOM].iter().chain(&bytes[2 * ROOM..]);
            prop_assert!(outside.into_iter().all(|byte| *byte == UNTOUCHED), "written outside of the receive");
            if let Some(count) = arrived {
                prop_assert!(*count <= ROOM as u64);
                prop_assert!(bytes[ROOM..ROOM + *count as usize].iter().all(|byte| *byte == 0x11));
            }
        }
    }
}
