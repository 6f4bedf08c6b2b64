//! What `launch` can besides: by hand, again after a failure, as a service, in a container, without Ray, with RDMA.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{PATIENCE, Rig, kill, post, read};

/// The dry run's commands, in their order.
fn by_hand(text: &str) -> Vec<String> {
    let blocks = text.split("\n\n").skip(1);
    blocks
        .map(|block| block.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"))
        .collect()
}

#[test]
fn the_commands_of_a_dry_run_serve_a_model_by_hand() {
    let rig = Rig::new();
    let (status, text, errors) = rig.run(&["launch", "--dry-run", rig.config("").to_str().unwrap()]);
    assert_eq!(status, 0, "{errors}");
    let port = rig.port.to_string();
    let text = text.replace("[DIR]", rig.folder.path().to_str().unwrap()).replace("[PORT]", &port);
    // A folder of this test's own.
    let text = text.replace("/tmp/halo-by-hand", rig.path("by-hand").to_str().unwrap());
    let commands = by_hand(&text);
    assert_eq!(commands.len(), 2, "{text}");
    let mut running = Vec::new();
    for (command, sign) in commands.iter().zip(["Ray runtime started", "started with"]) {
        let mut child = Command::new("setsid")
            .args(["sh", "-c", &format!("exec 2>&1\n{command}")])
            .envs([("HALO_KEY", "k"), ("RAY_AUTH_TOKEN", "t")])
            .env("XDG_STATE_HOME", rig.path("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains(sign) {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "{command}\n{said}");
        }
        running.push((child, output));
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", rig.port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing listens");
        std::thread::yield_now();
    }
    assert!(post(rig.port, "/v1/completions", "{}").contains(" world"));
    while let Some(line) = rig.left().first() {
        kill_if_there(line.split(' ').next().unwrap());
    }
    for (mut child, _) in running {
        child.wait().unwrap();
    }
}

fn kill_if_there(pid: &str) {
    let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
}

#[test]
fn the_environment_is_printed_as_each_node_would_get_it() {
    let rig = Rig::new();
    let config = rig.config("[env]\nMY_TOKEN = \"hidden\"\nPLAIN = \"a b\"\n");
    let (status, output, errors) = rig.run(&["launch", "--print-environment", config.to_str().unwrap()]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.starts_with("# node a\nGLOO_SOCKET_IFNAME=lo\n"), "{output}");
    assert!(output.contains("\nPLAIN='a b'\n") && output.contains("\nMY_TOKEN='(secret)'\n"), "{output}");
    assert!(!output.contains("hidden"), "{output}");
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn a_served_model_that_fails_is_launched_again_and_one_that_never_served_is_not() {
    let rig = Rig::new();
    let config = rig.config("");
    let mut command = rig.command(&["launch", config.to_str().unwrap(), "--restart", "on-failure"]);
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut serve = || {
        let mut text = String::new();
        while !text.contains("Stop: Ctrl-C") {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "{text}");
        }
    };
    serve();
    let first = rig.status()["launch"]["launch"].as_str().unwrap().to_owned();
    let server = rig.left().into_iter().find(|line| line.contains("api_server")).unwrap();
    kill(server.split(' ').next().unwrap().parse().unwrap(), "KILL");
    serve();
    let state = rig.status();
    assert_eq!(state["launch"]["phase"], "ready");
    assert_ne!(state["launch"]["launch"].as_str().unwrap(), first);
    assert!(
        rig.path("state/halo-cluster/logs/before/a-vllm.log").is_file(),
        "the failed launch's logs are kept"
    );
    kill(u64::from(child.id()), "TERM");
    let errors = read(child.stderr.take().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0), "{errors}");
    assert!(errors.contains("launching again (1 failure(s) of late)"), "{errors}");
    rig.assert_nothing_is_left();

    let broken = rig.config("[env]\nSTAND_IN = \"vllm-fails\"\n");
    let (status, _, errors) = rig.run(&["launch", broken.to_str().unwrap(), "--restart", "on-failure"]);
    assert_eq!(status, 1);
    assert!(!errors.contains("launching again"), "{errors}");
}

