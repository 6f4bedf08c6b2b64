//! Two processes, usually on two hosts: handles are exchanged over a TCP connection, as a core's bootstrap does, and
//! then one of the scenarios runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::Work;
use crate::link::{Buffer, Link};
use crate::pattern::Sequence;
use crate::plugin::{Opaque, Plugin, Refused, Version, warnings};
use crate::{Outcome, PATIENCE, bench, until};

/// What two processes do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Messages of all sizes both ways, checked.
    Exchange,
    /// Rank 1 ends without a word while both directions are busy; rank 0 says how soon it was told.
    Killed,
    /// As `killed`, but rank 1 sleeps on: something outside cuts the cable. Both say how soon they were told.
    Cut,
    /// Something outside takes the link down for a moment, within what is tolerated: nothing may be lost.
    Blink,
    /// Something outside changes the device's address between two connections.
    Address,
    /// Rank 1 never accepts and then ends.
    Deaf,
    /// Rank 1 never accepts and lives on.
    Silent,
    /// The connection must be refused; both say with which code.
    Refused,
    /// Latency and bandwidth.
    Bench,
}

/// One of the two processes.
pub struct Peer<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// Its context.
    pub context: Opaque,
    /// The device to use.
    pub device: i32,
    /// 0 or 1.
    pub rank: usize,
    words: BufReader<TcpStream>,
}

impl<'a> Peer<'a> {
    /// Meets the other process at `rendezvous`, where rank 0 listens.
    ///
    /// # Errors
    /// It does not come.
    pub fn meet(
        plugin: &'a Plugin,
        context: Opaque,
        device: i32,
        rank: usize,
        rendezvous: &str,
    ) -> Outcome<Self> {
        let stream = if rank == 0 {
            TcpListener::bind(rendezvous)?.accept()?.0
        } else {
            until("rank 0", || Ok(TcpStream::connect(rendezvous).ok()))?
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { plugin, context, device, rank, words: BufReader::new(stream) })
    }

    /// Both come here before either goes on.
    ///
    /// # Errors
    /// The other one does not.
    pub fn agree(&mut self) -> Outcome {
        self.words.get_mut().write_all(b"here\n")?;
        let mut word = String::new();
        if self.words.read_line(&mut word)? == 0 {
            return Err("the other process has ended".into());
        }
        Ok(())
    }

    /// Rank 0 decides, rank 1 is told.
    ///
    /// # Errors
    /// The other process has ended.
    pub fn decide(&mut self, decision: bool) -> Outcome<bool> {
        if self.rank == 0 {
            self.words.get_mut().write_all(&[u8::from(decision)])?;
            return Ok(decision);
        }
        let mut word = [0];
        self.words.read_exact(&mut word)?;
        Ok(word[0] != 0)
    }

    /// A connection in each direction.
    ///
    /// # Errors
    /// The plugin's answer, or it takes too long.
    pub fn connect(&mut self) -> Outcome<Link<'a>> {
        let (listener, handle) = self.plugin.listen(self.context, self.device)?;
        self.words.get_mut().write_all(&handle)?;
        let mut theirs = [0; 128];
        self.words.read_exact(&mut theirs)?;
        let (mut send, mut receive) = (None, None);
        let (send, receive) = until("a connection each way", || {
            if send.is_none() {
                send = self.plugin.connect(self.context, self.device, &mut theirs)?;
            }
            if receive.is_none() {
                receive = self.plugin.accept(listener)?;
            }
            Ok(send.zip(receive))
        })?;
        self.plugin.close_listen(listener)?;
        Ok(Link { plugin: self.plugin, send, receive })
    }
}

/// What one of the two processes is told on its command line.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What they do
    pub scenario: Scenario,
    /// 0 or 1
    #[arg(long)]
    pub rank: usize,
    /// Where rank 0 listens for rank 1
    #[arg(long)]
    pub rendezvous: String,
    /// Seconds within which the loss of the peer must have been told
    #[arg(long, default_value_t = PATIENCE.as_secs())]
    pub within: u64,
    /// The traffic class of the communicator
    #[arg(long)]
    pub traffic_class: Option<u8>,
    /// For `bench`: `latency:BYTES:COUNT` or `stream:BYTES:COUNT:DEPTH` [default: a table of both]
    pub work: Vec<Work>,
}

