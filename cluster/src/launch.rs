//! `launch`: from a configuration to a served model, and back to nothing when it ends, however it ends.

mod loading;
mod restart;
mod serve;
pub mod unit;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::agent::{Event, Message};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::ClusterError;
use crate::plan::{self, Facts, Secrets};
use crate::progress::Phase;
use crate::report;
use crate::state::{Folder, State, random_hex, replace};
use crate::{preflight, progress};

pub use restart::Restart;

/// What is launched: a configuration, and the file it came from unless it is `--local`.
#[derive(Debug)]
pub struct Request {
    pub config: Config,
    pub file: Option<PathBuf>,
    /// Whether doctor is not asked before.
    pub skip_preflight: bool,
    /// What happens after a failure.
    pub restart: Restart,
    /// The command line's options that change the configuration, for a unit of systemd.
    pub options: Vec<String>,
}

/// Launches, serves until it is interrupted, and stops everything. False if it failed, which it has then said.
pub fn run(request: &Request, folder: &Folder) -> Result<bool, ClusterError> {
    let _lock = folder.lock()?;
    folder.clear_logs();
    folder.has_room()?;
    keep_configuration(request, folder)?;
    let interrupted = crate::interrupts()?;
    let mut failures = restart::Failures::default();
    let mut served = false;
    loop {
        let outcome = once(request, folder)?;
        served |= outcome.served;
        // A first launch that fails would fail again.
        let again = request.restart == Restart::OnFailure && served && !outcome.interrupted;
        if outcome.good || !again {
            return Ok(outcome.good);
        }
        failures.add(Instant::now())?;
        progress::say(&format!("launching again ({} failure(s) of late)", failures.count()));
        if !restart::pause(&interrupted) {
            return Ok(false);
        }
        folder.put_logs_aside();
    }
}

/// How one launch ended.
struct Outcome {
    good: bool,
    served: bool,
    interrupted: bool,
}

fn once(request: &Request, folder: &Folder) -> Result<Outcome, ClusterError> {
    let launch = random_hex(4)?;
    let mut state = State::new(&launch, &request.config, request.file.as_deref(), folder);
    folder.write(&state)?;
    let mut cluster = Cluster::new(request.config.clone(), launch, folder.logs())?;

    let outcome = bring_up(request, folder, &mut cluster, &mut state)
        .and_then(|()| watch::supervise(&mut cluster, &mut state, folder));
    let interrupted = matches!(outcome, Err(ClusterError::Interrupted));
    let served = state.phase == "ready";
    let outcome = match outcome {
        // Ctrl-C on a served model is how a launch ends.
        Err(ClusterError::Interrupted) if served => Ok(()),
        other => other,
    };
    // The message comes first: stopping takes a while.
    if let Err(error) = &outcome {
        crate::error::print(error);
        watch::last_words(&mut cluster, error, &state);
    }
    let kept = watch::shut_down(&mut cluster, &mut state, folder, outcome.is_ok());
    // A full disk is said once.
    if !matches!(outcome, Err(ClusterError::StateFull { .. })) {
        kept?;
    }
    Ok(Outcome { good: outcome.is_ok(), served, interrupted })
}

/// What the processes of each node would have in their environment, found out on the nodes and printed.
pub fn print_environment(config: &Config, folder: &Folder) -> Result<String, ClusterError> {
    Cluster::visit(config, folder, |cluster| {
        let facts = preflight::facts(cluster)?;
        let secrets = Secrets { halo: String::new(), ray: String::new() };
        let of = |(index, node): (usize, &crate::config::Node)| {
            let environment = plan::environment(config, &facts, &secrets, index);
            format!("# node {}\n{}", node.name, plan::shown(&environment))
        };
        Ok(config.nodes().enumerate().map(of).collect::<Vec<_>>().join("\n"))
    })
}