#[test]
fn a_unit_of_systemd_is_written_and_is_well_formed() {
    let rig = Rig::new();
    let unit = rig.path("halo-cluster.service");
    let config = rig.config("");
    let arguments =
        ["launch", config.to_str().unwrap(), "--port", "18001", "--systemd", unit.to_str().unwrap()];
    let (status, output, errors) = rig.run(&arguments);
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("sudo systemctl enable --now halo-cluster.service"), "{output}");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains(&format!("launch\" \"{}\" \"--port=18001\"", config.display())), "{text}");
    match Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&unit).output() {
        Ok(verified) => {
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            assert!(!said.contains("halo-cluster.service"), "{said}");
        }
        Err(_) => println!("not verified: systemd-analyze is not installed here"),
    }
    let (status, _, errors) =
        rig.run(&["launch", config.to_str().unwrap(), "--systemd", "/nowhere/x.service"]);
    assert_eq!(status, 1);
    assert!(
        errors.starts_with("error[HALO-E0682]: the unit /nowhere/x.service cannot be written"),
        "{errors}"
    );
}

#[test]
fn systemd_is_told_when_the_model_is_served() {
    let rig = Rig::new();
    let socket = std::os::unix::net::UnixDatagram::bind(rig.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = rig.config("");
    let mut command = rig.command(&["launch", config.to_str().unwrap()]);
    let mut child = command.env("NOTIFY_SOCKET", rig.path("notify")).spawn().unwrap();
    let mut word = [0; 64];
    let length = socket.recv(&mut word).unwrap();
    assert_eq!(&word[..length], b"READY=1");
    assert_eq!(rig.status()["launch"]["phase"], "ready");
    kill(u64::from(child.id()), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    rig.assert_nothing_is_left();
}

#[test]
fn doctor_is_asked_before_a_launch_unless_that_is_skipped() {
    let rig = Rig::new();
    rig.python(&["ray", "halo"]); // no vLLM
    let config = rig.config("");
    let error = rig.failure(&config);
    assert!(error.starts_with("error[HALO-E0620]: nothing was started: 1 check(s) "), "{error}");
    assert!(
        error.contains("\n  HALO-E0736 versions, node a: ") && error.contains(" has no vLLM\n"),
        "{error}"
    );

    let (status, _, errors) = rig.run(&["launch", "--skip-preflight", config.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(errors.contains("ok      check the nodes: a lo; doctor was not asked"), "{errors}");
    assert!(errors.contains("error[HALO-E0632]: vllm ended on node a"), "{errors}");
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn a_model_named_from_the_catalogue_brings_its_arguments() {
    let rig = Rig::new();
    std::fs::rename(rig.path("model"), rig.path("Qwen3.6-35B-A3B-AWQ-4bit")).unwrap();
    let config = rig.config("[vllm]\nargs = [\"--no-enforce-eager\", \"--max-model-len\", \"512\"]\n");
    let arguments = ["launch", config.to_str().unwrap(), "--model", "qwen3.6-35b-awq4", "--detach"];
    let (status, _, errors) = rig.run(&arguments);
    assert_eq!(status, 0, "{errors}");
    let told = "--trust-remote-code --enable-auto-tool-choice --tool-call-parser qwen3_coder --reasoning-parser qwen3";
    let said = format!("qwen3.6-35b-awq4 of the catalogue: [DIR]/Qwen3.6-35B-A3B-AWQ-4bit, with {told}");
    assert!(errors.contains(&format!("ok      {said}\n")), "{errors}");
    let log = rig.run(&["logs", "a-vllm"]).1;
    assert!(log.contains(&format!("{told} --no-enforce-eager --max-model-len 512")), "{log}");
    assert_eq!(rig.run(&["stop"]).0, 0);
    let (status, text, _) = rig.run(&[&arguments[..4], &["--dry-run"]].concat());
    assert!(status == 0 && text.starts_with(&format!("# {said}\n")), "{text}");
    let error = rig.run(&["launch", config.to_str().unwrap(), "--model", "elsewhere/m"]).2;
    assert!(
        error.starts_with("error[HALO-E0604]: --model: `model` is `elsewhere/m`, which is no absolute"),
        "{error}"
    );
}

/// A stand-in for podman: keeps what it was asked, and enters by running the command.
const PODMAN: &str = r#"echo "$@" >>"$0.log"
case "$1 $2" in
  "start there") echo there ;;
  "exec --interactive") shift 3; exec "$@" ;;
  "exec there") shift 2; exec "$@" ;;
  "inspect --type") [ "$4" = there ] && echo '[{"HostConfig": {"Privileged": true}}]' ;;
  *) echo "Error: no container with name or ID \"$2\" found: no such container" >&2; exit 125 ;;
esac
"#;

