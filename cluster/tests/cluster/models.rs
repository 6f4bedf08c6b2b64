//! `models`: the catalogue, the sum, and the copy between nodes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::Rig;

/// What follows `$ halo-cluster` in a page's or a help's examples is what these tests run.
#[test]
fn the_catalogue_is_listed_shown_and_extended() {
    let rig = Rig::new();
    shows!("help_models", rig.run(&["models", "--help"]).1);
    shows!("help_models_fit", rig.run(&["models", "fit", "--help"]).1);
    shows!("help_models_download", rig.run(&["models", "download", "--help"]).1);
    shows!("models_list", rig.run(&["models", "list"]).1);
    shows!("models_show", rig.run(&["models", "show", "gemma-4-31b"]).1);
    let own = rig.write(
        "own.toml",
        "[[model]]\nname = \"mine\"\nrepository = \"me/mine\"\nweights = 1000\nquantisation = \"bf16\"\ncontext = 100\n\
         heads = 4\ntested = \"at home\"\nattention = [{ kind = \"full\", layers = 1, kv_heads = 2, head_dim = 8 }]\n",
    );
    let (status, output, _) = rig.run(&["models", "list", "--json", "--catalogue", own.to_str().unwrap()]);
    let models: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((status, models.as_array().unwrap().last().unwrap()["name"].as_str()), (0, Some("mine")));
}

#[test]
fn a_fit_is_an_answer_and_an_exit_status() {
    let rig = Rig::new();
    let fit = |words: &[&str]| rig.run(&[&["models", "fit"], words].concat());
    let (status, output, _) = fit(&["--all", "--nodes", "2", "--memory", "124"]);
    assert_eq!(status, 0);
    shows!("models_fit_all", output);
    let (status, _, errors) = fit(&["qwen3.5-122b-awq8", "--nodes", "1", "--memory", "124"]);
    assert_eq!(status, 1);
    shows!("models_fit_too_large", errors);
    let (status, _, errors) = fit(&["minimax-m2.7-strix", "--memory", "124", "--context", "196608"]);
    assert_eq!(status, 1);
    shows!("models_fit_too_long", errors);
    shows!("models_unknown", fit(&["gpt-oss", "--memory", "124"]).2);
    // The nodes are asked: this machine is one with two ranks.
    let config = rig.config("");
    let (status, output, errors) = fit(&["--all", config.to_str().unwrap(), "--json"]);
    assert_eq!(status, 0, "{errors}");
    let answers: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&answers[0]["ranks"], &answers[0]["node"]), (&2.into(), &"a".into()));
    assert!(answers[0]["available"].as_u64().unwrap() > 0);
}

#[test]
fn a_catalogue_that_cannot_be_is_refused() {
    let rig = Rig::new();
    let with = |text: &str| {
        let path = rig.write("own.toml", text);
        rig.run(&["models", "list", "--catalogue", path.to_str().unwrap()]).2
    };
    assert!(with("[[modell]]\n").starts_with("error[HALO-E0603]: [DIR]/own.toml:1:3: unknown key `modell`"));
    assert!(with("[[model]]\nname = 1\n").starts_with("error[HALO-E0602]: [DIR]/own.toml:2:8"));
    let absent = rig.path("absent.toml");
    let (status, _, errors) = rig.run(&["models", "list", "--catalogue", absent.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(
        errors.starts_with("error[HALO-E0667]: the catalogue [DIR]/absent.toml cannot be read"),
        "{errors}"
    );
}

const SHARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agent/share.py");

fn share(secret: &str, words: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(SHARE).args(words).env("HALO_SHARE_SECRET", secret).stdout(Stdio::piped());
    command
}

/// The head's side of a copy, over loopback.
struct Serving {
    child: Child,
    port: String,
}

impl Serving {
    fn of(folder: &Path) -> Self {
        let mut child = share("secret", &["serve", folder.to_str().unwrap(), "127.0.0.1"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = serde_json::from_str::<serde_json::Value>(&line).unwrap()["port"].to_string();
        Self { child, port }
    }

    fn fetch(&self, secret: &str, into: &Path) -> (Output, serde_json::Value) {
        let words = ["fetch", into.to_str().unwrap(), "127.0.0.1", &self.port];
        let output = share(secret, &words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        (output, last)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_copy_goes_on_where_it_broke_off_and_refuses_what_is_damaged() {
    let rig = Rig::new();
    let (from, into) = (rig.path("from"), rig.path("into"));
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::create_dir_all(&into).unwrap();
    let weights: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(from.join("sub/weights"), &weights).unwrap();
    std::fs::write(from.join("config.json"), "{}").unwrap();
    std::fs::create_dir_all(into.join("sub")).unwrap();
    let serving = Serving::of(&from);

    // Somebody else's bytes lie where the first part should: the digest does not match, nothing is kept.
    std::fs::write(into.join("sub/weights.part"), vec![9; 1000]).unwrap();
    let (output, last) = serving.fetch("secret", &into);
    assert_eq!((output.status.code(), &last["failure"]), (Some(1), &"share".into()));
    assert_eq!(last["text"], "weights arrived damaged; it was removed");
    assert!(!into.join("sub/weights").exists() && !into.join("sub/weights.part").exists());
    assert!(!into.join("config.json").exists(), "config.json comes last");

    // The true first part is used.
    std::fs::write(into.join("sub/weights.part"), &weights[..123_456]).unwrap();
    let (output, last) = serving.fetch("secret", &into);
    assert_eq!((output.status.code(), &last["files"]), (Some(0), &2.into()), "{last}");
    assert_eq!(std::fs::read(into.join("sub/weights")).unwrap(), weights);
    assert_eq!(serving.fetch("secret", &into).1["files"], 0);

    // Another model with files of the same size.
    std::fs::write(into.join("config.json"), "[]").unwrap();
    assert_eq!(serving.fetch("secret", &into).1["files"], 2);
    assert_eq!(std::fs::read(into.join("config.json")).unwrap(), b"{}");
}

#[test]
fn a_stranger_gets_nothing_of_a_model() {
    let rig = Rig::new();
    let serving = Serving::of(&rig.path("model"));
    let (output, last) = serving.fetch("guess", &rig.path("into"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(last["text"], "the head answered 403: the secret is wrong");
    assert!(!rig.path("into").exists());
}
