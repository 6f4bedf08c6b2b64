//! The catalogue: which models are known, and the figures that the memory sum needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ModelsError;
use crate::config_error::ConfigError;

const BUILT_IN: &str = include_str!("../../catalogue.toml");

/// Every model that is known, in the order of the files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    #[serde(default, rename = "model")]
    pub models: Vec<Model>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What it is called here.
    pub name: String,
    /// Where the hub has it: OWNER/NAME.
    pub repository: String,
    /// Whether the hub wants a token of an account that accepted the model's terms.
    #[serde(default)]
    pub gated: bool,
    /// Bytes of the weights on disk.
    pub weights: u64,
    /// Whether `weights` was computed rather than looked up.
    #[serde(default)]
    pub estimated: bool,
    /// How the weights are stored.
    pub quantisation: String,
    /// The longest context that the model was made for, in tokens.
    pub context: u64,
    /// Attention heads: the number of ranks must divide them.
    pub heads: u64,
    /// Sizes of tensor parallelism that the public two-node guide lists.
    #[serde(default)]
    pub guide: Vec<usize>,
    /// What was tried of it, in words.
    pub tested: String,
    /// What vLLM has to be told.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables that it needs.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What its layers keep of a sequence.
    pub attention: Vec<Attention>,
}

/// Layers of one kind, and what they keep per sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Attention {
    /// Keys and values of every token.
    Full { layers: u64, kv_heads: u64, head_dim: u64 },
    /// Keys and values of the last `window` tokens.
    Window { layers: u64, kv_heads: u64, head_dim: u64, window: u64 },
    /// So many bytes per token, all layers together, the same on every rank.
    Token { bytes: u64 },
    /// So many bytes per layer however long the sequence is, shared between the ranks.
    State { layers: u64, bytes: u64 },
}

impl Catalogue {
    /// The built-in models, with those of `file`, or of the user's own file if there is one, in their place.
    pub fn open(file: Option<&Path>) -> Result<Self, ModelsError> {
        let mut catalogue = Self::parse(BUILT_IN, Path::new("the built-in catalogue"))?;
        let own = match file {
            Some(path) => Some(path.to_owned()),
            None => own_file().filter(|path| path.exists()),
        };
        if let Some(path) = own {
            let text = crate::config_error::read(&path).map_err(|error| match error {
                ConfigError::Unreadable { path, source } => ModelsError::Catalogue { path, source },
                other => other.into(),
            })?;
            for model in Self::parse(&text, &path)?.models {
                catalogue.models.retain(|known| known.name != model.name);
                catalogue.models.push(model);
            }
        }
        Ok(catalogue)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ModelsError> {
        let catalogue: Self =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
        for model in &catalogue.models {
            model.check().map_err(|message| ModelsError::Entry {
                path: path.to_owned(),
                name: model.name.clone(),
                message,
            })?;
        }
        Ok(catalogue)
    }

    /// The model called `name`.
    pub fn find(&self, name: &str) -> Result<&Model, ModelsError> {
        self.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let known: Vec<_> = self.models.iter().map(|model| model.name.as_str()).collect();
            let likely = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
            let likely = likely.filter(|known| strsim::jaro_winkler(name, known) > 0.75);
            let hint = likely.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
            ModelsError::Unknown {
                name: name.to_owned(),
                help: format!("{hint}known are: {}", known.join(", ")),
            }
        })
    }
}

impl Model {
    /// What its folder is called: the repository's own name.
    pub fn folder_name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// What a reader of TOML cannot see.
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with(['.', '-']) || !self.name.chars().all(plain) {
            return Err("a name is letters, digits, `-`, `_` and `.`".to_owned());
        }
        check_repository(&self.repository)?;
        if self.heads == 0 || self.weights == 0 || self.context == 0 {
            return Err("`heads`, `weights` and `context` are more than nothing".to_owned());
        }
        let numbers = self.attention.iter().flat_map(|attention| match *attention {
            Attention::Full { layers, kv_heads, head_dim } => [layers, kv_heads, head_dim, 1],
            Attention::Window { layers, kv_heads, head_dim, window } => [layers, kv_heads, head_dim, window],
            Attention::Token { bytes } => [bytes, 1, 1, 1],
            Attention::State { layers, bytes } => [layers, bytes, 1, 1],
        });
        // Within this, no product of them leaves 128 bits.
        match numbers.into_iter().find(|number| !(1..=1 << 31).contains(number)) {
            Some(number) => Err(format!("{number} in `attention` is out of range")),
            None => Ok(()),
        }
    }
}

/// OWNER/NAME, and nothing that would be a path or an option.
pub fn check_repository(repository: &str) -> Result<(), String> {
    let plain = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(good)
    };
    match repository.split_once('/') {
        Some((owner, name)) if plain(owner) && plain(name) => Ok(()),
        _ => Err(format!("`{repository}` is no repository of the hub: OWNER/NAME")),
    }
}

/// `$XDG_CONFIG_HOME/halo-cluster/models.toml`, or below `~/.config`.
fn own_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("halo-cluster/models.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(change: impl Fn(&str) -> String) -> Result<Catalogue, ModelsError> {
        let good = "[[model]]\nname = \"m\"\nrepository = \"o/m\"\nweights = 1\nquantisation = \"bf16\"\ncontext = 8\n\
                    heads = 2\ntested = \"no\"\nattention = [{ kind = \"token\", bytes = 1 }]\n";
        Catalogue::parse(&change(good), Path::new("models.toml"))
    }

    #[test]
    fn the_built_in_catalogue_can_be_read_and_names_each_model_once() {
        let catalogue = Catalogue::parse(BUILT_IN, Path::new("built-in")).unwrap();
        assert!(catalogue.models.len() >= 10);
        for model in &catalogue.models {
            assert_eq!(catalogue.models.iter().filter(|other| other.name == model.name).count(), 1);
            assert!(model.guide.iter().all(|ranks| model.heads % *ranks as u64 == 0), "{}", model.name);
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        assert_eq!(entry(str::to_owned).unwrap().models.len(), 1);
        let refused = |from: &str, to: &str| entry(|good| good.replace(from, to)).unwrap_err().to_string();
        assert_eq!(refused("weights", "wieghts"), "models.toml:4:1: unknown key `wieghts`");
        let error = refused("o/m", "../etc/passwd");
        assert_eq!(error, "models.toml: model `m`: `../etc/passwd` is no repository of the hub: OWNER/NAME");
        let error = refused("bytes = 1", "bytes = 0");
        assert_eq!(error, "models.toml: model `m`: 0 in `attention` is out of range");
        assert!(refused("\"token\"", "\"tokens\"").contains("unknown variant `tokens`"));
        assert!(refused("name = \"m\"", "name = \"-m\"").contains("a name is letters"));
    }

    #[test]
    fn an_unknown_model_gets_a_suggestion() {
        let catalogue = Catalogue::parse(BUILT_IN, Path::new("built-in")).unwrap();
        let error = catalogue.find("gpt-oss-12b").unwrap_err();
        let ModelsError::Unknown { help, .. } = &error else { panic!("{error}") };
        assert!(help.starts_with("did you mean `gpt-oss-120b`?"), "{help}");
    }
}