#[test]
fn a_launch_inside_a_container_starts_and_enters_it() {
    let rig = Rig::new();
    rig.program("podman", PODMAN);
    let launch = |name: &str| {
        let config = rig.config(&format!("[container]\nengine = \"podman\"\nname = \"{name}\"\n"));
        let mut command = rig.command(&["launch", "--detach", config.to_str().unwrap()]);
        command.env("PATH", rig.path_with_programs());
        rig.finish(&mut command)
    };
    let (status, output, errors) = launch("there");
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("Serving"), "{output}");
    let asked = fs::read_to_string(rig.path("bin/podman.log")).unwrap();
    assert!(asked.starts_with("start there\nexec --interactive there "), "{asked}");
    assert_eq!(rig.run(&["stop"]).0, 0);
    rig.assert_nothing_is_left();

    let (status, _, errors) = launch("absent");
    assert_eq!(status, 1);
    assert!(errors.contains("error[HALO-E0679]: the container absent cannot be used on node a"), "{errors}");
}

#[test]
fn without_ray_vllm_is_told_of_the_nodes_itself() {
    let rig = Rig::new();
    rig.python(&["vllm", "halo"]); // no Ray here
    let config = rig.config("");
    let (status, output, errors) =
        rig.run(&["launch", "--detach", "--without-ray", config.to_str().unwrap()]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("Serving"), "{output}");
    let log = rig.run(&["logs", "a-vllm"]).1;
    assert!(log.contains("--distributed-executor-backend=mp --nnodes=1 --master-addr=127.0.0.1"), "{log}");
    assert_eq!(rig.run(&["stop"]).0, 0);
    assert_eq!(rig.run(&["logs"]).1, "a-vllm\nlaunch\n");
    rig.assert_nothing_is_left();

    let uneven = rig.config("[[nodes]]\nname = \"b\"\nssh = \"b\"\naddress = \"10.0.0.2\"\n");
    let text = fs::read_to_string(&uneven).unwrap().replace("127.0.0.1\"\nranks", "10.0.0.1\"\nranks");
    let uneven = rig.write("uneven.toml", &text);
    shows!("without_ray_uneven", rig.run(&["launch", "--without-ray", uneven.to_str().unwrap()]).2);
}

#[test]
fn rdma_that_a_node_does_not_have_is_refused_before_anything_starts() {
    let rig = Rig::new();
    let text = fs::read_to_string(rig.config("")).unwrap().replace("\"shm\"", "\"rdma\"");
    let error = rig.failure(&rig.write("rdma.toml", &text));
    assert!(
        error.starts_with("error[HALO-E0678]: node a has no RDMA port with the address 127.0.0.1"),
        "{error}"
    );
}

#[test]
fn the_rdma_port_and_its_gid_are_found_by_the_address() {
    let rig = Rig::new();
    let gid = |device: &str, index: u32, gid: &str, kind: &str| {
        let port = rig.path(&format!("sys/class/infiniband/{device}/ports/1"));
        fs::create_dir_all(port.join("gids")).unwrap();
        fs::create_dir_all(port.join("gid_attrs/types")).unwrap();
        fs::write(port.join("state"), "4: ACTIVE\n").unwrap();
        fs::write(port.join(format!("gids/{index}")), gid).unwrap();
        fs::write(port.join(format!("gid_attrs/types/{index}")), kind).unwrap();
    };
    gid("irdma0", 0, "fe80:0000:0000:0000:0000:0000:0000:0001\n", "IB/RoCE v1\n");
    gid("irdma0", 2, "0000:0000:0000:0000:0000:ffff:c0a8:6401\n", "IB/RoCE v1\n");
    gid("irdma0", 3, "0000:0000:0000:0000:0000:ffff:c0a8:6401\n", "RoCE v2\n");
    gid("irdma1", 1, "0000:0000:0000:0000:0000:ffff:c0a8:6501\n", "RoCE v2\n");
    let ask = |address: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/agent/rdma.py");
        let output =
            Command::new("python3").arg(script).arg(address).arg(rig.folder.path()).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let found = ask("192.168.100.1");
    let port = serde_json::json!({"device": "irdma0", "port": 1, "gid_index": 3, "active": true});
    assert_eq!(found["ports"], serde_json::json!([port]));
    assert_eq!(found["others"], serde_json::json!(["irdma1:1 (4: ACTIVE; GIDs: RoCE v2)"]));
    assert_eq!(ask("10.0.0.1")["ports"], serde_json::json!([]));
}
