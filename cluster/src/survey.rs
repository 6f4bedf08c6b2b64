//! Asks all nodes at once what they are like. A node that cannot be asked is an error of its own; the others answer.

use std::time::{Duration, Instant};

use miette::Diagnostic as _;
use serde_json::{Value, json};

use crate::config::{Config, Container, Node};
use crate::configure;
use crate::error::ClusterError;
use crate::facts::Facts;
use crate::script::FACTS;
use crate::session::{Session, at_once};
use crate::target;

/// Asking a cold machine for the versions of large packages takes its time.
const PATIENCE: Duration = Duration::from_secs(240);
/// Connecting is bounded by ssh itself; this is for the interpreter behind it.
const START: Duration = Duration::from_secs(10);

/// A node that answered.
#[derive(Debug)]
pub struct Surveyed {
    pub session: Session,
    pub facts: Facts,
    /// How far its clock is ahead of this machine's, in seconds, and how sure that is.
    pub clock: (f64, f64),
}

/// All nodes, in the order of the configuration.
pub fn survey(config: &Config) -> Vec<Result<Surveyed, ClusterError>> {
    at_once(config.nodes().enumerate().collect(), |(index, node)| ask(config, index, node))
}

/// One node.
pub fn ask(config: &Config, index: usize, node: &Node) -> Result<Surveyed, ClusterError> {
    let mut session = Session::open(config, node, &FACTS, &[], None)?;
    session.ask(&json!({"op": "clock"}), config.timeouts.connect + START)?;
    let clock = clock(&mut session, config)?;
    let answer = session.ask(&request(config, index, node), PATIENCE)?;
    let facts = serde_json::from_value(answer).map_err(|error| ClusterError::Agent {
        node: node.name.clone(),
        what: "facts".to_owned(),
        cause: error.to_string(),
    })?;
    Ok(Surveyed { session, facts, clock })
}

fn request(config: &Config, index: usize, node: &Node) -> Value {
    let mut python = config.container.as_ref().map(Container::inside).unwrap_or_default();
    python.push(config.python_of(node));
    let container = config.container.as_ref();
    json!({
        "op": "facts",
        "packages": target::all_packages(config),
        "files": configure::files(),
        "python": python,
        "container": container.map(|container| json!({"engine": container.engine.name(), "name": container.name})),
        "model": config.model.get_ref(),
        "host": config.host.to_string(),
        "port": (index == 0).then_some(config.port),
    })
}

/// The offset of the node's clock, by one question whose round trip bounds the error.
fn clock(session: &mut Session, config: &Config) -> Result<(f64, f64), ClusterError> {
    let now = || {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    };
    let (before, started) = (now(), Instant::now());
    let answer = session.ask(&json!({"op": "clock"}), config.timeouts.connect + START)?;
    let half = started.elapsed().as_secs_f64() / 2.0;
    Ok((answer["now"].as_f64().unwrap_or_default() - before - half, half))
}

/// The code and the help of an error.
pub fn advice(error: &ClusterError) -> (String, String) {
    let code = error.code().map(|code| code.to_string()).unwrap_or_default();
    (code, error.help().map(|help| help.to_string()).unwrap_or_default())
}
