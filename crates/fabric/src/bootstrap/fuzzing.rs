//! What a fuzzer tries: every frame of bootstrap.

use std::time::Instant;

use serde::de::DeserializeOwned;

use super::hello::Hello;
use super::links::{Offer, Ready};
use super::rendezvous::{Answer, Request, answer_at_the_end};
use crate::wire::{Connection, take_frame};

fn frames<T: DeserializeOwned>(bytes: &[u8], mut each: impl FnMut(T)) {
    let mut input = bytes.to_vec();
    while let Ok(Some(message)) = take_frame::<T>(&mut input) {
        each(message);
    }
}

/// Reads the bytes as frames of each kind, and as a greeting from the store.
pub(crate) fn read_frames(bytes: &[u8]) {
    frames::<Request>(bytes, |request| drop(answer_at_the_end(request)));
    frames::<Answer>(bytes, drop);
    frames::<Offer>(bytes, drop);
    frames::<Ready>(bytes, drop);
    if let Ok(hello) = Hello::decode(bytes, "a fuzzer") {
        // Two greetings are compared, whoever wrote them; where a message names a host it can be printed.
        let _ = super::hello::agree(0, &[hello.clone(), hello.clone()]).map_err(|error| error.to_string());
        let _ = super::hello::choose(&hello, &hello).map_err(|error| error.to_string());
        super::rails::describe(&hello, &hello, &super::rails::agree(&hello, &hello));
    }
}

/// Receives requests over a connection until it ends.
pub(crate) fn receive_one(mut connection: Connection, deadline: Instant) {
    while let Ok(request) = connection.receive::<Request>(deadline) {
        drop(answer_at_the_end(request));
    }
}

/// One of each kind, for mutation.
#[cfg(test)]
pub(crate) fn valid_frames() -> Vec<Vec<u8>> {
    use crate::config::Config;
    use crate::wire::encode_frame;
    let hello =
        Hello::new(&Config::new(1, 2), ([127, 0, 0, 1], 5).into(), Err("no device".to_owned()), false);
    vec![
        encode_frame(&Request::Set { key: "hello/1".to_owned(), value: vec![1; 40] }),
        encode_frame(&Request::Get { key: "abort".to_owned(), wait_ms: u64::MAX }),
        encode_frame(&Answer::Value(vec![2; 30])),
        encode_frame(&Offer::Tcp),
        hello.expect("this host has a name").encode(),
    ]
}