/// Runs one rank of a scenario; with `join`, over all devices as one.
///
/// # Errors
/// What went wrong.
pub fn run(library: &Path, version: Version, join: bool, given: &Arguments) -> Outcome {
    let plugin = Plugin::load(library, version)?.traffic_class(given.traffic_class);
    let context = plugin.init()?;
    let device = if join { plugin.join_all()? } else { 0 };
    let mut peer = Peer::meet(&plugin, context, device, given.rank, &given.rendezvous)?;
    match given.scenario {
        Scenario::Exchange => exchange(&mut peer)?,
        Scenario::Killed | Scenario::Cut => {
            lose(&mut peer, given.scenario, Duration::from_secs(given.within))?;
        }
        Scenario::Blink => blink(&mut peer)?,
        Scenario::Address => address(&mut peer)?,
        Scenario::Deaf | Scenario::Silent => deaf(&mut peer, given.scenario)?,
        Scenario::Refused => refuse(&mut peer)?,
        Scenario::Bench if given.work.is_empty() => bench::run(&mut peer)?,
        Scenario::Bench => bench::measure(&mut peer, &given.work)?,
    }
    plugin.finalize(context)?;
    Ok(())
}

fn exchange(peer: &mut Peer<'_>) -> Outcome {
    let link = peer.connect()?;
    let mut chance = Sequence::new(3);
    let mut sizes: Vec<_> = (0..120).map(|_| chance.size(300_000)).collect();
    sizes.extend([0, 1, 4 << 20, 16384, 16385, 262_144, 262_143]);
    link.stream(&sizes, 8, 0, 1)?;
    // The same once more with a fresh connection.
    let second = peer.connect()?;
    second.stream(&sizes[..40], 4, 64, 1000)?;
    println!("rank {}: {} messages each way, every byte in its place", peer.rank, sizes.len() + 40);
    peer.agree()?;
    second.close()?;
    link.close()
}

/// Both directions are kept busy until the plugin says that the peer is lost: for each once, and in time.
fn lose(peer: &mut Peer<'_>, scenario: Scenario, within: Duration) -> Outcome {
    let link = peer.connect()?;
    link.stream(&[1000; 20], 4, 0, 1)?;
    peer.agree()?;
    if scenario == Scenario::Killed && peer.rank == 1 {
        println!("killing");
        // As a crash or a signal would: nothing is closed by this process.
        std::process::abort();
    }
    // Several ports take turns in messages that are announced, so there are such among the small ones. None are much
    // larger: large writes to a cable that is gone make rdma_rxe, of Linux 6.12 at least, wait 50 s for the end of a queue
    // pair, and then panic.
    let most = if peer.device == 0 { 1000 } else { 40_000 };
    println!("cut now");
    let began = Instant::now();
    let before = warnings().len();
    let codes = until_lost(&link, most, began + within)?;
    let told = warnings().len() - before;
    if told != 2 {
        return Err(format!("{told} lines for 2 connections that are lost").into());
    }
    println!("rank {}: lost after {:.2?}, codes {} {}", peer.rank, began.elapsed(), codes.0, codes.1);
    for line in &warnings()[before..] {
        println!("told: {line}");
    }
    // Whoever asks again gets the same answer, and the user no second line; nor for the end.
    let again = until_lost(&link, most, Instant::now() + within)?;
    if again != codes {
        return Err(format!("first {codes:?}, then {again:?}").into());
    }
    link.close()?;
    if warnings().len() != before + told {
        return Err(format!("a loss is told again: {:?}", &warnings()[before..]).into());
    }
    Ok(())
}

/// The codes by which sending and receiving end, both before the deadline. Messages are small and of `most` bytes in turn.
fn until_lost(link: &Link<'_>, most: usize, deadline: Instant) -> Outcome<(i32, i32)> {
    let plugin = link.plugin;
    let mut source = Buffer::new(plugin, link.send, most)?;
    let mut target = Buffer::new(plugin, link.receive, most)?;
    let (mut sending, mut receiving) = (None, None);
    let (mut sent, mut codes) = (0usize, (None, None));
    until("the loss of the peer", || {
        if codes.0.is_none() {
            let bytes = if sent.is_multiple_of(2) { 1000 } else { most };
            let (data, memory) = (source.bytes().as_ptr(), source.memory);
            codes.0 = step(plugin, &mut sending, || {
                let posted = plugin.send(link.send, data, bytes, 3, memory)?;
                sent += usize::from(posted.is_some());
                Ok(posted)
            });
        }
        if codes.1.is_none() {
            let part = target.part(most, 3);
            codes.1 = step(plugin, &mut receiving, || plugin.receive(link.receive, &[part]));
        }
        if Instant::now() > deadline {
            return Err(format!("the loss of the peer was not told in time: {codes:?}").into());
        }
        Ok(codes.0.zip(codes.1))
    })
}

