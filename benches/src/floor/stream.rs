//! A stream over TCP on loopback with nothing above the two sockets: large messages from memory to memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use halo_plugin_host::bench::in_huge_pages;

use crate::line::pin;

/// Bytes that one system call moves: what iperf3 uses.
const PIECE: usize = 128 << 10;

/// The time until `count` messages of `bytes` bytes have arrived, with `buffers` buffers in turn on both sides.
pub(super) fn stream(bytes: usize, count: usize, buffers: usize) -> std::io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            pin(1);
            let memory = touched(bytes * buffers);
            let mut socket = TcpStream::connect(address)?;
            let messages = memory.chunks_exact(bytes).cycle().take(count);
            messages.flat_map(|message| message.chunks(PIECE)).try_for_each(|piece| socket.write_all(piece))
        });
        let receiver = scope.spawn(move || {
            pin(0);
            let mut memory = touched(bytes * buffers);
            let (mut socket, _) = listener.accept()?;
            let began = Instant::now();
            for index in 0..count {
                let start = index % buffers * bytes;
                let mut pieces = memory[start..start + bytes].chunks_mut(PIECE);
                pieces.try_for_each(|piece| socket.read_exact(piece))?;
            }
            Ok(began.elapsed())
        });
        sender.join().expect("the sending thread does not panic")?;
        receiver.join().expect("the receiving thread does not panic")
    })
}

/// Memory as the plugin's host has it: in huge pages, and every page is there before the clock runs.
fn touched(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    in_huge_pages(&mut memory);
    memory.fill(1);
    memory
}
