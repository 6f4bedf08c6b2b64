//! A model from a hub to both hosts: the real client library against a double of the hub, and real copies over the
//! data network.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use halo_built::python;
use halo_e2e::{Rig, alone};
use halo_hosts::Hosts;

const TOKEN: &str = "hf_thisIsTheSecretOfTheTest";
/// Every host has its own /tmp.
const INTO: &str = "/tmp/models";

/// A hub on host 1 with one model of about 3 MB.
struct Hub {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Hub {
    fn start(rig: &Rig, hosts: &Hosts) -> Self {
        let files = rig.folder().join("hub");
        std::fs::create_dir_all(files.join("original")).unwrap();
        std::fs::write(files.join("config.json"), "{\"model_type\": \"test\"}").unwrap();
        for number in 1..=3_u8 {
            let bytes: Vec<u8> =
                (0..1_000_000_u32).map(|at| (at.wrapping_mul(u32::from(number)) >> 3) as u8).collect();
            std::fs::write(files.join(format!("model-{number}.safetensors")), bytes).unwrap();
        }
        std::fs::write(files.join("original/consolidated.pth"), vec![0; 1000]).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hub.py");
        let words = [python(), script, files, "owner/model".into(), TOKEN.into()];
        let mut child = hosts
            .command(1, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the hub starts");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Self { child, output, port: line.trim().parse().unwrap_or_else(|_| panic!("the hub said {line:?}")) }
    }

    /// What it noticed.
    fn end(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        self.output.by_ref().lines().map_while(Result::ok).collect()
    }
}

fn download(rig: &Rig, hosts: &Hosts, port: u16, token: &str) -> Output {
    let config = rig.config(hosts);
    let mut command =
        rig.command(["models", "download", "owner/model", config.to_str().unwrap(), "--into", INTO]);
    command.env("HF_TOKEN", token).env("HF_ENDPOINT", format!("http://127.0.0.1:{port}"));
    command.output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn on(hosts: &Hosts, number: usize, script: &str) -> String {
    let output = hosts.exec(number, ["sh", "-c", script]).unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn sums(hosts: &Hosts, number: usize) -> String {
    on(
        hosts,
        number,
        "cd /tmp/models/model && find . -type f -not -path './.cache/*' | sort | xargs sha256sum",
    )
}

#[test]
#[ignore = "needs root and the Python environment: fetches a model on two namespace hosts"]
fn a_model_comes_to_both_hosts_once_and_the_token_stays_secret() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let hub = Hub::start(&rig, &hosts);
    let output = download(&rig, &hosts, hub.port, TOKEN);
    assert!(output.status.success(), "{}", errors(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("/tmp/models/model is on 2 node(s)"), "{said}");

    let files = sums(&hosts, 1);
    assert_eq!(files.lines().count(), 4, "the second copy of the weights is left out: {files}");
    assert_eq!(sums(&hosts, 2), files);

    // Once more: nothing comes.
    let output = download(&rig, &hosts, hub.port, TOKEN);
    assert!(errors(&output).contains("all of it was there already"), "{}", errors(&output));

    // One file differs and one is missing on host 2: they come from host 1.
    on(&hosts, 2, "cd /tmp/models/model && echo x >model-1.safetensors && rm model-2.safetensors");
    assert!(download(&rig, &hosts, hub.port, TOKEN).status.success());
    assert_eq!(sums(&hosts, 2), files);

    let wrote =
        format!("grep -rlF {TOKEN} /tmp /dev/shm /run {} 2>/dev/null | grep -v hub", rig.folder().display());
    for number in [1, 2] {
        assert_eq!(on(&hosts, number, &wrote), "", "the token was written on host {number}");
    }
    assert!(!String::from_utf8_lossy(&output.stdout).contains(TOKEN) && !errors(&output).contains(TOKEN));
    assert_eq!(hub.end(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root and the Python environment: fetches a model on two namespace hosts"]
fn what_keeps_a_model_from_coming_is_said_and_leaves_nothing_that_looks_whole() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let hub = Hub::start(&rig, &hosts);
    let failed = |output: &Output| {
        assert_eq!(output.status.code(), Some(1));
        errors(output)
    };

    let said = failed(&download(&rig, &hosts, hub.port, "hf_wrong"));
    assert!(said.contains("error[HALO-E0671]: the hub does not give owner/model"), "{said}");
    assert!(said.contains("it is set now") && !said.contains("hf_wrong"), "{said}");

    // The head's disk is too small.
    on(&hosts, 1, "mkdir -p /tmp/models && mount -t tmpfs -o size=2m small /tmp/models");
    let said = failed(&download(&rig, &hosts, hub.port, TOKEN));
    assert!(said.contains(&format!("error[HALO-E0673]: node {} cannot store", hosts.host(1).name)), "{said}");
    on(&hosts, 1, "umount /tmp/models");

    // The other node's is.
    on(&hosts, 2, "mkdir -p /tmp/models && mount -t tmpfs -o size=2m small /tmp/models");
    let said = failed(&download(&rig, &hosts, hub.port, TOKEN));
    assert!(said.contains(&format!("error[HALO-E0673]: node {} cannot store", hosts.host(2).name)), "{said}");
    assert_eq!(on(&hosts, 2, "ls /tmp/models/model/config.json"), "");
    on(&hosts, 2, "umount /tmp/models");

    // The cable is out.
    hosts.set_data_link(2, false).unwrap();
    let said = failed(&download(&rig, &hosts, hub.port, TOKEN));
    assert!(
        said.contains(&format!("error[HALO-E0676]: node {} could not copy", hosts.host(2).name)),
        "{said}"
    );
    hosts.set_data_link(2, true).unwrap();

    // The hub is gone.
    let port = hub.port;
    hub.end();
    let said = failed(&download(&rig, &hosts, port, TOKEN));
    assert!(said.contains("error[HALO-E0674]: owner/model could not be fetched"), "{said}");
    for number in [1, 2] {
        assert_eq!(hosts.processes(number).unwrap(), []);
    }
}