/// Asks for a request that is under way, or begins one; the code of an error.
fn step(
    plugin: &Plugin,
    request: &mut Option<Opaque>,
    post: impl FnOnce() -> Result<Option<Opaque>, Refused>,
) -> Option<i32> {
    let answer = match *request {
        Some(waiting) => plugin.test_without_sizes(waiting).map(|done| {
            if done {
                *request = None;
            }
        }),
        None => post().map(|posted| *request = posted),
    };
    answer.err().map(|refused| refused.code)
}

/// Keeps messages going while the link blinks.
fn blink(peer: &mut Peer<'_>) -> Outcome {
    let link = peer.connect()?;
    peer.agree()?;
    println!("blink now");
    let began = Instant::now();
    let mut rounds = 0u64;
    // Long enough for whoever blinks.
    while peer.decide(began.elapsed() < Duration::from_secs(3))? {
        link.stream(&[20_000, 100, 70_000], 3, 0, rounds * 10)?;
        rounds += 1;
    }
    println!("rank {}: {rounds} rounds, every byte in its place", peer.rank);
    // A machine that has nothing more to do is gone, with what it still had to send.
    peer.agree()?;
    link.close()
}

/// A connection, another address, another connection.
fn address(peer: &mut Peer<'_>) -> Outcome {
    let link = peer.connect()?;
    link.exchange(10_000, 1)?;
    peer.agree()?;
    link.close()?;
    println!("address now");
    // Whoever changes the addresses says so on standard input.
    std::io::stdin().lock().read_line(&mut String::new())?;
    peer.agree()?;
    let link = peer.connect()?;
    link.exchange(10_000, 2)?;
    println!("rank {}: connected again", peer.rank);
    peer.agree()?;
    link.close()
}

/// Rank 1 listens and never accepts: rank 0 must not wait for ever.
fn deaf(peer: &mut Peer<'_>, scenario: Scenario) -> Outcome {
    if peer.rank == 1 {
        let (_listener, handle) = peer.plugin.listen(peer.context, peer.device)?;
        peer.words.get_mut().write_all(&handle)?;
        peer.agree()?;
        if scenario == Scenario::Silent {
            return peer.agree();
        }
        std::process::abort();
    }
    let mut theirs = [0; 128];
    peer.words.read_exact(&mut theirs)?;
    for _ in 0..1000 {
        if peer.plugin.connect(peer.context, peer.device, &mut theirs)?.is_some() {
            return Err("connected without having been accepted".into());
        }
    }
    peer.agree()?;
    let began = Instant::now();
    let code = until("an error", || {
        Ok(peer.plugin.connect(peer.context, peer.device, &mut theirs).err().map(|e| e.code))
    })?;
    println!("rank 0: refused after {:.2?}, code {code}", began.elapsed());
    for line in warnings() {
        println!("told: {line}");
    }
    if scenario == Scenario::Silent { peer.agree() } else { Ok(()) }
}

/// The two sides do not fit (keys, transports); the caller must be told, whatever the listener is.
fn refuse(peer: &mut Peer<'_>) -> Outcome {
    let (listener, handle) = peer.plugin.listen(peer.context, peer.device)?;
    peer.words.get_mut().write_all(&handle)?;
    let mut theirs = [0; 128];
    peer.words.read_exact(&mut theirs)?;
    let code = until("a refusal", || {
        // The listener goes on listening: a stranger is nobody it would fail for.
        let _ = peer.plugin.accept(listener);
        match peer.plugin.connect(peer.context, peer.device, &mut theirs) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err("connected although the sides do not fit".into()),
            Err(refused) => Ok(Some(refused.code)),
        }
    })?;
    println!("rank {}: refused with code {code}", peer.rank);
    for line in warnings() {
        println!("told: {line}");
    }
    // The other side is still to be answered.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        let _ = peer.plugin.accept(listener);
        std::thread::yield_now();
    }
    Ok(())
}
