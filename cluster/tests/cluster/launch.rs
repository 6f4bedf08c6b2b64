//! A launch from start to end, with stand-ins for Ray and vLLM: whatever ends it, nothing is left.

use crate::support::{PATIENCE, Rig, kill, post, processes, read};

#[test]
fn ctrl_c_ends_a_served_launch_and_leaves_nothing() {
    let rig = Rig::new();
    let served = rig.serve(&rig.config(""));
    assert!(served.output.contains("shm"), "{}", served.output);
    assert!(post(rig.port, "/v1/completions", "{}").contains(" world"));
    assert!(rig.left().iter().any(|line| line.contains("daemon")), "{:?}", rig.left());
    served.signal("INT");
    let (status, errors) = served.end();
    assert_eq!(status, Some(0), "{errors}");
    rig.assert_nothing_is_left();
}

#[test]
fn a_detached_launch_is_seen_by_status_and_ended_by_stop() {
    let rig = Rig::new();
    let config = rig.config("");
    let (status, output, errors) = rig.run(&["launch", config.to_str().unwrap(), "--detach"]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("http://127.0.0.1:[PORT]/v1"), "{output}");

    let state = rig.status();
    assert_eq!(state["running"], true);
    assert_eq!(state["launch"]["phase"], "ready");
    assert_eq!(state["launch"]["nodes"][0]["name"], "a");
    let ranks = state["launch"]["ranks"].as_array().unwrap();
    assert_eq!(ranks.len(), 2);
    for rank in ranks {
        assert_eq!(rank["transports"][0], "shm");
        assert_eq!(rank["operations"], 9);
        assert_eq!(rank["bytes"], 4608);
    }

    let (status, _, errors) = rig.run(&["launch", config.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(errors.starts_with("error[HALO-E0661]: another launch is running"), "{errors}");

    assert_eq!(rig.run(&["stop"]), (0, "stopped\n".to_owned(), String::new()));
    rig.assert_nothing_is_left();
    assert_eq!(rig.status()["running"], false);
    assert_eq!(rig.run(&["stop"]).1, "nothing is running\n");
    let (_, logs, _) = rig.run(&["logs"]);
    assert_eq!(logs, "a-ray\na-vllm\nlaunch\n");
    assert!(rig.run(&["logs", "a-ray"]).1.contains("Ray runtime started"));
}

#[test]
fn local_needs_no_configuration_and_makes_its_model_once() {
    let rig = Rig::new();
    let (python, port) = (rig.path("python").display().to_string(), rig.port.to_string());
    let arguments = ["launch", "--local", "--detach", "--python", &python, "--port", &port];
    for made in [true, false] {
        let (status, output, errors) = rig.run(&arguments);
        assert_eq!(status, 0, "{errors}");
        assert!(output.contains("tiny-model"), "{output}");
        assert_eq!(errors.contains("make a tiny model"), made, "{errors}");
        assert_eq!(rig.run(&["stop"]).0, 0);
    }
    rig.assert_nothing_is_left();
}

/// Starts a launch that will not get ready, kills the process that `victim` picks once vLLM loads, and returns what the
/// launcher says.
fn after_a_death_during_the_load(victim: &str) -> String {
    let rig = Rig::new();
    let config = rig.config("[env]\nSTAND_IN = \"never-ready\"\n");
    let mut child = rig.command(&["launch", config.to_str().unwrap()]).spawn().unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !rig.left().iter().any(|line| line.contains("api_server")) {
        assert!(std::time::Instant::now() < deadline, "vLLM is not started");
        std::thread::yield_now();
    }
    kill(process(&rig, victim), "KILL");
    let errors = read(child.stderr.take().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(1), "{errors}");
    rig.assert_nothing_is_left();
    errors
}

#[test]
fn what_dies_during_the_load_is_named_with_its_node() {
    let errors = after_a_death_during_the_load("halo-agent");
    assert!(errors.contains("error[HALO-E0642]: node a is lost"), "{errors}");
    let errors = after_a_death_during_the_load("api_server");
    assert!(errors.contains("error[HALO-E0632]: vllm ended on node a (signal 9)"), "{errors}");
}

/// Serves, kills the process that `victim` picks, and returns what the launcher says.
fn after_the_death_of(victim: impl Fn(&Rig) -> u64) -> String {
    after_a_death("", victim)
}

/// The same with the stand-ins in a certain mode.
fn after_a_death(mode: &str, victim: impl Fn(&Rig) -> u64) -> String {
    let rig = Rig::new();
    let served = rig.serve(&rig.config(&format!("[env]\nSTAND_IN = \"{mode}\"\n")));
    kill(victim(&rig), "KILL");
    let (status, errors) = served.end();
    assert_eq!(status, Some(1), "{errors}");
    rig.assert_nothing_is_left();
    assert_eq!(rig.status()["launch"]["phase"], "failed");
    errors
}

fn process(rig: &Rig, word: &str) -> u64 {
    let left = rig.left();
    let line =
        left.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in {left:?}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

fn rank_1(rig: &Rig) -> u64 {
    let state = rig.status();
    let ranks = state["launch"]["ranks"].as_array().unwrap();
    ranks.iter().find(|rank| rank["rank"] == 1).unwrap()["pid"].as_u64().unwrap()
}

#[test]
fn a_rank_that_dies_is_named_with_its_node() {
    let errors = after_the_death_of(rank_1);
    assert!(errors.contains("error[HALO-E0641]: rank 1 (tp:0) on node a ended"), "{errors}");
}

#[test]
fn a_rank_that_takes_another_with_it_is_named_first() {
    let errors = after_a_death("ranks-follow", rank_1);
    let (first, then) = errors.split_once(", and rank 0 (tp:0) on node a (process ").unwrap();
    assert!(first.contains("error[HALO-E0641]: rank 1 (tp:0) on node a ended"), "{errors}");
    assert!(then.contains("; HALO-E0219: rank 1 (here) is lost"), "{errors}");
}

#[test]
fn ray_that_dies_is_named_with_its_node() {
    let errors = after_the_death_of(|rig| process(rig, "ray.scripts.scripts"));
    assert!(errors.contains("error[HALO-E0632]: ray ended on node a (signal 9)"), "{errors}");
}

#[test]
fn a_server_that_dies_is_named_with_its_node() {
    let errors = after_the_death_of(|rig| process(rig, "api_server"));
    assert!(errors.contains("error[HALO-E0632]: vllm ended on node a (signal 9)"), "{errors}");
}

#[test]
fn an_agent_that_dies_is_a_lost_node_and_what_it_started_is_removed() {
    let errors = after_the_death_of(|rig| process(rig, "halo-agent"));
    assert!(errors.contains("error[HALO-E0642]: node a is lost"), "{errors}");
}

#[test]
fn a_launcher_that_is_killed_leaves_nothing() {
    let rig = Rig::new();
    let served = rig.serve(&rig.config(""));
    served.signal("KILL");
    assert_eq!(served.end().0, None);
    rig.wait_until_nothing_is_left();
    rig.assert_nothing_is_left();
    let state = rig.status();
    assert_eq!((&state["running"], &state["launch"]["phase"]), (&false.into(), &"failed".into()));
}

#[test]
fn stop_removes_what_a_killed_launcher_and_a_killed_agent_left() {
    let rig = Rig::new();
    let served = rig.serve(&rig.config(""));
    let agent = process(&rig, "halo-agent");
    served.signal("STOP"); // the launcher sees neither its agent's end ...
    kill(agent, "KILL");
    served.signal("KILL"); // ... nor its own
    served.end();
    assert!(!rig.left().is_empty());
    let (status, output, errors) = rig.run(&["stop"]);
    assert_eq!((status, output.as_str()), (0, "the launch had died; what it left is removed\n"), "{errors}");
    rig.assert_nothing_is_left();
}

#[test]
fn a_process_of_someone_else_survives_stop() {
    let rig = Rig::new();
    // The same command as ours, and even a launch by name: but another one.
    let launch = format!("{:08x}", std::process::id());
    let mut other =
        std::process::Command::new("sleep").arg("600").env("HALO_CLUSTER_LAUNCH", &launch).spawn().unwrap();
    let served = rig.serve(&rig.config(""));
    served.signal("TERM");
    assert_eq!(served.end().0, Some(0));
    assert_eq!(processes(&format!("HALO_CLUSTER_LAUNCH={launch}")).len(), 1);
    other.kill().unwrap();
    other.wait().unwrap();
}
