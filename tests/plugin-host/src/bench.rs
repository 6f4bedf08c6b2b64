//! Latency and bandwidth between two processes. It prints; it asserts nothing.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, madvise};

use crate::link::{Buffer, Link};
use crate::peer::Peer;
use crate::plugin::Plugin;
use crate::{Outcome, spin, until};

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// `latency:BYTES:COUNT`: a ping-pong.
    Latency {
        /// Of each message.
        bytes: usize,
        /// Round trips.
        count: usize,
    },
    /// `stream:BYTES:COUNT:DEPTH`: one way.
    Stream {
        /// Of each message.
        bytes: usize,
        /// Messages.
        count: usize,
        /// Of them under way at one time.
        depth: usize,
    },
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let kind = words.next();
        let numbers: Option<Vec<usize>> =
            words.map(|word| word.parse().ok().filter(|number| *number > 0)).collect();
        match (kind, numbers.as_deref()) {
            (Some("latency"), Some(&[bytes, count])) => Ok(Self::Latency { bytes, count }),
            (Some("stream"), Some(&[bytes, count, depth])) => Ok(Self::Stream { bytes, count, depth }),
            _ => Err(format!("`{text}` is neither latency:BYTES:COUNT nor stream:BYTES:COUNT:DEPTH")),
        }
    }
}

/// Measures what is asked for. Rank 0 prints a line for each: `@ plugin BYTES` and microseconds, halves of the round trips
/// or the average of a stream's messages.
///
/// # Errors
/// The plugin's answer.
pub fn measure(peer: &mut Peer<'_>, work: &[Work]) -> Outcome {
    let link = peer.connect()?;
    for work in work {
        peer.agree()?;
        eprintln!("measuring {work:?}");
        let (bytes, times) = match *work {
            Work::Latency { bytes, count } => (bytes, ping_pong(peer, &link, bytes, count)?),
            Work::Stream { bytes, count, depth } => {
                (bytes, vec![stream(peer, &link, bytes, count, depth)? / count as u32])
            }
        };
        if peer.rank == 0 {
            let times: Vec<_> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64() * 1e6)).collect();
            println!("@ plugin {bytes} {}", times.join(" "));
        }
    }
    peer.agree()?;
    link.close()
}

/// Ping-pong of small messages, then one-way streams of larger ones.
///
/// # Errors
/// The plugin's answer.
pub fn run(peer: &mut Peer<'_>) -> Outcome {
    let link = peer.connect()?;
    for bytes in [8, 1024, 8192, 16384, 65536] {
        let times = ping_pong(peer, &link, bytes, 400)?;
        if peer.rank == 0 {
            let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
            let (least, tenth, half) = (at(0.0), at(0.1), at(0.5));
            println!(
                "{bytes} B one way: {least:.1} us least, {tenth:.1} us 10th percentile, {half:.1} us median"
            );
        }
    }
    for (bytes, count, depth) in [(65536, 800, 16), (1 << 20, 100, 8), (4 << 20, 50, 4), (64 << 20, 8, 2)] {
        peer.agree()?;
        let took = stream(peer, &link, bytes, count, depth)?;
        if peer.rank == 0 {
            let rate = (bytes * count) as f64 / took.as_secs_f64();
            println!(
                "{bytes} B stream of {count}, {depth} at one time: {:.3} GB/s ({:.2} Gb/s)",
                rate / 1e9,
                rate * 8e-9
            );
        }
    }
    peer.agree()?;
    link.close()
}

/// Half round-trip times, sorted.
fn ping_pong(peer: &mut Peer<'_>, link: &Link<'_>, bytes: usize, rounds: usize) -> Outcome<Vec<Duration>> {
    let plugin = link.plugin;
    let (mut source, mut target) =
        (Buffer::new(plugin, link.send, bytes)?, Buffer::new(plugin, link.receive, bytes)?);
    let part = target.part(bytes, 0);
    let post = || spin("a receive", || Ok(plugin.receive(link.receive, &[part])?));
    let mut times = Vec::with_capacity(rounds);
    let mut waiting = post()?;
    peer.agree()?;
    for round in 0..rounds + 20 {
        let began = Instant::now();
        if peer.rank == 0 {
            send(plugin, link, &mut source, bytes)?;
        }
        spin("a message", || Ok(plugin.test(waiting)?))?;
        waiting = post()?;
        if peer.rank == 1 {
            send(plugin, link, &mut source, bytes)?;
        } else if round >= 20 {
            times.push(began.elapsed() / 2);
        }
    }
    // The receive that is still posted takes one more message, so that both ends are even.
    send(plugin, link, &mut source, bytes)?;
    until("the last message", || Ok(plugin.test(waiting)?))?;
    times.sort();
    Ok(times)
}

fn send(plugin: &Plugin, link: &Link<'_>, source: &mut Buffer<'_>, bytes: usize) -> Outcome {
    let (data, memory) = (source.bytes().as_ptr(), source.memory);
    let request = spin("a send", || Ok(plugin.send(link.send, data, bytes, 0, memory)?))?;
    spin("a send's end", || Ok(plugin.test_without_sizes(request)?.then_some(())))
}

/// Rank 0 sends, rank 1 receives; the time until the last has arrived.
fn stream(
    peer: &mut Peer<'_>,
    link: &Link<'_>,
    bytes: usize,
    count: usize,
    depth: usize,
) -> Outcome<Duration> {
    let plugin = link.plugin;
    let sender = peer.rank == 0;
    let comm = if sender { link.send } else { link.receive };
    let mut buffers = (0..depth).map(|_| Buffer::new(plugin, comm, bytes)).collect::<Outcome<Vec<_>>>()?;
    for buffer in &mut buffers {
        // Not to measure how fast page tables are walked. A kernel that gives none goes on with small pages.
        in_huge_pages(buffer.bytes());
        buffer.bytes().fill(1);
    }
    let mut requests = VecDeque::new();
    let (mut posted, mut done) = (0, 0);
    let began = Instant::now();
    while done < count {
        // Each message has its own deadline: a stream is as long as it is.
        until("a message of a stream", || {
            if posted < count && requests.len() < depth {
                let buffer = &mut buffers[posted % depth];
                let request = if sender {
                    plugin.send(comm, buffer.bytes().as_ptr(), bytes, 0, buffer.memory)?
                } else {
                    plugin.receive(comm, &[buffer.part(bytes, 0)])?
                };
                if let Some(request) = request {
                    requests.push_back(request);
                    posted += 1;
                }
            }
            let Some(request) = requests.front() else { return Ok(None) };
            Ok(plugin.test_without_sizes(*request)?.then_some(()))
        })?;
        requests.pop_front();
        done += 1;
        if done == 1 {
            eprintln!("the first of {count} messages is through");
        }
    }
    // Rank 1 has everything when it comes here.
    peer.agree()?;
    Ok(began.elapsed())
}

/// Asks for huge pages where whole ones fit; for memory that was not touched yet.
pub fn in_huge_pages(memory: &mut [u8]) {
    const HUGE: usize = 2 << 20;
    let start = memory.as_ptr().align_offset(HUGE);
    if let Some(whole) = memory.get_mut(start..).filter(|rest| rest.len() >= HUGE) {
        let bytes = whole.len() / HUGE * HUGE;
        // SAFETY: these pages are the slice's own; the advice changes no contents.
        let _ = unsafe { madvise(whole.as_mut_ptr().cast(), bytes, Advice::LinuxHugepage) };
    }
}
