//! vLLM itself: start it, wait until it answers, try its API, and see that its ranks use halo.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::loading::Loading;
use crate::agent::{Event, Message};
use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::plan::{self, Facts, Secrets};
use crate::progress::Phase;
use crate::report;
use crate::state::State;

/// How long the ranks' statistics may take to arrive after the first token.
const STATISTICS: Duration = Duration::from_secs(10);
/// Ranks renew their statistics every second; without news for longer, there is none.
const QUIET: Duration = Duration::from_millis(1800);
/// A few tokens of a served model.
const FEW_TOKENS: Duration = Duration::from_secs(120);

/// From nothing to a model that answers.
pub fn run(
    cluster: &mut Cluster,
    facts: &[Facts],
    secrets: &Secrets,
    state: &mut State,
) -> Result<(), ClusterError> {
    let ready = cluster.config.timeouts.ready;
    let deadline = Instant::now() + ready;
    let log = cluster.log(0, "vllm");
    let mut loading = Loading::start(&cluster.config);
    for job in plan::serve(&cluster.config, facts, secrets) {
        cluster.start(&job)?;
    }
    loop {
        if http(cluster, "GET", "/health", &Value::Null, Duration::from_secs(5))?.0 == 200 {
            break;
        }
        if Instant::now() > deadline {
            return Err(ClusterError::NotReady { seconds: ready.as_secs(), log });
        }
        // The server says nothing when it becomes ready, so it is asked again; what ends meanwhile is noticed here.
        cluster.wait(Some(Instant::now() + Duration::from_millis(500)), |node, message| {
            if let Message::Event(Event::Output { process, line }) = message
                && process == "vllm"
            {
                loading.heard(node, line);
            }
            None::<()>
        })?;
    }
    loading.done();
    first_token(cluster, state, deadline, &log)?;
    try_api(cluster, &state.model, log.clone())?;
    all_ranks_use_halo(cluster, log)
}

fn first_token(
    cluster: &mut Cluster,
    state: &mut State,
    deadline: Instant,
    log: &str,
) -> Result<(), ClusterError> {
    let phase = Phase::start("first token");
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(30));
    let (_, models) = http(cluster, "GET", "/v1/models", &Value::Null, Duration::from_secs(10))?;
    let model = serde_json::from_str::<Value>(&models).unwrap_or_default()["data"][0]["id"].clone();
    let body = json!({"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0});
    let (status, text) = http(cluster, "POST", "/v1/completions", &body, left)?;
    if status != 200 {
        let (text, log) = (text.chars().take(300).collect(), log.to_owned());
        return Err(ClusterError::FirstToken { status, text, log });
    }
    phase.done("");
    model.as_str().unwrap_or_default().clone_into(&mut state.model);
    state.endpoint = super::endpoint(&cluster.config);
    Ok(())
}

/// What clients do besides: a completion in pieces, to its end.
fn try_api(cluster: &mut Cluster, model: &str, log: String) -> Result<(), ClusterError> {
    let phase = Phase::start("try the API");
    let body = json!({"model": model, "prompt": "Hello", "max_tokens": 4, "temperature": 0, "stream": true});
    let (status, text) = http(cluster, "POST", "/v1/completions", &body, FEW_TOKENS)?;
    let pieces = text.lines().filter(|line| line.starts_with("data: {")).count();
    if status != 200 || pieces == 0 || !text.contains("data: [DONE]") {
        let text = text.chars().take(300).collect();
        return Err(ClusterError::ApiBroken { status, text, log });
    }
    phase.done(&format!("a completion in {pieces} pieces"));
    Ok(())
}

/// An HTTP request to vLLM, made on the head: from here its port may be out of reach.
fn http(
    cluster: &mut Cluster,
    method: &str,
    path: &str,
    body: &Value,
    timeout: Duration,
) -> Result<(u64, String), ClusterError> {
    let host = cluster.config.host;
    let host = if host.is_unspecified() { "127.0.0.1".to_owned() } else { host.to_string() };
    let request = json!({"op": "http", "method": method, "host": host, "port": cluster.config.port, "path": path,
        "body": body, "timeout": timeout.as_secs()});
    let answer = cluster.ask(0, request, timeout + Duration::from_secs(5))?;
    Ok((
        answer["status"].as_u64().unwrap_or_default(),
        answer["text"].as_str().unwrap_or_default().to_owned(),
    ))
}

/// vLLM would also serve without halo; that must not go unnoticed.
fn all_ranks_use_halo(cluster: &mut Cluster, log: String) -> Result<(), ClusterError> {
    let world = cluster.config.world();
    if world == 1 {
        return Ok(());
    }
    let deadline = Instant::now() + STATISTICS;
    loop {
        let reported = report::tensor_parallel_ranks(&cluster.ranks, world);
        if reported >= world {
            return settle(cluster);
        }
        if Instant::now() > deadline {
            return Err(ClusterError::HaloUnused { reported, world, log });
        }
        cluster.wait(Some(Instant::now() + Duration::from_millis(200)), |_, _| None::<()>)?;
    }
}

/// Statistics arrive a little after the fact. What is reported as the state of a served model should have all that
/// the first token took, on every rank.
fn settle(cluster: &mut Cluster) -> Result<(), ClusterError> {
    let deadline = Instant::now() + STATISTICS;
    while Instant::now() < deadline {
        let before = report::operations(&cluster.ranks);
        cluster.wait(Some(Instant::now() + QUIET), |_, _| None::<()>)?;
        if report::operations(&cluster.ranks) == before {
            break;
        }
    }
    Ok(())
}
