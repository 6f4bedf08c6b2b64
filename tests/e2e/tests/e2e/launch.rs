//! A model served by two hosts through halo, launched over ssh, and what happens when a part of it dies.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use halo_built::python;
use halo_e2e::{Rig, alone, expected_tokens, model, request, tokens};
use halo_hosts::Hosts;
use serde_json::{Value, json};

const PROMPTS: [&str; 3] = ["the quick brown fox", "hello world from", "a tiny random model"];

/// Processes on all hosts besides their sshd.
fn left(hosts: &Hosts) -> Vec<(u32, String)> {
    (1..=hosts.count()).flat_map(|number| hosts.processes(number).unwrap()).collect()
}

/// A long completion, of which the first piece has arrived.
fn stream(endpoint: &str) -> (BufReader<TcpStream>, String) {
    let body = json!({"model": model(), "prompt": PROMPTS[0], "max_tokens": 1500, "ignore_eos": true, "stream": true});
    let mut answer = BufReader::new(request(endpoint, &body));
    let mut text = String::new();
    while !text.contains("data: ") {
        assert_ne!(answer.read_line(&mut text).unwrap(), 0, "{text}");
    }
    (answer, text)
}

fn rank(state: &Value, rank: u64) -> Value {
    let ranks = state["ranks"].as_array().unwrap();
    ranks
        .iter()
        .find(|entry| entry["rank"] == rank)
        .unwrap_or_else(|| panic!("no rank {rank}: {state}"))
        .clone()
}

/// Each host's rank works over tcp, and completions are what the model alone comes to.
fn assert_serves(hosts: &Hosts, state: &Value) {
    let endpoint = state["endpoint"].as_str().unwrap();
    let completions = PROMPTS.map(|prompt| tokens(endpoint, prompt));
    assert_eq!(completions.as_slice(), expected_tokens(&PROMPTS));
    for number in [1, 2] {
        let rank = rank(state, number as u64 - 1);
        assert_eq!(rank["node"], *hosts.host(number).name);
        assert_eq!(rank["transports"], json!(["tcp"]));
        assert!(rank["operations"].as_u64().unwrap() > 0, "{rank}");
    }
}

#[test]
#[ignore = "needs root and the Python environment: launches real Ray and vLLM on two namespace hosts"]
fn two_hosts_over_tcp_complete_exactly_as_the_model_alone_does() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let config = rig.config(&hosts);
    rig.run(["launch", "--detach", config.to_str().unwrap()]);
    assert_serves(&hosts, &rig.status());
    rig.run(["stop"]);
    assert_eq!(left(&hosts), []);
}

#[test]
#[ignore = "needs root and the Python environment: launches real Ray and vLLM on two namespace hosts"]
fn a_worker_killed_in_mid_request_fails_the_request_and_is_named() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let config = rig.config(&hosts);
    let mut launch = rig.serve(&["launch", config.to_str().unwrap()]);
    let state = rig.status();
    let endpoint = state["endpoint"].as_str().unwrap();

    let (mut answer, mut text) = stream(endpoint);
    let pid = rank(&state, 1)["pid"].to_string();
    let killed = Instant::now();
    assert!(hosts.exec(2, ["kill", "-9", &pid]).unwrap().status.success());

    // The client: the stream ends with an error or breaks off; it is not left waiting, and not told that all is well.
    let ended = answer.read_to_string(&mut text);
    println!(
        "the client knew after {:.1} s: {}",
        killed.elapsed().as_secs_f64(),
        text.trim_end().lines().last().unwrap_or_default()
    );
    assert!(ended.is_err() || text.contains("\"error\"") || !text.contains("[DONE]"), "{text}");

    // The launcher: names the node and ends.
    let mut errors = BufReader::new(launch.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("error[HALO-E0641]") {
        assert_ne!(errors.read_line(&mut said).unwrap(), 0, "{said}");
    }
    println!("the launcher had said so after {:.1} s", killed.elapsed().as_secs_f64());
    assert!(said.contains(&format!("rank 1 (tp:0) on node {}", hosts.host(2).name)), "{said}");
    errors.read_to_string(&mut said).unwrap();
    println!("all was stopped after {:.1} s", killed.elapsed().as_secs_f64());
    assert_eq!(launch.wait().unwrap().code(), Some(1));
    assert_eq!(rig.status()["phase"], "failed");
    assert_eq!(left(&hosts), []);
}

#[test]
#[ignore = "needs the Python environment: launches real Ray and vLLM on this machine"]
fn local_serves_over_shared_memory() {
    let _alone = alone();
    let rig = Rig::new();
    let python = python();
    rig.run(["launch", "--local", "--detach", "--port", "18000", "--python", python.to_str().unwrap()]);
    let state = rig.status();
    for number in [0, 1] {
        let rank = rank(&state, number);
        assert_eq!(rank["transports"], json!(["shm"]));
        assert!(rank["operations"].as_u64().unwrap() > 0, "{rank}");
    }
    let launch = state["launch"].as_str().unwrap();
    assert!(of_launch(launch).len() > 3, "{:?}", of_launch(launch));
    rig.run(["stop"]);
    assert_eq!(of_launch(launch), Vec::<String>::new());
    assert!(!Path::new(&format!("/tmp/halo-{launch}")).exists());
}

