//! Running a driver: one process, or one per rank, until all have ended or the time is up.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::error::Error;
use crate::line::{Line, Work};
use crate::rig;

/// The longest that one driver may take for its sizes.
const LIMIT: Duration = Duration::from_secs(300);
/// How long a launcher may take to end its ranks once it is asked.
const GRACE: Duration = Duration::from_secs(5);

/// A command line with its environment.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Program, then arguments.
    pub words: Vec<OsString>,
    /// Variables beyond this process's.
    pub environment: Vec<(&'static str, String)>,
}

impl Invocation {
    /// A command line.
    pub fn new(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let program = program.as_ref().as_os_str().to_owned();
        let words = std::iter::once(program).chain(arguments.iter().map(OsString::from)).collect();
        Self { words, environment: Vec::new() }
    }

    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }
}

/// Runs one driver's processes, each with `work` at the end of its command line, and returns what they measured.
///
/// # Errors
/// A process that cannot start, fails or does not end, or a size without an answer.
pub fn run(peer: &str, place: &str, processes: &[Invocation], work: &[Work]) -> Result<Vec<Line>, Error> {
    let output = collect(peer, place, processes, work)?;
    // A driver may say first for whom a line is.
    let json = |line: &str| Some(rig::measurement(line.strip_prefix("@ ")?)?.1);
    let lines: Vec<Line> =
        output.lines().filter_map(|line| serde_json::from_str(line).ok().or_else(|| json(line))).collect();
    for wanted in work {
        if !lines.iter().any(|line| line.bytes == wanted.bytes) {
            return Err(Error::Incomplete {
                peer: peer.to_owned(),
                place: place.to_owned(),
                bytes: wanted.bytes,
                output,
            });
        }
    }
    Ok(lines)
}

/// What all processes printed on standard output, once all have succeeded.
///
/// # Errors
/// As [`run`].
pub fn collect(peer: &str, place: &str, processes: &[Invocation], work: &[Work]) -> Result<String, Error> {
    let (send, arrivals) = mpsc::channel();
    let mut running = Running(Vec::new());
    for process in processes {
        let child = Command::new(&process.words[0])
            .args(&process.words[1..])
            .args(work.iter().map(ToString::to_string))
            .envs(process.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::Missing {
                    peer: peer.to_owned(),
                    path: process.words[0].to_string_lossy().into_owned(),
                },
                _ => Error::System { what: format!("starting {peer}"), cause: error.to_string() },
            })?;
        let pid = Pid::from_child(&child);
        running.0.push(pid);
        let send = send.clone();
        std::thread::spawn(move || send.send((pid, child.wait_with_output())));
    }
    drop(send);
    let mut printed = String::new();
    let deadline = Instant::now() + LIMIT;
    while !running.0.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((pid, output)) = arrivals.recv_timeout(left) else {
            return Err(Error::TimedOut {
                peer: peer.to_owned(),
                place: place.to_owned(),
                seconds: LIMIT.as_secs(),
            });
        };
        running.0.retain(|other| *other != pid);
        let output = output.map_err(Error::system(format!("waiting for {peer}")))?;
        succeeded(peer, place, &output)?;
        printed += &String::from_utf8_lossy(&output.stdout);
    }
    Ok(printed)
}

fn succeeded(peer: &str, place: &str, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let words = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Err(Error::Failed {
        peer: peer.to_owned(),
        place: place.to_owned(),
        status: output.status.to_string(),
        output: words.concat().trim_end().to_owned(),
    })
}

/// Processes that still run; whoever is left when this goes away is asked to end, then ended. They stay in this
/// program's group, so that Ctrl-C reaches them too.
struct Running(Vec<Pid>);

impl Drop for Running {
    fn drop(&mut self) {
        // A launcher ends its ranks when it is asked; killed at once it would leave them behind.
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        let alive = |pid: &&Pid| test_kill_process(**pid).is_ok();
        while Instant::now() < deadline && self.0.iter().any(|pid| alive(&pid)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<Invocation> {
        vec![Invocation::new("/bin/sh", &["-c", script, "sh"])]
    }

    #[test]
    fn lines_of_json_are_answers_and_the_rest_is_talk() {
        let script = r#"echo hello; echo "{\"bytes\":${1%:*},\"dtype\":\"f32\",\"p10_us\":1,\"p50_us\":2}""#;
        let lines = run("peer", "here", &shell(script), &[Work { bytes: 64, iterations: 3 }]).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].bytes, lines[0].dtype.as_str()), (64, "f32"));
    }

    #[test]
    fn a_failure_an_absence_and_a_gap_are_told_apart() {
        let work = [Work { bytes: 64, iterations: 3 }];
        let failed = run("peer", "here", &shell("echo out of luck >&2; exit 3"), &work).unwrap_err();
        assert!(
            matches!(&failed, Error::Failed { .. }) && failed.to_string().contains("out of luck"),
            "{failed}"
        );
        let missing = run("peer", "here", &[Invocation::new("/nowhere/driver", &[])], &work).unwrap_err();
        assert!(matches!(missing, Error::Missing { .. }), "{missing}");
        let gap = run("peer", "here", &shell("echo nothing measured"), &work).unwrap_err();
        assert!(matches!(&gap, Error::Incomplete { bytes: 64, .. }), "{gap}");
    }

    #[test]
    fn when_one_rank_fails_the_others_are_ended() {
        let mut processes = shell("exit 1");
        processes.extend(shell("while :; do sleep 1; done"));
        let error = collect("peer", "here", &processes, &[]).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
}
