//! `top`: what the machines, the links, the collectives and vLLM do now.

mod collect;
mod draw;
mod error;
mod prometheus;
mod snapshot;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};

pub use error::TopError;

use self::collect::Collector;
use self::snapshot::Snapshot;
use crate::config::Config;
use crate::error::ClusterError;
use crate::state::Folder;

const EXAMPLES: &str = "Examples:
  halo-cluster top                      # the launch that runs; q ends it
  halo-cluster top cluster.toml         # nodes and links without a launch
  halo-cluster top --once --json";

/// Two samples are needed for a rate; a node that cannot be reached says so by then.
const FIRST: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Top {
    /// The configuration [default: that of the launch].
    config: Option<PathBuf>,
    /// Print one picture, and end.
    #[arg(long)]
    once: bool,
    /// With --once: as JSON.
    #[arg(long, requires = "once")]
    json: bool,
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

/// Shows it until the user has seen enough.
pub fn run(top: &Top) -> Result<(), ClusterError> {
    let folder = Folder::open()?;
    let config = match &top.config {
        Some(path) => Config::read(path)?,
        None => launched(&folder)?,
    };
    let mut collector = Collector::start(&config, &folder, Duration::from_secs(top.interval));
    if top.once {
        let snapshot = first(&mut collector);
        if top.json {
            println!("{}", serde_json::to_string_pretty(&snapshot).unwrap_or_default());
        } else {
            print!("{}", draw::text(&snapshot));
        }
        return Ok(());
    }
    let mut terminal = ratatui::try_init().map_err(|source| TopError::Terminal { source })?;
    let outcome = live(&mut terminal, &mut collector);
    ratatui::restore();
    outcome.map_err(|source| TopError::Terminal { source }.into())
}

/// What the last launch used.
fn launched(folder: &Folder) -> Result<Config, ClusterError> {
    match folder.read() {
        Some(state) if state.config.is_some() => Ok(Config::read(&folder.config())?),
        Some(_) => Ok(Config::local(&folder.tiny_model())),
        None => Err(TopError::Nothing.into()),
    }
}

/// The first picture in which every node has its rates, or says why it has none.
fn first(collector: &mut Collector) -> Snapshot {
    let deadline = Instant::now() + FIRST;
    loop {
        collector.wait(Duration::from_millis(100));
        let snapshot = collector.snapshot();
        if snapshot.is_complete() || Instant::now() > deadline {
            return snapshot;
        }
    }
}

fn live(terminal: &mut ratatui::DefaultTerminal, collector: &mut Collector) -> std::io::Result<()> {
    loop {
        let snapshot = collector.snapshot();
        terminal.draw(|frame| draw::picture(frame, &snapshot))?;
        if event::poll(Duration::from_millis(200))?
            && let Event::Key(key) = event::read()?
        {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(());
            }
        }
        collector.wait(Duration::ZERO);
    }
}
