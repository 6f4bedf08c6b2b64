//! All ranks on this machine: one process each, started from this same program, ended together.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use halo_ccl::Key;

use crate::args::Placement;
use crate::error::Error;

/// How long ranks may take to end by themselves after one has failed: they have an error of their own to tell.
const GRACE: Duration = Duration::from_secs(5);

enum Event {
    Ended(usize, std::io::Result<ExitStatus>),
    Interrupted,
}

/// Starts the ranks, waits for them, and ends them all when one fails or the user interrupts.
pub(crate) fn run_locally(placement: &Placement) -> Result<ExitCode, Error> {
    let rendezvous = free_address()?;
    let key = Key::generate().map_err(halo_ccl::Error::from)?;
    let (events, arrivals) = mpsc::channel();
    let interrupt = events.clone();
    // A second handler cannot be set in one process, and only this one is ever set.
    let _ = ctrlc::set_handler(move || drop(interrupt.send(Event::Interrupted)));

    let mut ranks = Ranks(Vec::new());
    for rank in 0..placement.ranks {
        let child = start(rank, placement.ranks, &rendezvous, &key)
            .map_err(|error| Error::Spawn { rank, cause: error.to_string() })?;
        let pid = rustix::process::Pid::from_child(&child);
        ranks.0.push(Some(pid));
        let events = events.clone();
        std::thread::spawn(move || {
            let mut child = child;
            let _ = events.send(Event::Ended(rank, child.wait()));
        });
    }
    wait(&arrivals, &mut ranks)
}

fn start(rank: usize, world: usize, rendezvous: &str, key: &Key) -> std::io::Result<Child> {
    // The child gets the same arguments, less the number of ranks, plus its own place.
    let mut arguments = Vec::new();
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--ranks" {
            given.next();
        } else if !argument.to_string_lossy().starts_with("--ranks=") {
            arguments.push(argument);
        }
    }
    std::process::Command::new(std::env::current_exe()?)
        .args(arguments)
        .args(["--rank", &rank.to_string(), "--world", &world.to_string(), "--rendezvous", rendezvous])
        .env(halo_env::HALO_KEY.name, String::from_utf8_lossy(key.expose()).into_owned())
        .spawn()
}

fn free_address() -> Result<String, Error> {
    let host = IpAddr::from(Ipv4Addr::LOCALHOST);
    halo_ccl::reserve_port(host).map(|address| address.to_string()).map_err(|error| {
        let listen = halo_ccl::FabricError::Listen { address: host.to_string(), cause: error.to_string() };
        Error::Collective(listen.into())
    })
}

fn wait(arrivals: &mpsc::Receiver<Event>, ranks: &mut Ranks) -> Result<ExitCode, Error> {
    let mut running = ranks.0.len();
    let mut outcome = Ok(ExitCode::SUCCESS);
    let mut failed = false;
    while running > 0 {
        let event = if failed { arrivals.recv_timeout(GRACE).ok() } else { arrivals.recv().ok() };
        match event {
            Some(Event::Ended(rank, status)) => {
                running -= 1;
                ranks.0[rank] = None;
                let status = status.map_err(|error| Error::Spawn { rank, cause: error.to_string() })?;
                if !status.success() && !failed {
                    failed = true;
                    outcome = match status.signal() {
                        Some(signal) => Err(Error::Killed { rank, signal }),
                        // The rank has told its error itself.
                        None => Ok(ExitCode::FAILURE),
                    };
                }
            }
            Some(Event::Interrupted) => return Err(Error::Interrupted),
            None => return outcome,
        }
    }
    outcome
}

/// The processes that run; whoever is left when this goes away is ended.
struct Ranks(Vec<Option<rustix::process::Pid>>);

impl Drop for Ranks {
    fn drop(&mut self) {
        for pid in self.0.iter().flatten() {
            let _ = rustix::process::kill_process(*pid, rustix::process::Signal::KILL);
        }
    }
}
