//! A step of `configure`: what it changes on one node, how it is taken back, and how it is shown before.

use std::fmt::Write as _;

use serde::Serialize;
use similar::TextDiff;

use crate::facts::Facts;

/// A change that stands by itself: all of its actions or, after an undo, none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `packages`, `network`, ...; what `--only` takes.
    pub name: &'static str,
    /// What it is for, in a line.
    pub title: String,
    pub actions: Vec<Action>,
    /// Commands that make an undo known to the system, after its files are back.
    pub after_undo: Vec<Vec<String>>,
    /// What remains for the user to do.
    #[serde(skip)]
    pub then: Option<Then>,
}

/// What makes a step take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Then {
    /// A new login.
    LogIn,
    /// A reboot.
    Reboot,
}

/// One change of a node, as `agent/apply/` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Action {
    /// A file gets this text. It must still have the text `before`, if that could be looked at (`checked`).
    Write { path: String, text: String, before: Option<String>, checked: bool, mode: &'static str },
    /// A command, and the one that takes it back.
    Run { argv: Vec<String>, undo: Vec<String>, undo_may_fail: bool, as_user: bool },
    /// Packages; an undo removes them and what came with them.
    Install { manager: String, names: Vec<String> },
}

/// Words of a command.
pub fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

impl Action {
    /// A file with this text; nothing if it has it already.
    pub fn write(facts: &Facts, path: &str, text: String) -> Option<Self> {
        let before = facts.texts.get(path).cloned().flatten();
        (before.as_deref() != Some(text.as_str())).then(|| Self::Write {
            path: path.to_owned(),
            text,
            before,
            checked: true,
            mode: "644",
        })
    }

    /// A command that only makes the system look at files again.
    pub fn refresh(line: &[&str]) -> Self {
        Self::Run { argv: words(line), undo: Vec::new(), undo_may_fail: true, as_user: false }
    }

    /// A command, and the one that takes it back.
    pub fn run(line: &[&str], undo: &[&str]) -> Self {
        Self::Run { argv: words(line), undo: words(undo), undo_may_fail: false, as_user: false }
    }

    /// As a user reads it: a diff for a file, a command line for a command.
    fn show(&self) -> String {
        match self {
            Self::Write { path, text, before, .. } => {
                let diff = TextDiff::from_lines(before.as_deref().unwrap_or_default(), text);
                let old = if before.is_some() { path.as_str() } else { "/dev/null" };
                diff.unified_diff().context_radius(2).header(old, path).to_string()
            }
            Self::Run { argv, as_user, .. } => {
                let prompt = if *as_user { "$" } else { "#" };
                format!("{prompt} {}\n", shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_default())
            }
            Self::Install { manager, names } => {
                let tool = if manager == "apt" { "apt-get" } else { "dnf" };
                format!("# {tool} install {}\n", names.join(" "))
            }
        }
    }
}

impl Step {
    /// Title and every action, indented below the node's name.
    pub fn show(&self) -> String {
        let mut text = format!("  {}: {}\n", self.name, self.title);
        for line in self
            .actions
            .iter()
            .flat_map(|action| action.show().lines().map(str::to_owned).collect::<Vec<_>>())
        {
            let _ = writeln!(text, "    {line}");
        }
        text
    }
}
