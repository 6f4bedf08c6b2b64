//! A model from the hub to the head, and from there to the other nodes over the data network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::catalogue::{Catalogue, check_repository};
use super::error::ModelsError;
use crate::agent::{Event, Message};
use crate::cluster::Cluster;
use crate::cluster::run::Finished;
use crate::config::Config;
use crate::error::ClusterError;
use crate::plan::Job;
use crate::progress::Phase;
use crate::state::{Folder, random_hex};

const DOWNLOAD: &str = include_str!("../../agent/download.py");
const SHARE: &str = include_str!("../../agent/share.py");
/// A large model over a slow line takes its time. The programs on the nodes notice by themselves when nothing comes.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);
const START: Duration = Duration::from_secs(30);

/// What is fetched, and where it goes.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub repository: String,
    pub revision: String,
    /// The same folder on every node.
    pub folder: PathBuf,
}

impl Wanted {
    /// `model` is a name of the catalogue or OWNER/NAME; `into` is the folder of the models.
    pub fn new(catalogue: &Catalogue, model: &str, revision: &str, into: &Path) -> Result<Self, ModelsError> {
        let repository = if model.contains('/') {
            check_repository(model).map_err(|message| ModelsError::Argument {
                message,
                help: "give a name of `models list`, or the hub's OWNER/NAME".to_owned(),
            })?;
            model.to_owned()
        } else {
            catalogue.find(model)?.repository.clone()
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if revision.starts_with('-') || revision.is_empty() || !revision.chars().all(good) {
            return Err(ModelsError::Argument {
                message: format!("`{revision}` is no revision"),
                help: "a branch, tag or commit of the model's repository, e.g. main".to_owned(),
            });
        }
        if !into.is_absolute() {
            return Err(ModelsError::Argument {
                message: format!("`{}` is no absolute path", into.display()),
                help: "give a folder that is the same on every node: --into /models".to_owned(),
            });
        }
        let name = repository.split('/').next_back().unwrap_or_default();
        Ok(Self { folder: into.join(name), revision: revision.to_owned(), repository })
    }
}

/// The last line of a program that could not do it.
#[derive(Debug, Deserialize)]
struct Failure {
    failure: String,
    text: String,
}

/// The last line of one that could.
#[derive(Debug, Deserialize)]
struct Done {
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Progress {
    done: u64,
    total: u64,
}

/// Fetches it to all nodes; the first failure ends it, and what has come is kept for the next time.
pub fn run(config: &Config, folder: &Folder, wanted: &Wanted) -> Result<(), ClusterError> {
    Cluster::visit(config, folder, |cluster| {
        from_the_hub(cluster, wanted)?;
        if config.nodes.len() > 1 {
            to_the_others(cluster, wanted)?;
        }
        Ok(())
    })
}

fn from_the_hub(cluster: &mut Cluster, wanted: &Wanted) -> Result<(), ClusterError> {
    let head = cluster.name(0);
    let mut phase = Phase::start(format!("fetch {} to {head}", wanted.repository));
    let place = wanted.folder.to_string_lossy();
    let mut job = Job::python(0, "download", DOWNLOAD, &[&wanted.repository, &wanted.revision, &place]);
    job.env = hub_environment(&cluster.config);
    let given = if job.env.contains_key("HF_TOKEN") { "it is set now" } else { "it is not set now" };
    let started = Instant::now();
    let finished =
        cluster.run_each(vec![job], PATIENCE, |_, line| show(&mut phase, line, &mut Vec::new()))?;
    let bytes = outcome(&finished[0]).map_err(|failure| {
        let (node, cause) = (head, failure.text);
        let repository = wanted.repository.clone();
        match failure.failure.as_str() {
            "token" => ModelsError::Token { node, repository, cause, given },
            "repository" => ModelsError::Repository { repository, revision: wanted.revision.clone(), cause },
            "disk" => ModelsError::Disk { node, cause },
            "module" => ModelsError::NoHub { node, cause },
            _ => ModelsError::Network { node, repository, cause },
        }
    })?;
    phase.done(&amount(bytes, started.elapsed()));
    Ok(())
}

fn to_the_others(cluster: &mut Cluster, wanted: &Wanted) -> Result<(), ClusterError> {
    let (head, address) = (cluster.name(0), cluster.config.head().address.to_string());
    let mut phase = Phase::start(format!("copy it from {head} ({address}) to the other nodes"));
    let secret = BTreeMap::from([("HALO_SHARE_SECRET".to_owned(), random_hex(32)?)]);
    let place = wanted.folder.to_string_lossy();
    let mut serve = Job::python(0, "share", SHARE, &["serve", &place, &address]);
    serve.env.clone_from(&secret);
    cluster.start(&serve)?;
    let port = cluster.wait(Some(Instant::now() + START), |_, message| match message {
        Message::Event(Event::Output { process, line }) if process == "share" => {
            serde_json::from_str::<serde_json::Value>(line).ok()?["port"].as_u64()
        }
        _ => None,
    })?;
    let Some(port) = port else {
        let (node, cause) = (head.clone(), "it did not begin to serve".to_owned());
        return Err(ModelsError::Copy { node, head, cause }.into());
    };
    let fetch = |node| {
        let mut job = Job::python(node, "fetch", SHARE, &["fetch", &place, &address, &port.to_string()]);
        job.env.clone_from(&secret);
        job
    };
    let mut parts = vec![(0, 0); cluster.config.nodes.len()];
    let jobs = (1..cluster.config.nodes.len()).map(fetch).collect();
    let started = Instant::now();
    let all = cluster.run_each(jobs, PATIENCE, |job, line| {
        if let Ok(progress) = serde_json::from_str::<Progress>(line) {
            parts[job.node] = (progress.done, progress.total);
        }
        show(&mut phase, line, &mut parts);
    })?;
    let mut bytes = 0;
    for (finished, index) in all.iter().zip(1..) {
        let node = cluster.name(index);
        bytes += outcome(finished).map_err(|failure| match failure.failure.as_str() {
            "disk" => ModelsError::Disk { node, cause: failure.text },
            _ => ModelsError::Copy { node, head: head.clone(), cause: failure.text },
        })?;
    }
    phase.done(&amount(bytes, started.elapsed()));
    Ok(())
}

/// What the library that speaks to the hub needs. The token goes from this process's environment into that one's,
/// inside the connection to the node.
fn hub_environment(config: &Config) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for name in ["HF_TOKEN", "HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        if let Ok(value) = std::env::var(name)
            && !value.is_empty()
        {
            env.insert(name.to_owned(), value);
        }
    }
    env.extend(config.env.clone());
    for (name, value) in
        [("HF_HUB_OFFLINE", "0"), ("HF_HUB_DISABLE_PROGRESS_BARS", "1"), ("HF_HUB_DISABLE_TELEMETRY", "1")]
    {
        env.insert(name.to_owned(), value.to_owned());
    }
    env
}

fn outcome(finished: &Finished) -> Result<u64, Failure> {
    if finished.status == 0
        && let Some(done) = finished.answer::<Done>()
    {
        return Ok(done.bytes);
    }
    let unsaid = || Failure { failure: String::new(), text: finished.last_line().to_owned() };
    Err(finished.answer().unwrap_or_else(unsaid))
}

fn show(phase: &mut Phase, line: &str, parts: &mut Vec<(u64, u64)>) {
    if let Ok(progress) = serde_json::from_str::<Progress>(line) {
        if parts.is_empty() {
            parts.push((progress.done, progress.total));
        }
        let (done, total) = parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        phase.bytes(done, total);
    }
}

fn amount(bytes: u64, took: Duration) -> String {
    if bytes == 0 {
        return "all of it was there already".to_owned();
    }
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB, {:.1} MB/s", megabytes / took.as_secs_f64().max(1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_reach_the_nodes() {
        let catalogue = Catalogue::open(None).unwrap();
        let wanted = |model: &str, revision: &str, into: &str| {
            Wanted::new(&catalogue, model, revision, Path::new(into)).map_err(|error| error.to_string())
        };
        let good = wanted("gpt-oss-20b", "main", "/models").unwrap();
        assert_eq!(good.folder, Path::new("/models/gpt-oss-20b"));
        assert_eq!(wanted("o/m", "refs/pr/1", "/m").unwrap().repository, "o/m");
        assert_eq!(
            wanted("o/../m", "main", "/m").unwrap_err(),
            "`o/../m` is no repository of the hub: OWNER/NAME"
        );
        assert!(wanted("o/$(id)", "main", "/m").is_err());
        assert_eq!(wanted("o/m", "--help", "/m").unwrap_err(), "`--help` is no revision");
        assert_eq!(wanted("o/m", "main", "m").unwrap_err(), "`m` is no absolute path");
    }
}