fn bring_up(
    request: &Request,
    folder: &Folder,
    cluster: &mut Cluster,
    state: &mut State,
) -> Result<(), ClusterError> {
    let local = request.file.is_none();
    if let Some(said) = report::from_catalogue(&request.config) {
        progress::say(&format!("ok      {said}"));
    }
    let count = cluster.config.nodes.len();
    let phase =
        Phase::start(if local { "this machine".to_owned() } else { format!("reach {count} node(s)") });
    cluster.connect()?;
    phase.done("");

    let phase = Phase::start("check the nodes");
    let facts = preflight::facts(cluster)?;
    let warnings = if request.skip_preflight { Vec::new() } else { preflight::judge(cluster, !local)? };
    let reached = cluster.config.nodes().zip(&facts).map(|(node, facts)| {
        let rdma = facts.rdma.as_ref().map(|rdma| format!(" {} GID {}", rdma.name(), rdma.gid_index));
        format!("{} {}{}", node.name, facts.interface, rdma.unwrap_or_default())
    });
    let skipped = if request.skip_preflight { "; doctor was not asked" } else { "" };
    phase.done(&format!("{}{skipped}", reached.collect::<Vec<_>>().join(", ")));
    for warning in warnings {
        progress::say(&warning);
    }

    if local {
        make_tiny_model(cluster, folder)?;
    }
    let secrets = Secrets { halo: random_hex(32)?, ray: random_hex(32)? };
    if cluster.config.ray {
        start_ray(cluster, &facts, &secrets)?;
    }
    serve::run(cluster, &facts, &secrets, state)?;

    "ready".clone_into(&mut state.phase);
    state.ranks.clone_from(&cluster.ranks);
    folder.write(state)?;
    cluster.serving = true;
    let mut out = std::io::stdout().lock();
    // As to a log on a full disk: the model is served all the same.
    let _ = write!(out, "{}", report::ready(state)).and_then(|()| out.flush());
    unit::notify_ready();
    Ok(())
}

/// Made once and kept: it is the same every time.
fn make_tiny_model(cluster: &mut Cluster, folder: &Folder) -> Result<(), ClusterError> {
    let out = folder.tiny_model();
    if out.join("config.json").is_file() {
        return Ok(());
    }
    let phase = Phase::start("make a tiny model with random weights");
    let beside = out.with_extension("new");
    let _ = std::fs::remove_dir_all(&beside);
    cluster.start(&plan::tiny_model(&beside.to_string_lossy()))?;
    let deadline = Instant::now() + cluster.config.timeouts.ready;
    let ended = cluster.wait(Some(deadline), |_, message| match message {
        Message::Event(Event::Exited { process, status }) if process == "model" => Some(*status),
        _ => None,
    })?;
    match ended {
        Some(0) => {}
        Some(status) => {
            return Err(ClusterError::TinyModel {
                cause: cluster.process_ended(0, "model", status).to_string(),
            });
        }
        None => return Err(ClusterError::TinyModel { cause: "it took too long".to_owned() }),
    }
    std::fs::rename(&beside, &out).map_err(|source| folder.refuse(source))?;
    phase.done(&out.display().to_string());
    Ok(())
}

/// The head, then all workers at once.
fn start_ray(cluster: &mut Cluster, facts: &[Facts], secrets: &Secrets) -> Result<(), ClusterError> {
    let phase = Phase::start("start Ray");
    let deadline = Instant::now() + cluster.config.timeouts.ray;
    let count = facts.len();
    for group in [0..1, 1..count] {
        let mut waiting: Vec<_> = group.collect();
        for &index in &waiting {
            let job = plan::ray(&cluster.config, facts, secrets, index);
            cluster.start(&job)?;
        }
        while let Some(&first) = waiting.first() {
            let up = cluster.wait(Some(deadline), |index, message| match message {
                // `ray start` says so when the node is part of the cluster.
                Message::Event(Event::Output { process, line })
                    if process == "ray" && line.contains("Ray runtime started") =>
                {
                    Some(index)
                }
                _ => None,
            })?;
            let Some(index) = up else {
                return Err(ClusterError::RayTimeout {
                    node: cluster.name(first),
                    seconds: cluster.config.timeouts.ray.as_secs(),
                    log: cluster.log(first, "ray"),
                });
            };
            waiting.retain(|other| *other != index);
        }
    }
    phase.done(&format!("{count} node(s)"));
    Ok(())
}

/// Where clients find the API.
fn endpoint(config: &Config) -> String {
    let head = config.head();
    let host = match &head.ssh {
        Some(target) if config.host.is_unspecified() => ssh_host(config, target),
        None if config.host.is_unspecified() => "127.0.0.1".to_owned(),
        _ => config.host.to_string(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("http://{host}:{}", config.port)
}

/// The machine behind an ssh target, which may be an alias of ssh's configuration.
fn ssh_host(config: &Config, target: &str) -> String {
    let output = Command::new("ssh").args(&config.ssh.options).args(["-G", "--", target]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("hostname "));
    host.unwrap_or(target).to_owned()
}

/// For a `stop` after this process died.
fn keep_configuration(request: &Request, folder: &Folder) -> Result<(), ClusterError> {
    let kept = match &request.file {
        Some(file) => std::fs::read_to_string(file).and_then(|text| replace(&folder.config(), &text)),
        None => std::fs::remove_file(folder.config()).or(Ok(())),
    };
    kept.map_err(|source| folder.refuse(source))
}
