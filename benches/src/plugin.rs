//! The net plugin's streams over loopback beside one stream of iperf3, and beside a bare pair of sockets: iperf3 sends one
//! small buffer again and again, which stays in the cache; messages come from memory and go to memory.

use crate::driver::{self, Invocation};
use crate::error::Error;
use crate::floor;
use crate::line::Line;
use crate::peers::{Peer, Place, built, free_port};
use crate::results::Results;
use crate::rig::measurement;

/// Messages of one size, one after the other.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// Of a message.
    bytes: usize,
    messages: usize,
    /// How many are under way at a time, each in a buffer of its own.
    depth: usize,
}

/// Both are 1.5 GiB: 64 MiB in one message, and as NCCL sends 64 MiB, in the eighths of its buffer of 4 MiB (NCCL_BUFFSIZE,
/// NCCL_STEPS), which it uses again and again.
const STREAMS: [Stream; 2] = [
    Stream { bytes: 64 << 20, messages: 24, depth: 2 },
    Stream { bytes: 512 << 10, messages: 24 * 128, depth: 8 },
];

impl Stream {
    fn total(self) -> usize {
        self.bytes * self.messages
    }
}

/// Runs the plugin, iperf3 and the bare sockets in turn, `rounds` times; `told` hears what runs.
///
/// # Errors
/// One of them that cannot run.
pub fn run(
    rounds: usize,
    without: &[Peer],
    results: &mut Results,
    mut told: impl FnMut(usize, Peer),
) -> Result<(), Error> {
    let place = Place::PluginTcp;
    for round in 0..rounds {
        let mut peers = [Peer::Halo, Peer::Iperf3, Peer::Floor];
        peers.rotate_left(round % 3);
        for peer in peers.into_iter().filter(|peer| !without.contains(peer)) {
            told(round, peer);
            let lines = match peer {
                Peer::Halo => STREAMS.map(plugin).into_iter().collect::<Result<_, _>>()?,
                Peer::Iperf3 => iperf3()?,
                _ => {
                    let bare = |Stream { bytes, messages, depth }| floor::stream(bytes, messages, depth);
                    STREAMS.map(bare).into_iter().collect::<Result<_, _>>()?
                }
            };
            results.add(place, peer, round, lines);
        }
    }
    Ok(())
}

fn plugin(stream: Stream) -> Result<Line, Error> {
    let Stream { bytes, messages, depth } = stream;
    let rendezvous = format!("127.0.0.1:{}", free_port()?);
    let library = built("libhalo.so").display().to_string();
    let work = format!("stream:{bytes}:{messages}:{depth}");
    let rank = |rank: &str| {
        let words =
            ["--library", &library, "peer", "bench", "--rank", rank, "--rendezvous", &rendezvous, &work];
        Invocation::new(built("plugin-host"), &words)
            .env("HALO_TRANSPORT", "tcp")
            .env("NCCL_SOCKET_IFNAME", "lo")
    };
    let printed = driver::collect("the plugin", Place::PluginTcp.name(), &[rank("0"), rank("1")], &[])?;
    let line = printed.lines().find_map(|line| measurement(line.strip_prefix("@ ")?));
    line.map(|(_, line)| line).ok_or_else(|| incomplete("the plugin", bytes, printed))
}

/// One stream, whose rate is told as the time of each of the plugin's messages.
fn iperf3() -> Result<Vec<Line>, Error> {
    let number = free_port()?;
    let port = number.to_string();
    // As many bytes as the plugin moves. The client looks whether the server listens before it calls: a call that fails
    // could be the one that the server waits for.
    let bytes = STREAMS[0].total().to_string();
    let listening =
        format!("until grep -q '0100007F:{number:04X} .* 0A ' /proc/net/tcp; do sleep 0.05; done");
    let client = format!("{listening}; iperf3 -J -c 127.0.0.1 -p {port} -n {bytes}");
    let processes = [
        Invocation::new("iperf3", &["-s", "-1", "-B", "127.0.0.1", "-p", &port, "-J"]),
        Invocation::new("/bin/sh", &["-c", &client]),
    ];
    let printed = driver::collect("iperf3", Place::PluginTcp.name(), &processes, &[])?;
    // Server and client both print.
    let rate = serde_json::Deserializer::from_str(&printed)
        .into_iter::<serde_json::Value>()
        .map_while(Result::ok)
        .find_map(|told| told["end"]["sum_received"]["bits_per_second"].as_f64().filter(|rate| *rate > 0.0));
    let rate = rate.ok_or_else(|| incomplete("iperf3", STREAMS[0].bytes, printed))?;
    let line = |Stream { bytes, .. }| {
        let time = bytes as f64 * 8.0 / rate * 1e6;
        Line { bytes, dtype: "none".to_owned(), p10_us: time, p50_us: time, allocations: None, copied: None }
    };
    Ok(STREAMS.map(line).to_vec())
}

fn incomplete(peer: &str, bytes: usize, output: String) -> Error {
    let place = Place::PluginTcp.name().to_owned();
    Error::Incomplete { peer: peer.to_owned(), place, bytes, output }
}
