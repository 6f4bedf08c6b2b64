//! `configure`: makes every node what doctor wants it to be. It shows what it would change, changes it after a yes, and
//! takes all of it back with `--undo`. Each node keeps a journal, written before each change.

mod apply;
mod arguments;
mod error;
mod journal;
mod step;
mod steps;

pub use arguments::Arguments;
pub use error::ConfigureError;
pub use steps::{GRUB_FILE, NAMES};

use crate::config::Config;
use crate::doctor::Subject;
use crate::error::ClusterError;
use crate::facts::Facts;
use crate::survey::survey;
use crate::{login, question};
use apply::Rights;
use step::{Step, Then};

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    pub mode: Mode,
    /// Whether the question is answered beforehand.
    pub yes: bool,
    /// Names of steps; all if empty.
    pub only: Vec<String>,
    /// Names of nodes; all if empty.
    pub nodes: Vec<String>,
    pub ask_sudo_password: bool,
}

/// What is done with the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Show,
    Apply,
    Undo,
}

/// Files that are looked at on every node.
pub fn files() -> Vec<&'static str> {
    let mut files = steps::files();
    files.push(journal::FILE);
    files
}

/// One node and what is to be done there.
#[derive(Debug)]
struct Work {
    index: usize,
    facts: Facts,
    steps: Vec<Step>,
}

/// A node that refuses the login, and what would be done about it.
#[derive(Debug)]
struct Shut {
    name: String,
    plan: login::Plan,
}

/// Shows, applies or takes back.
pub fn run(config: &Config, options: &Options) -> Result<(), ClusterError> {
    let (mut work, shut) = look(config, options)?;
    if options.mode == Mode::Undo {
        return undo(config, options, work);
    }
    for node in &mut work {
        let index = node.index;
        let subject = Subject { config, node: config.nodes[index].get_ref(), index, facts: &node.facts };
        node.steps = steps::plan(&subject, &options.only)?;
    }
    show(config, &work);
    for Shut { name, plan } in &shut {
        print!("{name}:\n{}    what else {name} needs is seen once it lets in\n", plan.show());
    }
    work.retain(|node| !node.steps.is_empty());
    if work.is_empty() && shut.is_empty() {
        return Ok(());
    }
    if options.mode == Mode::Show {
        println!("\nNothing was changed: halo-cluster configure --apply does it, --undo takes it back.");
        return Ok(());
    }
    let count: usize = work.iter().map(|node| node.steps.len()).sum();
    if !confirm(options, &format!("Make these {count} changes?"))? {
        println!("nothing was changed");
        return Ok(());
    }
    let rights = Rights::ask(options.ask_sudo_password, work.iter().map(|node| &node.facts))?;
    let all = work.len();
    let results = apply::apply(config, &work, &rights);
    let failed = apply::report(results);
    remaining(config, &work);
    if failed > 0 { Err(ConfigureError::Some { failed, all }.into()) } else { Ok(()) }
}

/// The nodes that were asked for, and those that refuse the login. Nothing is changed anywhere unless all of them answer.
fn look(config: &Config, options: &Options) -> Result<(Vec<Work>, Vec<Shut>), ClusterError> {
    let present = || config.nodes().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = options.nodes.iter().find(|name| config.nodes().all(|node| node.name != **name)) {
        return Err(ConfigureError::NoSuchNode { name: name.clone(), present: present() }.into());
    }
    let asked = |index: usize| {
        options.nodes.is_empty() || options.nodes.contains(&config.nodes[index].get_ref().name)
    };
    let (mut work, mut shut) = (Vec::new(), Vec::new());
    for (index, result) in survey(config).into_iter().enumerate().filter(|(index, _)| asked(*index)) {
        let node = config.nodes[index].get_ref();
        let facts = match (result, options.mode, &node.ssh) {
            (Err(refused @ ClusterError::LoginRefused { .. }), Mode::Apply, _) => {
                login::offer(config, index, refused, options.yes)?.facts
            }
            (Err(ClusterError::LoginRefused { .. }), Mode::Show, Some(target)) => {
                shut.push(Shut { name: node.name.clone(), plan: login::Plan::new(config, node, target)? });
                continue;
            }
            (other, ..) => other?.facts,
        };
        work.push(Work { index, facts, steps: Vec::new() });
    }
    Ok((work, shut))
}

fn name(config: &Config, node: &Work) -> String {
    config.nodes[node.index].get_ref().name.clone()
}

fn show(config: &Config, work: &[Work]) {
    for node in work {
        let (name, journal) = (name(config, node), journal::read(&node.facts));
        if let Some(step) = &journal.interrupted {
            println!(
                "{name}: an earlier run was interrupted in the step `{step}`; --apply continues, --undo takes it back"
            );
        }
        if node.steps.is_empty() {
            println!("{name}: nothing to change");
        } else {
            println!("{name}:");
        }
        for step in &node.steps {
            print!("{}", step.show());
        }
    }
}

/// Asks once, unless the answer was given beforehand.
fn confirm(options: &Options, question: &str) -> Result<bool, ClusterError> {
    if !options.yes && !question::can_be_asked() {
        return Err(ConfigureError::NoTerminal.into());
    }
    Ok(options.yes || question::yes(question))
}

/// What only the user can do.
fn remaining(config: &Config, work: &[Work]) {
    let with = |then: Then| {
        let has = |node: &&Work| node.steps.iter().any(|step| step.then == Some(then));
        work.iter().filter(has).map(|node| name(config, node)).collect::<Vec<_>>().join(", ")
    };
    let (reboot, log_in) = (with(Then::Reboot), with(Then::LogIn));
    if !reboot.is_empty() {
        println!("reboot {reboot}: new kernel arguments are used from the next start on");
    } else if !log_in.is_empty() {
        println!("log in again on {log_in}: new limits are for new logins");
    }
}

fn undo(config: &Config, options: &Options, mut work: Vec<Work>) -> Result<(), ClusterError> {
    let mut count = 0;
    for node in &work {
        let journal = journal::read(&node.facts);
        for title in journal.done.iter().chain(&journal.interrupted).rev() {
            println!("{}: take back: {title}", name(config, node));
            count += 1;
        }
    }
    for line in login::names(config, &options.nodes)? {
        println!("{line}");
        count += 1;
    }
    work.retain(|node| node.facts.texts.get(journal::FILE).is_some_and(Option::is_some));
    if count == 0 {
        println!("there is nothing to take back");
        return Ok(());
    }
    if !confirm(options, &format!("Take back these {count} changes?"))? {
        println!("nothing was changed");
        return Ok(());
    }
    let rights = Rights::ask(options.ask_sudo_password, work.iter().map(|node| &node.facts))?;
    let all = work.len();
    let failed = apply::report(apply::undo(config, &work, &rights));
    if failed == 0 {
        // The last of all: after it the nodes may not let this user in any more.
        login::undo(config, &options.nodes)?;
    }
    if failed > 0 { Err(ConfigureError::Some { failed, all }.into()) } else { Ok(()) }
}
