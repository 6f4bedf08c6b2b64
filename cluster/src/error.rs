//! What can go wrong with a launch, each with the node it happened on.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::config_error::ConfigError;
use crate::models::ModelsError;
use crate::top::TopError;
use crate::verify::VerifyError;

/// An error of a launch, a stop or a look at one.
#[derive(Debug, Error, Diagnostic)]
pub enum ClusterError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Models(#[from] ModelsError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Top(#[from] TopError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Configure(#[from] crate::configure::ConfigureError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Login(#[from] crate::login::LoginError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Init(#[from] crate::init::InitError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Verify(#[from] VerifyError),

    #[error("node {node} ({target}) cannot be reached by ssh: {cause}")]
    #[diagnostic(code("HALO-E0611"), help("try it by hand: ssh -o BatchMode=yes {target} true"))]
    Unreachable { node: String, target: String, cause: String },

    #[error("node {node} ({target}) refused the ssh login: {cause}")]
    #[diagnostic(
        code("HALO-E0612"),
        help(
            "`halo-cluster configure --apply`, at a terminal, copies this machine's key there: ssh shows the host's fingerprint and asks for the password"
        )
    )]
    LoginRefused { node: String, target: String, cause: String },

    #[error("the Python interpreter `{python}` does not run on node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0613"),
        help("set `python` to the interpreter of the environment that has vllm, ray and halo")
    )]
    NoPython { node: String, python: String, cause: String },

    #[error("node {node} did not answer within {seconds} s ({what})")]
    #[diagnostic(
        code("HALO-E0614"),
        help("is the machine overloaded or the network slow? `timeouts.connect` allows more")
    )]
    NoAnswer { node: String, what: String, seconds: u64 },

    #[error("the agent on node {node} failed at `{what}`: {cause}")]
    #[diagnostic(code("HALO-E0615"), help("the node's disk (/tmp) or limits are the usual reason"))]
    Agent { node: String, what: String, cause: String },

    #[error("nothing was started: {failed} check(s) of the nodes fail{}", rows.concat())]
    #[diagnostic(
        code("HALO-E0620"),
        help("`halo-cluster doctor` looks at everything; `launch --skip-preflight` does not look at all")
    )]
    NotReadyToLaunch { failed: usize, rows: Vec<String> },

    #[error("the package halo on node {node} cannot be imported: {cause}")]
    #[diagnostic(code("HALO-E0622"), help("reinstall it there with the same Python: pip install ./python"))]
    HaloBroken { node: String, cause: String },

    #[error("node {node} does not have the address {address}; it has {present}")]
    #[diagnostic(
        code("HALO-E0627"),
        help("correct `address` of that node, or bring its data interface up: ip -brief address")
    )]
    AddressAbsent { node: String, address: String, present: String },

    #[error("on node {node} the address {address} is not on interface {interface} but on {actual}")]
    #[diagnostic(code("HALO-E0628"), help("correct `interface` of that node, or leave it out"))]
    WrongInterface { node: String, address: String, interface: String, actual: String },

    #[error("/dev/shm of node {node} has {free_mib} MiB free, {needed_mib} MiB are needed")]
    #[diagnostic(
        code("HALO-E0629"),
        help("remove old files there, or give the container more: --shm-size=8g")
    )]
    ShmFull { node: String, free_mib: u64, needed_mib: u64 },

    #[error("the tiny model could not be made: {cause}")]
    #[diagnostic(code("HALO-E0631"), help("run it by hand: python -m halo.tiny_model OUT"))]
    TinyModel { cause: String },

    #[error("{process} ended on node {node} ({status}){last}")]
    #[diagnostic(code("HALO-E0632"), help("its output is in {log}"))]
    ProcessEnded { node: String, process: String, status: String, last: String, log: String },

    #[error("Ray did not start on node {node} within {seconds} s")]
    #[diagnostic(
        code("HALO-E0633"),
        help("its output is in {log}; a firewall between the data addresses is the usual reason")
    )]
    RayTimeout { node: String, seconds: u64, log: String },

    #[error("the model was not ready within {seconds} s")]
    #[diagnostic(
        code("HALO-E0634"),
        help("vLLM's output is in {log}; large models need more: `timeouts.ready`")
    )]
    NotReady { seconds: u64, log: String },

    #[error("vLLM answered the first request with {status}: {text}")]
    #[diagnostic(code("HALO-E0635"), help("vLLM's output is in {log}"))]
    FirstToken { status: u64, text: String, log: String },

    #[error("a completion in pieces did not come to its end (status {status}): {text}")]
    #[diagnostic(code("HALO-E0680"), help("vLLM's output is in {log}"))]
    ApiBroken { status: u64, text: String, log: String },

    #[error("the launch failed {failures} times within {minutes} minutes")]
    #[diagnostic(
        code("HALO-E0681"),
        help("what it died of stands above; the logs of the launch before are in logs/before")
    )]
    GaveUp { failures: usize, minutes: u64 },

    #[error("the unit {} cannot be written", path.display())]
    #[diagnostic(
        code("HALO-E0682"),
        help("name a file in a folder that you may write: --systemd halo-cluster.service")
    )]
    Unit { path: PathBuf, source: std::io::Error },

    #[error("node {node} has no RDMA port with the address {address}; it has {present}")]
    #[diagnostic(
        code("HALO-E0678"),
        help("`halo-cluster doctor --only rdma,gid` tells why; transport = \"tcp\" does without")
    )]
    NoRdma { node: String, address: String, present: String },

    #[error("the container {name} cannot be used on node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0679"),
        help("`halo-cluster configure` creates it; is `container.name` right? try: {engine} start {name}")
    )]
    Container { node: String, engine: String, name: String, cause: String },

    #[error("vLLM answers, but {reported} of {world} ranks use halo")]
    #[diagnostic(
        code("HALO-E0636"),
        help(
            "is the halo plugin loaded on every node? vLLM's output in {log} names the plugins it found (VLLM_PLUGINS may exclude it)"
        )
    )]
    HaloUnused { reported: usize, world: usize, log: String },

    #[error("rank {rank} ({group}) on node {node} ended (process {pid}){others}{halo}")]
    #[diagnostic(code("HALO-E0641"), help("the output of node {node} and of vLLM is in {logs}"))]
    RankEnded { node: String, group: String, rank: u64, pid: u64, others: String, halo: String, logs: String },

    #[error("node {node} is lost: {cause}")]
    #[diagnostic(
        code("HALO-E0642"),
        help("is the machine up, and its ssh address reachable? Its processes stop by themselves")
    )]
    NodeLost { node: String, cause: String },

    #[error("interrupted")]
    #[diagnostic(code("HALO-E0643"), help("everything that was started has been stopped"))]
    Interrupted,

    #[error("another launch is running (process {pid}, {config})")]
    #[diagnostic(
        code("HALO-E0661"),
        help("stop it with `halo-cluster stop`; for two at once give each its own XDG_STATE_HOME")
    )]
    AlreadyRunning { pid: u32, config: String },

    #[error("the state folder {} cannot be used", path.display())]
    #[diagnostic(code("HALO-E0662"), help("it must be writable; XDG_STATE_HOME chooses another place"))]
    StateFolder { path: PathBuf, source: std::io::Error },

    #[error("the disk of the state folder {} is full", path.display())]
    #[diagnostic(
        code("HALO-E0685"),
        help(
            "make room there, or choose another place with XDG_STATE_HOME; state and logs of a launch need it"
        )
    )]
    StateFull { path: PathBuf, source: std::io::Error },

    #[error("the launch (process {pid}) did not stop within {seconds} s")]
    #[diagnostic(
        code("HALO-E0663"),
        help("its log is {log}; `kill -9 {pid}` and a second `halo-cluster stop` remove what is left")
    )]
    StopTimeout { pid: u32, seconds: u64, log: String },

    #[error("the launch in the background ended before it was ready")]
    #[diagnostic(code("HALO-E0664"), help("its messages are in {log}"))]
    DetachedEnded {
        log: String,
        #[source]
        cause: Said,
    },

    #[error("there is no log of `{name}`; there are {present}")]
    #[diagnostic(code("HALO-E0665"), help("choose one of these, or start something: halo-cluster launch"))]
    NoLog { name: String, present: String },

    #[error("the menu cannot be drawn on this terminal")]
    #[diagnostic(code("HALO-E0684"), help("every command is reached without it: halo-cluster --help"))]
    Menu { source: std::io::Error },

    #[error("the man pages cannot be written to {}", path.display())]
    #[diagnostic(code("HALO-E0683"), help("name a folder that you may write: --into DIR"))]
    Man { path: PathBuf, source: std::io::Error },

    #[error("the program `{program}` cannot be started")]
    #[diagnostic(code("HALO-E0666"), help("is it installed and on PATH?"))]
    Start { program: String, source: std::io::Error },
}

impl ClusterError {
    /// What the system refused in the state folder; a full disk has a remedy of its own.
    pub fn state(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::StateFull { path, source },
            _ => Self::StateFolder { path, source },
        }
    }
}

/// What another process said of its failure.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Said(pub String);

/// Prints an error as every halo command does. What cannot be printed, as to a log on a full disk, ends nothing.
pub fn print(error: &ClusterError) {
    use std::error::Error as _;
    let code = error.code().map(|code| code.to_string()).unwrap_or_default();
    let mut text = format!("error[{code}]: {error}\n");
    // A transparent error's source is that of the error inside.
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!("  caused by: {inner}\n");
        cause = inner.source();
    }
    if let Some(help) = error.help() {
        text += &format!("  help: {help}\n");
    }
    crate::progress::say(text.trim_end());
}
