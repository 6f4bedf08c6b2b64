//! A launch by hand: the commands, so that a person can run them one by one.

use super::environment::is_secret;
use super::{Facts, HEADLESS, Job, PYTHON, SOURCE, Secrets, ray, serve, tiny_model};
use crate::config::{Config, Container, Node};

/// Where a launch by hand keeps its files on every node.
const FOLDER: &str = "/tmp/halo-by-hand";
/// What a launch chooses among the free ports: Ray's own customs.
const PORTS: [&str; 3] = ["6379", "10001", "52365"];

/// Every command with its terminal. What only a node knows is asked there by the shell.
pub fn dry_run(config: &Config, local: bool) -> String {
    let facts: Vec<_> = config.nodes().map(facts).collect();
    let secrets = Secrets { halo: String::new(), ray: String::new() };
    let mut jobs = Vec::new();
    if local {
        jobs.push(tiny_model(config.model.get_ref()));
    }
    if config.ray {
        jobs.extend((0..facts.len()).map(|index| ray(config, &facts, &secrets, index)));
    }
    jobs.extend(serve(config, &facts, &secrets));
    let wanted: std::collections::BTreeSet<&String> =
        jobs.iter().flat_map(|job| job.env.keys()).filter(|name| is_secret(name)).collect();
    let mut text = String::from(
        "# By hand: each command in a terminal of its own, in this order; stop them in the opposite order.\n\
         # First of all, in every terminal, the same secrets, for example from `openssl rand -hex 32`:\n",
    );
    if let Some(said) = crate::report::from_catalogue(config) {
        text = format!("# {said}\n{text}");
    }
    for name in wanted {
        text += &format!("#   export {name}=...\n");
    }
    for job in &jobs {
        let node = config.nodes[job.node].get_ref();
        let place = node.ssh.as_ref().map_or("this machine".to_owned(), |target| format!("ssh {target}"));
        text += &format!("\n# {} on node {} ({place})\n", job.process, node.name);
        text += &command(config, node, job);
    }
    text
}

fn facts(node: &Node) -> Facts {
    let ask = format!("$(ip -o address | awk '/ {}\\//{{print $2; exit}}')", node.address);
    Facts { interface: node.interface.clone().unwrap_or(ask), ports: PORTS.map(str::to_owned), rdma: None }
}

/// One job as a shell takes it.
fn command(config: &Config, node: &Node, job: &Job) -> String {
    let inside = config.container.as_ref().map(Container::inside).unwrap_or_default();
    let first = inside.join(" ") + if inside.is_empty() { "" } else { " " };
    let mut text = format!("{first}mkdir -p {FOLDER}/stats\n{first}env \\\n");
    for (name, value) in &job.env {
        let value = value.replace("{folder}", FOLDER);
        let shown = match value.as_str() {
            _ if is_secret(name) => format!("\"${name}\""),
            asked if asked.starts_with("$(") => format!("\"{asked}\""),
            plain => shlex::try_quote(plain).unwrap_or_default().into_owned(),
        };
        text += &format!("  {name}={shown} \\\n");
    }
    let word = |word: &String| match word.as_str() {
        PYTHON => config.python_of(node),
        SOURCE => job.source.clone().unwrap_or_else(|| HEADLESS.to_owned()),
        other => other.replace("{folder}", FOLDER),
    };
    let words: Vec<_> = job.argv.iter().map(word).collect();
    text += &format!("  {}\n", shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default());
    text
}
