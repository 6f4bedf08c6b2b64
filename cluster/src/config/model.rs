//! A model that is named from the catalogue: its folder, and what its entry adds to a launch.

use std::collections::BTreeMap;

use super::Config;
use super::check::Problem;
use crate::models::{Catalogue, ModelsError};

/// Where models lie, if nothing says otherwise.
const FOLDER: &str = "/models";

/// What the catalogue's entry of the model adds to a launch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The model's name in the catalogue.
    pub name: String,
    /// What vLLM is told.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

impl Config {
    /// The folder of the models: `models`, or that of the configuration's own model.
    pub fn models_folder(&self) -> String {
        let own = self.model.get_ref();
        let beside = own.rsplit_once('/').filter(|_| own.starts_with('/')).map(|(folder, _)| folder);
        let folder = self.models.as_deref().or(beside).unwrap_or(FOLDER);
        if folder.is_empty() { "/".to_owned() } else { folder.to_owned() }
    }

    /// Takes `model`, a folder or a name of the catalogue, as the model.
    pub fn set_model(&mut self, model: &str) -> Result<(), Problem> {
        self.entry = None;
        let mut folder = model.to_owned();
        if !model.contains('/') {
            let refuse = |error: ModelsError| {
                let help = match &error {
                    ModelsError::Unknown { help, .. } => format!("{help}; or give an absolute path"),
                    _ => "docs/models.md tells what a catalogue of your own may say".to_owned(),
                };
                (self.model.span(), error.to_string(), help)
            };
            let catalogue = Catalogue::open(None).map_err(refuse)?;
            let known = catalogue.find(model).map_err(refuse)?;
            let parent = self.models_folder();
            folder = format!("{}/{}", parent.trim_end_matches('/'), known.folder_name());
            self.entry =
                Some(Entry { name: known.name.clone(), args: known.args.clone(), env: known.env.clone() });
        }
        *self.model.get_mut() = folder;
        Ok(())
    }

    /// What vLLM is told besides: what the catalogue says of the model, unless the configuration says otherwise, and
    /// what the configuration says.
    pub fn vllm_args(&self) -> Vec<String> {
        let own: Vec<String> = self.vllm.args.iter().map(|word| word.get_ref().clone()).collect();
        let given: Vec<String> = own.iter().filter_map(|word| flag(word)).collect();
        let mut kept = true;
        let mut words = self.entry.as_ref().map(|entry| entry.args.clone()).unwrap_or_default();
        words.retain(|word| {
            // A word that is no flag is the value of the one before it.
            if let Some(flag) = flag(word) {
                kept = !given.contains(&flag);
            }
            kept
        });
        words.extend(own);
        words
    }
}

/// `enforce-eager` of `--enforce-eager`, `--no-enforce-eager` or `--enforce_eager=true`.
fn flag(word: &str) -> Option<String> {
    let name = word.strip_prefix("--")?.split('=').next().unwrap_or_default().replace('_', "-");
    Some(name.strip_prefix("no-").map(str::to_owned).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(more: &str) -> Result<Config, String> {
        let node = "nodes = [{name = \"a\", local = true, address = \"10.0.0.1\"}]\n";
        Config::parse(&format!("{more}{node}"), Path::new("c.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_of_the_catalogue_stands_for_a_folder_and_its_arguments() {
        let config = parse("model = \"llama-3.1-8b\"\n").unwrap();
        assert_eq!(config.model.get_ref(), "/models/Meta-Llama-3.1-8B-Instruct");
        assert_eq!(config.vllm_args(), ["--enable-auto-tool-choice", "--tool-call-parser", "llama3_json"]);
        let config = parse("model = \"llama-3.1-8b\"\nmodels = \"/data/m/\"\n").unwrap();
        assert_eq!(config.model.get_ref(), "/data/m/Meta-Llama-3.1-8B-Instruct");
        let config = parse("model = \"/models/Meta-Llama-3.1-8B-Instruct\"\n").unwrap();
        assert_eq!((config.vllm_args(), config.entry), (Vec::new(), None));
        assert_eq!(
            parse("model = \"llama-3.1-9b\"\n").unwrap_err(),
            "c.toml:1:9: there is no model `llama-3.1-9b` in the catalogue"
        );
    }

    #[test]
    fn the_configurations_own_arguments_win() {
        let mut config = parse("model = \"qwen3.6-35b-awq4\"\n").unwrap();
        let mut with = |args: &[&str]| {
            config.vllm.args = args.iter().map(|word| toml::Spanned::new(0..0, (*word).to_owned())).collect();
            config.vllm_args().join(" ")
        };
        let rest = "--enable-auto-tool-choice --tool-call-parser qwen3_coder --reasoning-parser";
        assert_eq!(
            with(&["--max-model-len", "8192"]),
            format!("--trust-remote-code --enforce-eager {rest} qwen3 --max-model-len 8192")
        );
        assert_eq!(
            with(&["--no-enforce-eager", "--reasoning_parser=mine"]),
            "--trust-remote-code --enable-auto-tool-choice --tool-call-parser qwen3_coder --no-enforce-eager \
             --reasoning_parser=mine"
        );
    }

    #[test]
    fn another_model_is_looked_for_beside_the_first() {
        let mut config = parse("model = \"/data/models/mine\"\n").unwrap();
        config.set_model("gpt-oss-20b").unwrap();
        assert_eq!(config.model.get_ref(), "/data/models/gpt-oss-20b");
        config.set_model("/elsewhere/m").unwrap();
        assert_eq!((config.model.get_ref().as_str(), config.entry), ("/elsewhere/m", None));
    }
}
