//! The rig of virtual machines with Soft-RoCE: all rounds of a place run in one boot, peer after peer.
//!
//! The guests see this machine's files, so its programs, and the scripts in `peers/guest`, run there as they are. What
//! they measure comes back line by line; `peers/guest/functions.sh` says how.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use halo_soft_roce::{Kernel, Outcome, Rig};

use crate::error::Error;
use crate::line::Line;
use crate::peers::{Peer, Place, built, halo_rank, root};
use crate::results::Results;

/// What booting and one round may take, on a machine that has other work to do.
const ROUND: Duration = Duration::from_secs(240);

/// Whom a place in the rig knows, in the order of the tables.
pub fn peers(place: Place) -> &'static [Peer] {
    match place {
        Place::OneMachine => {
            &[Peer::Halo, Peer::IbWriteLat, Peer::Exchange, Peer::ExchangeSum, Peer::ExchangeFlagSum]
        }
        Place::PluginOneMachine => &[Peer::Halo, Peer::FabricWrite, Peer::IbWriteLat],
        Place::PluginRdma => &[Peer::Halo, Peer::FabricWrite, Peer::IbWriteLat, Peer::IbWriteBwOneWay],
        _ => &[
            Peer::Halo,
            Peer::OpenMpi,
            Peer::IbWriteLat,
            Peer::Exchange,
            Peer::ExchangeSum,
            Peer::ExchangeFlagSum,
            Peer::IbWriteBw,
        ],
    }
}

/// Runs every peer of a place once per round, all rounds in one boot.
///
/// # Errors
/// Machines that could not be made, or a peer that failed there.
pub fn run(place: Place, rounds: usize, without: &[Peer], results: &mut Results) -> Result<(), Error> {
    let peers: Vec<Peer> = peers(place).iter().copied().filter(|peer| !without.contains(peer)).collect();
    // Under the workspace, because /tmp and /run of the guests are their own.
    let cache = root().join(".cache");
    let ssh = tempfile::tempdir_in(&cache).map_err(Error::system("making a folder for ssh's keys"))?;
    ssh_without_questions(ssh.path())?;
    let names: Vec<&str> = peers.iter().map(|peer| peer.tag()).collect();
    let rig = Rig::new()
        .kernel(Kernel::Quick)
        .timeout(ROUND * (rounds as u32 + 1))
        .env("HALO_KEY", "a key for this run")
        .env("HALO_RANK", halo_rank().display().to_string())
        .env("OPENMPI", cache.join("peers/openmpi").display().to_string())
        .env("SSH", ssh.path().display().to_string())
        .env("EXCHANGE", built("exchange").display().to_string())
        .env("FABRIC_WRITE", built("fabric-write").display().to_string())
        .env("PLUGIN_HOST", built("plugin-host").display().to_string())
        .env("PLUGIN", built("libhalo.so").display().to_string())
        .env("PEERS", names.join(" "))
        .env("ROUNDS", rounds.to_string());
    let script = |name: &str| format!("bash {}", root().join("benches/peers/guest").join(name).display());
    let outcome = match place {
        Place::OneMachine => rig.vcpus(2).run(&[script("one-machine.sh")])?,
        Place::PluginOneMachine => rig.vcpus(2).run(&[script("plugin-one-machine.sh")])?,
        Place::PluginRdma => rig.run(&[script("plugin.sh"), script("plugin.sh")])?,
        _ => rig.run(&[script("two-machines.sh"), script("two-machines.sh")])?,
    };
    take(place, rounds, &peers, &outcome, results)
}

