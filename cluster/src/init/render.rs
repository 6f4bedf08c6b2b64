//! The configuration as text.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{Table, presets};

use super::Answers;
use super::choose::Chosen;
use crate::config::{Config, Link};
use crate::config_error::ConfigError;

/// A string as TOML writes it, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn head(answers: &Answers) -> String {
    let mut text = String::new();
    let model = answers.model.as_deref().unwrap_or("/");
    let _ = writeln!(text, "# The model's folder, the same on every node.\nmodel = {}", quoted(model));
    if let Some(python) = &answers.python {
        let _ = writeln!(text, "# The interpreter that has vllm, ray and halo.\npython = {}", quoted(python));
    }
    text
}

fn tail(answers: &Answers) -> String {
    let mut text = String::new();
    if let Some(container) = &answers.container {
        let _ = writeln!(
            text,
            "\n[container]\nengine = \"{}\"\nname = {}",
            container.engine.name(),
            quoted(&container.name)
        );
        if let Some(image) = &answers.image {
            let _ = writeln!(text, "image = {}", quoted(image));
        }
    }
    if !answers.ssh_options.is_empty() {
        let options: Vec<_> = answers.ssh_options.iter().map(|option| quoted(option)).collect();
        let _ = writeln!(text, "\n[ssh]\noptions = [{}]", options.join(", "));
    }
    text
}

fn node(text: &mut String, name: &str, target: Option<&str>, address: &str, interface: Option<&str>) {
    let _ = writeln!(text, "\n[[nodes]]\nname = {}", quoted(name));
    match target {
        Some(target) => _ = writeln!(text, "ssh = {}", quoted(target)),
        None => text.push_str("local = true\n"),
    }
    let _ = writeln!(text, "address = {}", quoted(address));
    if let Some(interface) = interface {
        let _ = writeln!(text, "interface = {}", quoted(interface));
    }
}

/// What is needed to look at the nodes: addresses of the documentation's network stand for those not known yet.
pub fn provisional(answers: &Answers) -> Result<Config, ConfigError> {
    let mut text = head(answers);
    for (index, entry) in answers.nodes.iter().enumerate() {
        let address = format!("203.0.113.{}", index + 1);
        node(&mut text, &entry.name, entry.target.as_deref(), &address, entry.interface.as_deref());
    }
    text += &tail(answers);
    Config::parse(&text, Path::new("the command line"))
}

/// The file.
pub fn toml(answers: &Answers, chosen: &Chosen) -> String {
    let mut text = String::from("# Written by halo-cluster init; docs/cluster.md explains every key.\n\n");
    text += &head(answers);
    let transport = if chosen.link == Link::Roce { "rdma" } else { "tcp" };
    let _ =
        writeln!(text, "# A transport that cannot be had is an error; \"auto\" takes the best that works.");
    let _ = writeln!(text, "transport = \"{transport}\"");
    let _ = writeln!(
        text,
        "\n[network]\nlink = \"{}\"\nmtu = {}\nprefix = {}",
        chosen.link.name(),
        chosen.mtu,
        chosen.prefix
    );
    for (entry, chosen) in answers.nodes.iter().zip(&chosen.nodes) {
        let address = chosen.address.to_string();
        node(&mut text, &entry.name, entry.target.as_deref(), &address, Some(&chosen.interface));
    }
    text + &tail(answers)
}

/// What was found, and what comes next.
pub fn summary(file: &Path, answers: &Answers, chosen: &Chosen) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "reached by", "interface", "data address"]);
    for (entry, chosen_node) in answers.nodes.iter().zip(&chosen.nodes) {
        let target = entry.target.as_deref().unwrap_or("local");
        let address = format!("{}/{}", chosen_node.address, chosen.prefix);
        table.add_row([&entry.name, target, &chosen_node.interface, &address]);
    }
    let (link, file) = (chosen.link.name(), file.display());
    format!(
        "{}\n\nlink: {link}; written to {file}. Next:\n  halo-cluster doctor {file}\n  halo-cluster configure {file}\n  \
         halo-cluster launch {file}\n",
        table.trim_fmt()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::choose::choose;

    #[test]
    fn what_is_written_is_read_back_whatever_it_holds() {
        use proptest::prelude::*;
        proptest!(|(model in "/(?s).{0,40}", python in "(?s).{1,40}")| {
            let answers = Answers {
                nodes: vec!["a=local".parse().unwrap(), "b=me@b".parse().unwrap()],
                model: Some(model.clone()),
                python: Some(python.clone()),
                ..Answers::default()
            };
            let facts = vec![crate::doctor::recorded::ubuntu(); 2];
            let text = toml(&answers, &choose(&answers, &facts).unwrap());
            let config = Config::parse(&text, Path::new("c.toml")).unwrap();
            prop_assert_eq!(config.model.get_ref(), &model);
            prop_assert_eq!(config.python.as_ref(), Some(&python));
            prop_assert_eq!(config.nodes().len(), 2);
        });
    }

    #[test]
    fn values_that_cannot_be_are_refused_before_any_node_is_asked() {
        let answers = Answers {
            nodes: vec!["a b=local".parse().unwrap()],
            model: Some("/m".to_owned()),
            ..Answers::default()
        };
        let error = provisional(&answers).unwrap_err().to_string();
        assert!(error.contains("`a b` cannot be the name of a node"), "{error}");
    }
}
