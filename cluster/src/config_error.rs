//! What can be wrong with a configuration, said with file, line and column.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

/// An error of the configuration.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    #[error("the configuration {} cannot be read", path.display())]
    #[diagnostic(
        code("HALO-E0601"),
        help("is the path right? `halo-cluster launch --local` needs no configuration")
    )]
    Unreadable { path: PathBuf, source: std::io::Error },

    #[error("{place}: {message}")]
    #[diagnostic(code("HALO-E0602"), help("docs/cluster.md lists every key and what it takes"))]
    Malformed { place: String, message: String },

    #[error("{place}: unknown key `{key}`")]
    #[diagnostic(code("HALO-E0603"), help("{help}"))]
    UnknownKey { place: String, key: String, help: String },

    #[error("{place}: {message}")]
    #[diagnostic(code("HALO-E0604"), help("{help}"))]
    Invalid { place: String, message: String, help: String },
}

impl ConfigError {
    /// The reader's error, with its place; unknown keys get a suggestion.
    pub fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let place = place(path, text, error.span().unwrap_or_default());
        // serde's wording of an unknown key: unknown field `a`, expected one of `b`, `c`
        let message = error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .replace("expected i64", "expected a whole number");
        let mut quoted = message.split('`').skip(1).step_by(2);
        match quoted.next().filter(|_| message.starts_with("unknown field")) {
            Some(key) => Self::UnknownKey {
                place,
                key: key.to_owned(),
                help: suggestion(key, &quoted.collect::<Vec<_>>()),
            },
            None => Self::Malformed { place, message },
        }
    }
}

fn suggestion(key: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.8);
    let list = format!("the keys here are: {}", known.join(", "));
    best.map_or(list.clone(), |(_, name)| format!("did you mean `{name}`? {list}"))
}

/// More than anybody writes by hand; what is larger is no configuration, and may have no end.
const LARGEST: u64 = 1 << 20;

/// The text of a configuration or a catalogue.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let refuse = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let mut file = File::open(path).map_err(refuse)?.take(LARGEST + 1);
    // What is too large is said before what is in it.
    let read = file.read_to_string(&mut text);
    if file.limit() == 0 {
        return Err(ConfigError::Invalid {
            place: path.display().to_string(),
            message: format!("more than {} KiB, which no configuration has", LARGEST >> 10),
            help: "is the path right?".to_owned(),
        });
    }
    read.map(|_| text).map_err(refuse)
}

/// `file:line:column`, counted from 1 as editors do.
pub fn place(path: &Path, text: &str, span: Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{line}:{column}", path.display())
}
