//! What the journal on a node says, read with the other facts. Only `agent/apply/` writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::facts::Facts;

/// Where it is.
pub const FILE: &str = "/var/lib/halo-cluster/journal.jsonl";

#[derive(Debug, Deserialize)]
struct Entry {
    step: u64,
    state: String,
    title: Option<String>,
}

/// What `configure` has done on a node and not taken back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Titles, oldest first.
    pub done: Vec<String>,
    /// A step that was begun and not ended, because something ended `configure` in its midst.
    pub interrupted: Option<String>,
}

/// Reads it; a last line that was cut off counts as not written.
pub fn read(facts: &Facts) -> Journal {
    let text = facts.texts.get(FILE).cloned().flatten().unwrap_or_default();
    let mut steps: BTreeMap<u64, (String, bool)> = BTreeMap::new();
    for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
        match entry.state.as_str() {
            "step" => {
                steps.insert(entry.step, (entry.title.unwrap_or_default(), false));
            }
            "done" => {
                steps.entry(entry.step).and_modify(|step| step.1 = true);
            }
            "undone" => {
                steps.remove(&entry.step);
            }
            _ => {}
        }
    }
    let mut journal = Journal::default();
    for (title, done) in steps.into_values() {
        if done {
            journal.done.push(title);
        } else {
            journal.interrupted = Some(title);
        }
    }
    journal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    fn journal(text: &str) -> Journal {
        let mut facts = recorded::fedora();
        facts.texts.insert(FILE.to_owned(), Some(text.to_owned()));
        read(&facts)
    }

    #[test]
    fn done_undone_and_interrupted_steps_are_told_apart() {
        let text = "{\"step\":1,\"state\":\"step\",\"title\":\"one\"}\n{\"step\":1,\"state\":\"done\"}\n\
                    {\"step\":2,\"state\":\"step\",\"title\":\"two\"}\n{\"step\":2,\"state\":\"begin\",\"action\":0}\n\
                    {\"step\":3,\"state\":\"step\",\"title\":\"three\"}\n{\"step\":3,\"state\":\"undone\"}\n{\"step\":1,\"st";
        let expected = Journal { done: vec!["one".to_owned()], interrupted: Some("two".to_owned()) };
        assert_eq!(journal(text), expected);
        assert_eq!(read(&recorded::fedora()), Journal::default());
    }
}
