//! A host for the net plugin: it loads the built library and drives it the way RCCL and NCCL do, through every version
//! of the interface: calls that are repeated until they give something, many requests at once, two threads on one
//! connection, and everything that goes wrong.
//!
//! [`plugin`] is one face over all versions; [`link`] sets connections up and moves checked messages; [`cases`] are the
//! things tried, each in a process of its own (`plugin-host case NAME`), over tcp here and over RDMA in virtual machines.

pub mod bench;
pub mod cases;
pub mod link;
pub mod pattern;
pub mod peer;
pub mod plugin;
pub mod tuner;

/// What ends a case: words.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The longest that any single wait may take.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Tries until something comes, and gives up after [`PATIENCE`].
///
/// # Errors
/// What `attempt` answers, or nothing came.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("{what} did not come within {PATIENCE:?}").into());
        }
        std::thread::yield_now();
    }
}

/// As [`until`], without giving the processor away: for what is timed.
///
/// # Errors
/// As there.
pub fn spin<T>(what: &str, mut attempt: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    const TURNS: usize = 1000;
    until(what, || {
        for _ in 0..TURNS {
            if let Some(result) = attempt()? {
                return Ok(Some(result));
            }
            std::hint::spin_loop();
        }
        Ok(None)
    })
}
