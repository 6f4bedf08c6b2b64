//! `init`: writes a configuration. It takes flags or asks at the terminal, looks at the nodes, and finds what joins them.

mod answers;
mod arguments;
mod choose;
mod error;
mod render;
mod wizard;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use answers::{ContainerAnswer, NodeAnswer};
pub use arguments::Arguments;
pub use error::InitError;

use crate::config::{Config, Link};
use crate::error::ClusterError;
use crate::login;
use crate::progress::Phase;
use crate::survey::survey;

/// What is known before the nodes are looked at: by flags, or by questions.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    pub nodes: Vec<NodeAnswer>,
    pub model: Option<String>,
    /// None: what is found.
    pub link: Option<Link>,
    /// The data network, if its addresses are to be given out.
    pub network: Option<(std::net::Ipv4Addr, u8)>,
    pub python: Option<String>,
    pub container: Option<ContainerAnswer>,
    pub image: Option<String>,
    pub ssh_options: Vec<String>,
}

/// Writes `file`. Questions are asked only at a terminal, and only for what is missing.
pub fn run(file: &Path, mut answers: Answers, force: bool) -> Result<(), ClusterError> {
    if file.exists() && !force {
        return Err(InitError::Exists { path: file.to_owned() }.into());
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let asked = answers.nodes.is_empty() || answers.model.is_none();
    if asked && !terminal {
        return Err(InitError::Missing.into());
    }
    if asked {
        wizard::before(&mut answers)?;
    }
    let draft = render::provisional(&answers)?;
    let phase = Phase::start(format!("look at {} node(s)", answers.nodes.len()));
    let mut looked = survey(&draft);
    let refused = |result: &Result<_, _>| matches!(result, Err(ClusterError::LoginRefused { .. }));
    if let Some(at) = looked.iter().position(|result| result.is_err() && !refused(result)) {
        return looked.swap_remove(at).map(|_| ());
    }
    phase.done("");
    let mut facts = Vec::new();
    for (index, result) in looked.into_iter().enumerate() {
        let surveyed = result.or_else(|refused| login::offer(&draft, index, refused, false))?;
        facts.push(surveyed.facts);
    }
    let mut chosen = choose::choose(&answers, &facts)?;
    if asked {
        wizard::after(&answers, &facts, &mut chosen)?;
    }
    let text = render::toml(&answers, &chosen);
    // What is written must be what is read; a value that cannot be is refused with its place.
    Config::parse(&text, file)?;
    write(file, &text, force).map_err(|source| InitError::Write { path: file.to_owned(), source })?;
    print!("{}", render::summary(file, &answers, &chosen));
    for ((node, chosen), facts) in answers.nodes.iter().zip(&chosen.nodes).zip(&facts) {
        if !facts.interfaces.iter().any(|interface| interface.name == chosen.interface) {
            let (node, interface) = (&node.name, &chosen.interface);
            println!(
                "{node} has no {interface} yet: it comes with thunderbolt-net, which `configure` loads, and the cable"
            );
        }
    }
    Ok(())
}

/// A file that came to be meanwhile is not overwritten.
fn write(file: &Path, text: &str, force: bool) -> std::io::Result<()> {
    if !force {
        return File::create_new(file)?.write_all(text.as_bytes());
    }
    let beside = file.with_extension("toml.new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}
