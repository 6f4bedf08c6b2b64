//! Carries steps out on all nodes at once, through root's rights, and tells each as it is done.

use std::time::Duration;

use serde_json::{Value, json};

use super::Work;
use super::error::ConfigureError;
use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::facts::Facts;
use crate::script::APPLY;
use crate::session::{Session, at_once};

/// Packages and images come over slow lines; the script itself gives up before.
const PATIENCE: Duration = Duration::from_secs(2400);

/// How root's rights are had.
#[derive(Debug)]
pub struct Rights {
    password: Option<String>,
}

impl Rights {
    /// Asks for the password if it was said that one is needed, and some node needs one.
    pub fn ask<'a>(ask: bool, mut nodes: impl Iterator<Item = &'a Facts>) -> Result<Self, ClusterError> {
        let needed = ask && nodes.any(|facts| facts.uid != 0 && !facts.sudo);
        let password =
            needed.then(|| rpassword::prompt_password("sudo's password on the nodes: ")).transpose();
        let password = password.map_err(|_| ConfigureError::NoTerminal)?;
        Ok(Self { password })
    }

    fn open(&self, config: &Config, node: &Node, facts: &Facts) -> Result<Session, ClusterError> {
        let refused = |cause: &str| ConfigureError::NoRoot {
            node: node.name.clone(),
            user: facts.user.clone(),
            cause: cause.to_owned(),
        };
        let (first, password): (&[&str], _) = match (facts.uid, facts.sudo, &self.password) {
            (0, ..) => (&[], None),
            (_, true, _) => (&["sudo", "-n"], None),
            // -k: a password that sudo remembers from before is not used, so the one given is always read.
            (_, false, Some(password)) => (&["sudo", "-k", "-S", "-p", ""], Some(password.as_str())),
            (_, false, None) => return Err(refused("sudo asks for a password").into()),
        };
        let mut session = Session::open(config, node, &APPLY, first, password)?;
        let start = config.timeouts.connect + Duration::from_secs(15);
        match session.ask(&json!({"op": "journal"}), start) {
            Ok(answer) => refusal(&answer).map_or(Ok(session), |cause| Err(refused(&cause).into())),
            // sudo's own words, which ssh brings.
            Err(error) if password.is_some() || !first.is_empty() => Err(refused(&error.to_string()).into()),
            Err(error) => Err(error),
        }
    }
}

/// What the script would rather not do.
fn refusal(answer: &Value) -> Option<String> {
    answer["refused"].as_str().map(str::to_owned)
}

/// All nodes at once; on each, step by step until one fails.
pub fn apply(config: &Config, work: &[Work], rights: &Rights) -> Vec<Result<(), ClusterError>> {
    at_once(work.iter().collect(), |work| {
        let node = config.nodes[work.index].get_ref();
        let mut session = rights.open(config, node, &work.facts)?;
        for step in &work.steps {
            let failed = |cause: String| ConfigureError::Step {
                node: node.name.clone(),
                step: step.name.to_owned(),
                cause,
            };
            let request = json!({"op": "apply", "user": work.facts.user, "step": step});
            let answer = session.ask(&request, PATIENCE).map_err(|error| failed(error.to_string()))?;
            if let Some(cause) = refusal(&answer) {
                return Err(failed(cause).into());
            }
            println!("{}: {}: done", node.name, step.title);
        }
        Ok(())
    })
}

/// All nodes at once; on each, the last step first.
pub fn undo(config: &Config, work: &[Work], rights: &Rights) -> Vec<Result<(), ClusterError>> {
    at_once(work.iter().collect(), |work| {
        let node = config.nodes[work.index].get_ref();
        let mut session = rights.open(config, node, &work.facts)?;
        loop {
            let failed = |cause: String| ConfigureError::Undo { node: node.name.clone(), cause };
            let answer =
                session.ask(&json!({"op": "undo"}), PATIENCE).map_err(|error| failed(error.to_string()))?;
            if let Some(cause) = refusal(&answer) {
                return Err(failed(cause).into());
            }
            let Some(title) = answer["title"].as_str() else { return Ok(()) };
            println!("{}: taken back: {title}", node.name);
            for note in answer["notes"].as_array().into_iter().flatten() {
                println!("{}: note: {}", node.name, note.as_str().unwrap_or_default());
            }
        }
    })
}

/// Prints every failure; how many there were.
pub fn report(results: Vec<Result<(), ClusterError>>) -> usize {
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    failed.iter().for_each(crate::error::print);
    failed.len()
}