/// A pair of keys and configurations that let the machines of one boot into each other.
fn ssh_without_questions(folder: &Path) -> Result<(), Error> {
    let at = |name: &str| folder.join(name).display().to_string();
    for key in ["host_key", "user_key"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
        if !made.map_err(Error::system("starting ssh-keygen, of openssh-client"))?.success() {
            let cause = "ssh-keygen failed".to_owned();
            return Err(Error::System { what: format!("making {}", at(key)), cause });
        }
    }
    let server = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n",
        at("host_key"),
        at("user_key.pub")
    );
    let client = format!(
        "IdentityFile {}\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n",
        at("user_key")
    );
    for (name, text) in [("sshd_config", server), ("ssh_config", client)] {
        std::fs::write(folder.join(name), text).map_err(Error::system(format!("writing {}", at(name))))?;
    }
    Ok(())
}

/// Reads what the guests printed; every peer must have spoken in every round.
fn take(
    place: Place,
    rounds: usize,
    peers: &[Peer],
    outcome: &Outcome,
    results: &mut Results,
) -> Result<(), Error> {
    let printed: String = outcome.vms.iter().map(|vm| vm.output.as_str()).collect();
    let failed = |peer: &str, status: String| Error::Failed {
        peer: peer.to_owned(),
        place: place.to_string(),
        status,
        // Samples are of no help here, and long.
        output: printed.lines().filter(|line| line.len() < 400).collect::<Vec<_>>().join("\n"),
    };
    if !outcome.succeeded() {
        let status = if outcome.timed_out { "the time was up" } else { "a machine's script failed" };
        return Err(failed("a peer", status.to_owned()));
    }
    for vm in &outcome.vms {
        let mut round = 0;
        for words in vm.output.lines().filter_map(|line| line.strip_prefix("@ ")) {
            if let Some(number) = words.strip_prefix("round ") {
                round = number.trim().parse().unwrap_or(round);
            } else if let Some((peer, line)) = measurement(words) {
                results.add(place, peer, round, vec![line]);
            }
        }
    }
    for peer in peers {
        let measured = |round: &usize| {
            let mut samples = results.samples.iter();
            samples.any(|sample| sample.place == place && sample.peer == *peer && sample.round == *round)
        };
        if let Some(round) = (1..=rounds).find(|round| !measured(round)) {
            return Err(failed(peer.name(), format!("nothing was measured in round {round}")));
        }
    }
    Ok(())
}

/// `PEER {json}` or `PEER BYTES SAMPLE...`; the plugin's own host calls itself by its name.
pub(crate) fn measurement(words: &str) -> Option<(Peer, Line)> {
    let (name, rest) = words.split_once(' ')?;
    let peer = Peer::value_variants()
        .iter()
        .copied()
        .find(|peer| peer.tag() == name || name == "plugin" && *peer == Peer::Halo)?;
    if rest.starts_with('{') {
        return Some((peer, serde_json::from_str(rest).ok()?));
    }
    let mut numbers = rest.split_whitespace();
    let bytes = numbers.next()?.parse().ok()?;
    let samples: Vec<Duration> = numbers
        .filter_map(|sample| Some(Duration::from_secs_f64(sample.parse::<f64>().ok()? / 1e6)))
        .collect();
    (!samples.is_empty()).then(|| (peer, Line::of(bytes, "none", &samples)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_lines_of_json_are_read_and_the_rest_is_not() {
        let (peer, line) = measurement("ib_write_lat 8 11.5 12.5 13.5").unwrap();
        assert_eq!((peer, line.bytes), (Peer::IbWriteLat, 8));
        assert!((line.p50_us - 12.5).abs() < 1e-3, "{line:?}");
        let (peer, line) =
            measurement(r#"halo {"bytes":64,"dtype":"bf16","p10_us":1.0,"p50_us":2.0,"allocations":0}"#)
                .unwrap();
        assert_eq!((peer, line.bytes, line.allocations), (Peer::Halo, 64, Some(0)));
        for nothing in
            [r#"halo {"arena_bytes":5}"#, "ib_write_lat 8", "somebody 8 1.0", "ib_write_lat eight 1"]
        {
            assert_eq!(measurement(nothing), None, "{nothing}");
        }
    }
}
