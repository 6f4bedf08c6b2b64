//! TCP on loopback: sockets that are asked again and again, as a transport that polls would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::Side;
use crate::exchange::moved;

pub(super) struct Socket {
    stream: TcpStream,
    source: Vec<u8>,
    target: Vec<u8>,
}

/// Two ends of one connection.
pub(super) fn sides(bytes: usize) -> std::io::Result<[Socket; 2]> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let first = TcpStream::connect(listener.local_addr()?)?;
    let (second, _) = listener.accept()?;
    for stream in [&first, &second] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    let side = |stream| Socket { stream, source: vec![1; bytes], target: vec![1; bytes] };
    Ok([side(first), side(second)])
}

impl Side for Socket {
    fn write(&mut self) -> std::io::Result<()> {
        let mut done = 0;
        while done < self.source.len() {
            done += moved(self.stream.write(&self.source[done..]))?;
        }
        Ok(())
    }

    fn wait(&mut self) -> std::io::Result<()> {
        let mut done = 0;
        while done < self.target.len() {
            done += moved(self.stream.read(&mut self.target[done..]))?;
        }
        Ok(())
    }
}
