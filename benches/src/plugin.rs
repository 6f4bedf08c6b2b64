//! The net plugin's stream over loopback beside one stream of iperf3, and beside a bare pair of sockets: iperf3 sends one
//! small buffer again and again, which stays in the cache; messages come from memory and go to memory.

use crate::driver::{self, Invocation};
use crate::error::Error;
use crate::floor;
use crate::line::Line;
use crate::peers::{Peer, Place, built, free_port};
use crate::results::Results;
use crate::rig::measurement;

/// Bytes of a message, how many, and how many at one time: 1.5 GiB.
const MESSAGE: usize = 64 << 20;
const MESSAGES: usize = 24;
const DEPTH: usize = 2;

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
            let line = match peer {
                Peer::Halo => plugin()?,
                Peer::Iperf3 => iperf3()?,
                _ => floor::stream(MESSAGE, MESSAGES, DEPTH)?,
            };
            results.add(place, peer, round, vec![line]);
        }
    }
    Ok(())
}

fn plugin() -> Result<Line, Error> {
    let rendezvous = format!("127.0.0.1:{}", free_port()?);
    let library = built("libhalo.so").display().to_string();
    let work = format!("stream:{MESSAGE}:{MESSAGES}:{DEPTH}");
    let rank = |rank: &str| {
        let words =
            ["--library", &library, "peer", "bench", "--rank", rank, "--rendezvous", &rendezvous, &work];
        Invocation::new(built("plugin-host"), &words)
            .env("HALO_TRANSPORT", "tcp")
            .env("NCCL_SOCKET_IFNAME", "lo")
    };
    let printed = driver::collect("the plugin", Place::PluginTcp.name(), &[rank("0"), rank("1")], &[])?;
    let line = printed.lines().find_map(|line| measurement(line.strip_prefix("@ ")?));
    line.map(|(_, line)| line).ok_or_else(|| incomplete("the plugin", printed))
}

fn iperf3() -> Result<Line, Error> {
    let number = free_port()?;
    let port = number.to_string();
    // As many bytes as the plugin moves. The client looks whether the server listens before it calls: a call that fails
    // could be the one that the server waits for.
    let bytes = (MESSAGE * MESSAGES).to_string();
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
    let rate = rate.ok_or_else(|| incomplete("iperf3", printed))?;
    let time = MESSAGE as f64 * 8.0 / rate * 1e6;
    Ok(Line { bytes: MESSAGE, dtype: "none".to_owned(), p10_us: time, p50_us: time, allocations: None })
}

fn incomplete(peer: &str, output: String) -> Error {
    let place = Place::PluginTcp.name().to_owned();
    Error::Incomplete { peer: peer.to_owned(), place, bytes: MESSAGE, output }
}
