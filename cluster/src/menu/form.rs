//! What the menu holds: the commands, and the arguments of the one that is open.

use clap::{Arg, ArgAction, Command};

/// A command that can be run: its words, and its arguments.
#[derive(Debug, Clone)]
pub struct Choice {
    pub words: Vec<String>,
    pub about: String,
    pub entries: Vec<Entry>,
}

/// One argument.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As the form names it.
    pub name: String,
    pub help: String,
    pub required: bool,
    /// `--name`; none for a positional argument.
    flag: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A flag without a value.
    Switch(bool),
    /// One of these; none of them at first.
    OneOf(Vec<String>, Option<usize>),
    /// Any text.
    Text(String),
}

/// All of it.
#[derive(Debug)]
pub struct Menu {
    pub choices: Vec<Choice>,
    pub at: usize,
    /// The command that is open, and the entry that is being filled in.
    pub form: Option<(Choice, usize)>,
    /// What is missing, said once Enter was pressed too early.
    pub missing: Option<String>,
}

impl Menu {
    pub fn new(root: &Command) -> Self {
        let mut choices = Vec::new();
        collect(root, &[], &mut choices);
        Self { choices, at: 0, form: None, missing: None }
    }

    /// Up or down.
    pub fn step(&mut self, by: isize) {
        let (at, count) = match &mut self.form {
            Some((choice, at)) => (at, choice.entries.len()),
            None => (&mut self.at, self.choices.len()),
        };
        *at = at.saturating_add_signed(by).min(count.saturating_sub(1));
    }

    pub fn open(&mut self) {
        self.form = self.choices.get(self.at).map(|choice| (choice.clone(), 0));
    }

    /// From a form to the commands; false if there is nothing to go back to.
    pub fn back(&mut self) -> bool {
        self.missing = None;
        self.form.take().is_some()
    }

    pub fn edit(&mut self, change: impl FnOnce(&mut Entry)) {
        self.missing = None;
        if let Some((choice, at)) = &mut self.form
            && let Some(entry) = choice.entries.get_mut(*at)
        {
            change(entry);
        }
    }

    /// The command line, if nothing that it needs is missing.
    pub fn words(&mut self) -> Option<Vec<String>> {
        let (choice, _) = self.form.as_ref()?;
        let missing = choice.entries.iter().find(|entry| entry.required && entry.words().is_empty());
        self.missing = missing.map(|entry| format!("{} is needed", entry.name));
        self.missing.is_none().then(|| choice.line())
    }
}

impl Choice {
    /// As it would be typed. Positional arguments come last, behind `--` if one looks like a flag.
    pub fn line(&self) -> Vec<String> {
        let (flags, places): (Vec<&Entry>, Vec<&Entry>) =
            self.entries.iter().partition(|entry| entry.flag.is_some());
        let places: Vec<String> = places.iter().flat_map(|entry| entry.words()).collect();
        let guard = places.iter().any(|word| word.starts_with('-')).then(|| "--".to_owned());
        let flags = flags.iter().flat_map(|entry| entry.words());
        self.words.iter().cloned().chain(flags).chain(guard).chain(places).collect()
    }
}

impl Entry {
    fn new(argument: &Arg) -> Self {
        let flag = argument.get_long().map(|long| format!("--{long}"));
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let kind = match argument.get_action() {
            ArgAction::SetTrue => Kind::Switch(false),
            _ if !values.is_empty() => Kind::OneOf(values, None),
            _ => Kind::Text(String::new()),
        };
        Self {
            name: flag.clone().unwrap_or_else(|| argument.get_id().to_string()),
            help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
            required: argument.is_required_set(),
            flag,
            kind,
        }
    }

    /// What stands in the form.
    pub fn value(&self) -> String {
        match &self.kind {
            Kind::Switch(on) => (if *on { "yes" } else { "no" }).to_owned(),
            Kind::OneOf(values, None) => format!("({})", values.join(", ")),
            Kind::OneOf(values, Some(index)) => values[*index].clone(),
            Kind::Text(text) => text.clone(),
        }
    }

    pub fn letter(&mut self, letter: char) {
        match &mut self.kind {
            Kind::Text(text) => text.push(letter),
            Kind::Switch(_) | Kind::OneOf(..) if letter == ' ' => self.turn(1),
            Kind::Switch(_) | Kind::OneOf(..) => {}
        }
    }

    pub fn erase(&mut self) {
        match &mut self.kind {
            Kind::Text(text) => drop(text.pop()),
            Kind::Switch(on) => *on = false,
            Kind::OneOf(_, chosen) => *chosen = None,
        }
    }

