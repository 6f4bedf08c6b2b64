//! The system calls of operations, counted by strace.

use crate::driver::{self, Invocation};
use crate::error::Error;
use crate::line::Work;
use crate::peers;

/// What rank 0's thread asked of the system while it ran operations.
#[derive(Debug)]
pub struct Calls {
    /// Over which transport.
    pub transport: &'static str,
    /// Operations of both ranks.
    pub operations: usize,
    /// As strace writes them.
    pub made: Vec<String>,
}

/// Traces rank 0 of two while they do `work`. Both are told to stay awake and to keep their processors: a rank that waits
/// for milliseconds needs the system for that.
///
/// # Errors
/// No strace, or a rank that failed.
pub fn of(transport: &'static str, work: &[Work]) -> Result<Calls, Error> {
    let folder = tempfile::tempdir().map_err(Error::system("making a folder for strace"))?;
    let trace = folder.path().join("trace");
    let [mut first, second] = <[Invocation; 2]>::try_from(peers::halo(transport, 2)?).expect("two ranks");
    // Without -f, strace follows the thread that runs the operations, and not the one that watches the peers.
    let strace = ["strace".into(), "-o".into(), trace.clone().into_os_string()];
    first.words = strace.into_iter().chain(first.words).chain(["--marks".into()]).collect();
    let ranks = [first, second]
        .map(|rank| rank.env(halo_env::HALO_SPIN.name, "60").env(halo_env::HALO_SLEEP_AFTER.name, "60"));
    driver::collect("halo under strace", transport, &ranks, work)?;
    let trace = std::fs::read_to_string(&trace).map_err(Error::system("reading what strace wrote"))?;
    let (made, sizes) = between_marks(&trace);
    if sizes != work.len() {
        let cause = format!("{sizes} of {} sizes are in the trace", work.len());
        return Err(Error::System { what: "tracing two ranks".to_owned(), cause });
    }
    Ok(Calls { transport, operations: work.iter().map(|work| work.iterations).sum(), made })
}

/// What lies between a rank's marks, and how many pairs of marks there are.
fn between_marks(trace: &str) -> (Vec<String>, usize) {
    let (mut timed, mut sizes, mut made) = (false, 0, Vec::new());
    for call in trace.lines() {
        if call.starts_with("write(1, \"begin") {
            (timed, sizes) = (true, sizes + 1);
        } else if call.starts_with("write(1, \"end") {
            timed = false;
        } else if timed {
            made.push(call.to_owned());
        }
    }
    (made, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_marks_counts() {
        let trace =
            "openat(1)\nwrite(1, \"begin\\n\", 6) = 6\nfutex(2)\nwrite(1, \"end\\n\", 4) = 4\nclose(3)\n";
        assert_eq!(between_marks(trace), (vec!["futex(2)".to_owned()], 1));
    }
}
