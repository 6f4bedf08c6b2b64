//! A model that is served: watched over until something ends, and then stopped with all that was started.

use std::time::{Duration, Instant};

use crate::agent::{Event, Message};
use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::progress;
use crate::report;
use crate::state::{Folder, State};

/// How often the state on disk is renewed while ranks work.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long vLLM gets to tell its clients of a failure before it is stopped.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Until something ends. There is no good end but an interrupt, so this returns errors only. A disk that is full by now
/// ends nothing: it is said once, `status` and the logs stand still, and each log says later what it lacks.
pub fn supervise(cluster: &mut Cluster, state: &mut State, folder: &Folder) -> Result<(), ClusterError> {
    let mut said = false;
    loop {
        cluster.wait(Some(Instant::now() + RENEWAL), |_, _| None::<()>)?;
        let mut refused = cluster.log_lost.take().map(|source| folder.refuse(source));
        if report::operations(&state.ranks) != report::operations(&cluster.ranks) {
            state.ranks.clone_from(&cluster.ranks);
            refused = folder.write(state).err().or(refused);
        }
        if let Some(error) = refused.filter(|_| !said) {
            crate::error::print(&error);
            progress::say("the model is served on; status and logs lack what comes until there is room");
            said = true;
        }
    }
}

/// When a rank ended, vLLM is about to answer its clients with an error and to end by itself.
pub fn last_words(cluster: &mut Cluster, error: &ClusterError, state: &State) {
    if state.phase != "ready" || !matches!(error, ClusterError::RankEnded { .. }) {
        return;
    }
    let deadline = Instant::now() + LAST_WORDS;
    // Whatever else ends now is a consequence.
    while Instant::now() < deadline {
        let ended = cluster.wait(Some(deadline), |_, message| match message {
            Message::Event(Event::Exited { process, .. }) => Some(process == "vllm"),
            Message::Event(Event::RankEnded { .. }) => Some(false),
            _ => None,
        });
        if !matches!(ended, Ok(Some(false))) {
            return;
        }
    }
}

pub fn shut_down(
    cluster: &mut Cluster,
    state: &mut State,
    folder: &Folder,
    good: bool,
) -> Result<(), ClusterError> {
    "stopping".clone_into(&mut state.phase);
    state.ranks.clone_from(&cluster.ranks);
    // Whether it can be kept is seen at the end: nothing may keep what runs from being stopped.
    let _ = folder.write(state);
    let phase = progress::Phase::start("stop everything");
    let unclean = cluster.stop();
    if unclean.is_empty() {
        phase.done("");
    } else {
        phase.done(&format!("but {} cannot be asked; what runs there stops by itself", unclean.join(", ")));
    }
    (if good { "stopped" } else { "failed" }).clone_into(&mut state.phase);
    for rank in &mut state.ranks {
        rank.alive = false;
    }
    folder.write(state)
}