/// The processes of this machine that belong to a launch.
fn of_launch(launch: &str) -> Vec<String> {
    let mark = format!("HALO_CLUSTER_LAUNCH={launch}");
    let marked = |pid: &str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|pid| marked(pid)).collect()
}

/// The cable is cut in mid-request: the client knows, everything is stopped, and the error names the rank that is lost.
fn assert_a_cut_cable_ends(mut launch: Child, hosts: &Hosts, state: &Value) {
    let (mut answer, mut text) = stream(state["endpoint"].as_str().unwrap());
    let cut = Instant::now();
    hosts.set_data_link(2, false).unwrap();

    let ended = answer.read_to_string(&mut text);
    println!("the client knew after {:.1} s", cut.elapsed().as_secs_f64());
    assert!(ended.is_err() || text.contains("\"error\"") || !text.contains("[DONE]"), "{text}");
    let mut said = String::new();
    launch.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    println!("all was stopped after {:.1} s: {said}", cut.elapsed().as_secs_f64());
    // Rank 0 stops because it lost rank 1, and says so.
    assert!(said.contains("error[HALO-E06"), "{said}");
    assert!(said.contains(&format!("rank 1 ({}) is lost", hosts.host(2).name)), "{said}");
    assert_eq!(launch.wait().unwrap().code(), Some(1));
    assert_eq!(left(hosts), []);
}

#[test]
#[ignore = "needs root and the Python environment: launches real Ray and vLLM on two namespace hosts"]
fn a_cut_cable_fails_the_request_and_ends_the_launch() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let config = rig.config(&hosts);
    let launch = rig.serve(&["launch", config.to_str().unwrap()]);
    assert_a_cut_cable_ends(launch, &hosts, &rig.status());
}

#[test]
#[ignore = "needs root and the Python environment: launches real vLLM on two namespace hosts, without Ray"]
fn two_hosts_serve_without_ray_until_the_cable_is_cut() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let config = rig.config(&hosts);
    let launch = rig.serve(&["launch", "--without-ray", config.to_str().unwrap()]);
    let state = rig.status();
    assert_serves(&hosts, &state);
    assert!(left(&hosts).iter().all(|(_, line)| !line.contains("ray.scripts")));
    assert_a_cut_cable_ends(launch, &hosts, &state);
}

#[test]
#[ignore = "needs root and the Python environment: logs in to a namespace host with a key that it does not know"]
fn a_wrong_key_is_a_refused_login() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let config = rig.config(&hosts);
    // The hosts accept no key any more.
    std::fs::write(hosts.folder().join("user_key.pub"), "").unwrap();
    let output = rig.command(["launch", config.to_str().unwrap()]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("error[HALO-E0612]: node "), "{errors}");
    assert!(errors.contains("refused the ssh login"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(left(&hosts), []);
}

#[test]
#[ignore = "needs root and the Python environment: asks two namespace hosts what they have"]
fn nodes_that_disagree_are_refused_before_anything_starts() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let text = std::fs::read_to_string(rig.config(&hosts)).unwrap();
    // An old halo on host 2, whose MTU has not been set, either.
    let old = rig.folder().join("old/halo-0.0.1.dist-info");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("METADATA"), "Metadata-Version: 2.1\nName: halo\nVersion: 0.0.1\n").unwrap();
    let script = rig.folder().join("python");
    let lines = format!(
        "export PYTHONPATH={}\nexec {} \"$@\"\n",
        rig.folder().join("old").display(),
        python().display()
    );
    std::fs::write(&script, format!("#!/bin/sh\n{lines}")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = format!("address = \"{}\"\n", hosts.host(2).address);
    let config = rig.folder().join("disagree.toml");
    std::fs::write(&config, text.replace(&second, &format!("{second}python = \"{}\"\n", script.display())))
        .unwrap();
    assert!(hosts.exec(2, ["ip", "link", "set", "rdma0", "mtu", "1500"]).unwrap().status.success());

    let output = rig.command(["launch", config.to_str().unwrap()]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let (a, b) = (&hosts.host(1).name, &hosts.host(2).name);
    assert!(errors.contains("error[HALO-E0620]: nothing was started: "), "{errors}");
    assert!(errors.contains(&format!("HALO-E0736 versions, node {b}: halo 0.0.1, {a} has ")), "{errors}");
    assert!(errors.contains(&format!("HALO-E0723 mtu, node {b}: ")), "{errors}");
    assert!(errors.contains(&format!("HALO-E0724 frames, node {a}: ")), "{errors}");
    assert_eq!(left(&hosts), []);
}
