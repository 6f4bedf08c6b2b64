//! The other rank, over a connection that no exchange is measured on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Outcome;

/// How long rank 0 may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the other rank is told things, and asked.
#[derive(Debug)]
pub struct Partner {
    /// This rank: 0 or 1.
    pub rank: usize,
    control: BufReader<TcpStream>,
}

impl Partner {
    /// Rank 0 listens at `rendezvous`, rank 1 goes there.
    ///
    /// # Errors
    /// The address is in use, or nobody is there within a minute.
    pub fn connect(rank: usize, rendezvous: &str) -> Outcome<Self> {
        let control = if rank == 0 { TcpListener::bind(rendezvous)?.accept()?.0 } else { reach(rendezvous)? };
        control.set_nodelay(true)?;
        Ok(Self { rank, control: BufReader::new(control) })
    }

    /// A second connection, for the payloads. It is made between the same two addresses.
    pub(super) fn connect_again(&mut self) -> Outcome<TcpStream> {
        if self.rank == 0 {
            let listener = TcpListener::bind((self.control.get_ref().local_addr()?.ip(), 0))?;
            self.swap(&listener.local_addr()?.port().to_string())?;
            return Ok(listener.accept()?.0);
        }
        let host: IpAddr = self.control.get_ref().peer_addr()?.ip();
        let port: u16 = self.swap("")?.parse()?;
        Ok(TcpStream::connect((host, port))?)
    }

    /// Says a line and hears the other's.
    pub(super) fn swap(&mut self, line: &str) -> Outcome<String> {
        writeln!(self.control.get_mut(), "{line}")?;
        let mut theirs = String::new();
        self.control.read_line(&mut theirs)?;
        Ok(theirs.trim_end().to_owned())
    }

    /// Returns when both are here.
    pub(super) fn meet(&mut self) -> Outcome {
        self.swap("").map(drop)
    }

    /// For every operation the longer of both ranks' times.
    pub(super) fn slowest(&mut self, own: &[Duration]) -> Outcome<Vec<Duration>> {
        let bytes: Vec<u8> = own.iter().flat_map(|sample| (sample.as_nanos() as u64).to_le_bytes()).collect();
        self.control.get_mut().write_all(&bytes)?;
        let mut theirs = vec![0; bytes.len()];
        self.control.read_exact(&mut theirs)?;
        let theirs = theirs.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok(own.iter().zip(theirs).map(|(own, theirs)| (*own).max(Duration::from_nanos(theirs))).collect())
    }
}

/// Rank 0 may not listen yet.
fn reach(rendezvous: &str) -> Outcome<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(rendezvous) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