    /// The next value, or the one before; past the last there is none.
    pub fn turn(&mut self, by: isize) {
        match &mut self.kind {
            Kind::Switch(on) => *on = !*on,
            Kind::OneOf(values, chosen) => {
                let count = values.len() as isize + 1;
                let at = chosen.map_or(0, |index| index as isize + 1);
                *chosen = usize::try_from((at + by).rem_euclid(count) - 1).ok();
            }
            Kind::Text(_) => {}
        }
    }

    fn words(&self) -> Vec<String> {
        let with = |value: &String| match &self.flag {
            Some(flag) => vec![format!("{flag}={value}")],
            None => vec![value.clone()],
        };
        match &self.kind {
            Kind::Switch(true) => self.flag.iter().cloned().collect(),
            Kind::OneOf(values, Some(index)) => with(&values[*index]),
            Kind::Text(text) if !text.is_empty() => with(text),
            Kind::Switch(false) | Kind::OneOf(_, None) | Kind::Text(_) => Vec::new(),
        }
    }
}

/// Every command without commands of its own, with the words that lead to it.
fn collect(command: &Command, words: &[String], choices: &mut Vec<Choice>) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let words = [words, &[inner.get_name().to_owned()]].concat();
        if inner.has_subcommands() {
            collect(inner, &words, choices);
            continue;
        }
        let told = [ArgAction::Help, ArgAction::HelpShort, ArgAction::HelpLong, ArgAction::Version];
        let name = |action: &ArgAction| format!("{action:?}");
        let told = told.each_ref().map(name);
        let arguments = inner.get_arguments().filter(|argument| !told.contains(&name(argument.get_action())));
        choices.push(Choice {
            about: inner.get_about().map(ToString::to_string).unwrap_or_default(),
            entries: arguments.map(Entry::new).collect(),
            words,
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn filled(words: &[&str], values: &[(&str, &str)]) -> Menu {
        let mut menu = Menu::new(&Cli::command());
        menu.at = menu.choices.iter().position(|choice| choice.words == words).unwrap();
        menu.open();
        for (name, value) in values {
            let (choice, at) = menu.form.as_mut().unwrap();
            *at = choice.entries.iter().position(|entry| entry.name == *name).unwrap();
            value.chars().for_each(|letter| menu.edit(|entry| entry.letter(letter)));
        }
        menu
    }

    #[test]
    fn every_command_is_reachable_and_every_flag_is_in_its_form() {
        let menu = Menu::new(&Cli::command());
        let names: Vec<_> = menu.choices.iter().map(|choice| choice.words.join(" ")).collect();
        for name in
            ["doctor", "launch", "models list", "models fit", "models download", "verify", "top", "stop"]
        {
            assert!(names.contains(&name.to_owned()), "{name} is not in {names:?}");
        }
        let launch = &menu.choices[names.iter().position(|name| name == "launch").unwrap()];
        let flags: Vec<_> = launch.entries.iter().map(|entry| entry.name.as_str()).collect();
        for flag in ["config", "--local", "--restart", "--transport", "--systemd", "--without-ray"] {
            assert!(flags.contains(&flag), "{flag} is not in {flags:?}");
        }
    }

    #[test]
    fn what_is_filled_in_is_what_clap_understands() {
        let mut menu = filled(&["launch"], &[("--local", " "), ("--transport", "   "), ("--port", "18000")]);
        let words = menu.words().unwrap();
        for word in ["--local", "--transport=tcp", "--port=18000"] {
            assert!(words.contains(&word.to_owned()), "{words:?}");
        }
        Cli::try_parse_from(["halo-cluster".to_owned()].into_iter().chain(words)).unwrap();
        // A path that looks like a flag stays a path.
        let words = filled(&["launch"], &[("config", "-x.toml")]).words().unwrap();
        assert_eq!(words, ["launch", "--", "-x.toml"]);
    }

    #[test]
    fn what_is_missing_is_named_and_values_can_be_taken_back() {
        let mut menu = filled(&["models", "show"], &[]);
        assert_eq!((menu.words(), menu.missing.as_deref()), (None, Some("model is needed")));
        let mut menu = filled(&["launch"], &[("--port", "80")]);
        menu.edit(Entry::erase);
        menu.edit(Entry::erase);
        assert_eq!(menu.form.as_ref().unwrap().0.line(), ["launch"]);
        assert!(menu.back() && !menu.back());
    }
}
