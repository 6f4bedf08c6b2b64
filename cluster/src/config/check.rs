//! What no single value of the configuration shows.

use std::ops::Range;

use super::Config;

/// Where it stands, what is wrong, and what to do.
pub type Problem = (Range<usize>, String, String);

/// What halo-cluster itself passes to `vllm serve`, and where to set it instead.
const RESERVED: [(&str, &str); 12] = [
    ("--tensor-parallel-size", "`ranks` of the nodes"),
    ("-tp", "`ranks` of the nodes"),
    ("--distributed-executor-backend", "`ray`"),
    ("--host", "`host`"),
    ("--port", "`port`"),
    ("--model", "`model`"),
    ("--nnodes", "the list of `nodes`"),
    ("--node-rank", "the list of `nodes`"),
    ("--master-addr", "`address` of the head"),
    ("--master-port", "nothing: a free port is chosen"),
    ("--headless", "`ray = false`"),
    ("--data-parallel-size", "nothing: all ranks serve one copy of the model"),
];

impl Config {
    /// What no single value shows.
    pub fn check(&self) -> Result<(), Problem> {
        let refuse = |span: Range<usize>, message: String, help: &str| Err((span, message, help.to_owned()));
        if !self.model.get_ref().starts_with('/') {
            return refuse(
                self.model.span(),
                format!("`model` is `{}`, which is no absolute path", self.model.get_ref()),
                "give the model's folder as it is on every node, e.g. model = \"/models/Llama-3.1-8B\"",
            );
        }
        if self.models.as_ref().is_some_and(|folder| !folder.starts_with('/')) {
            return refuse(
                self.model.span(),
                format!("`models` is `{}`, which is no absolute path", self.models_folder()),
                "give the folder of the models as it is on every node, e.g. models = \"/models\"",
            );
        }
        if self.nodes.is_empty() {
            return refuse(0..0, "there are no nodes".to_owned(), "add a [[nodes]] table for every machine");
        }
        for (index, entry) in self.nodes.iter().enumerate() {
            let (node, span) = (entry.get_ref(), entry.span());
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if node.name.is_empty() || !node.name.chars().all(plain) || node.name.starts_with('.') {
                return refuse(
                    span,
                    format!("`{}` cannot be the name of a node", node.name),
                    "use letters, digits, `-`, `_` and `.`: the name is also that of its log files",
                );
            }
            let earlier = || self.nodes().take(index);
            if earlier().any(|other| other.name == node.name) {
                return refuse(
                    span,
                    format!("two nodes are called `{}`", node.name),
                    "give every node its own name",
                );
            }
            if earlier().any(|other| other.address == node.address) {
                return refuse(
                    span,
                    format!("two nodes have the address {}", node.address),
                    "give every node its own data address; several ranks on one node are `ranks = N`",
                );
            }
            if node.local == node.ssh.is_some() {
                return refuse(
                    span,
                    format!("node `{}` needs either `ssh` or `local = true`", node.name),
                    "ssh = \"user@host\" for another machine, local = true for this one",
                );
            }
            // ssh would take it for an option.
            if node.ssh.as_ref().is_some_and(|target| target.starts_with('-') || target.is_empty()) {
                return refuse(
                    span,
                    format!("the ssh target of node `{}` is no host", node.name),
                    "ssh = \"user@host\"",
                );
            }
        }
        for entry in &self.nodes {
            let (node, span) = (entry.get_ref(), entry.span());
            if node.address.is_unspecified() || (node.address.is_loopback() && self.nodes.len() > 1) {
                return refuse(
                    span,
                    format!("other nodes cannot reach `{}` at {}", node.name, node.address),
                    "give the node's address on the data network, e.g. 192.168.100.1",
                );
            }
        }
        if !self.ray
            && let Some(odd) = self.nodes.iter().find(|entry| entry.get_ref().ranks != self.head().ranks)
        {
            return refuse(
                odd.span(),
                format!("without Ray every node needs as many ranks as `{}`", self.head().name),
                "give all nodes the same `ranks`, or leave `ray` out",
            );
        }
        for argument in &self.vllm.args {
            let flag = argument.get_ref().split('=').next().unwrap_or_default().replace('_', "-");
            if let Some((flag, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == flag) {
                return refuse(
                    argument.span(),
                    format!("`{flag}` is set by halo-cluster"),
                    &format!("remove it; set {instead}"),
                );
            }
        }
        Ok(())
    }
}
