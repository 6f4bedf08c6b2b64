//! `verify` between real hosts: both networks, both directions, what the cards counted, and what a cut cable makes of it.

use std::path::{Path, PathBuf};

use halo_built::program;
use halo_e2e::{Rig, alone};
use halo_hosts::Hosts;
use serde_json::Value;

/// Two nodes whose torch sees a GPU and RCCL (see stand_ins/gpu), but on the hosts `without`.
fn config(rig: &Rig, hosts: &Hosts, without: &str) -> PathBuf {
    let path = rig.config(hosts);
    let gpu = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand_ins/gpu");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &format!("PYTHONPATH = \"{}\"\nNO_GPU_ON = \"{without}\"\n", gpu.display());
    std::fs::write(&path, text).unwrap();
    path
}

fn verify(rig: &Rig, config: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = rig.command([
        "verify",
        config.to_str().unwrap(),
        "--halo-perf",
        program("halo-perf").to_str().unwrap(),
    ]);
    let output = command.args(more).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The examples of `verify --help`, run as they stand there, where cluster.toml and halo-perf lie.
fn examples(rig: &Rig, hosts: &Hosts) -> Vec<(String, String)> {
    std::fs::copy(config(rig, hosts, ""), rig.folder().join("cluster.toml")).unwrap();
    std::fs::copy(program("halo-perf"), rig.folder().join("halo-perf")).unwrap();
    // halo-cluster with the same halo-perf beside it, which is sent to nodes that have none.
    let programs = rig.folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::fs::copy(rig.command(["verify"]).get_program(), programs.join("halo-cluster")).unwrap();
    std::fs::copy(program("halo-perf"), programs.join("halo-perf")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let run = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(rig.folder())
            .env("PATH", &path)
            .env("XDG_STATE_HOME", rig.folder());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let help = run("halo-cluster verify --help");
    let lines = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("no examples: {help}")).lines();
    lines.map(|line| (line.trim().to_owned(), run(line.trim()))).collect()
}

#[test]
#[ignore = "needs root: measures between two namespace hosts"]
fn every_network_between_two_hosts_is_measured_both_ways_kept_and_compared() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    let (status, _, errors) = verify(&rig, &rig.config(&hosts), &["--compare"]);
    assert_eq!(status, 1);
    assert!(errors.contains("error[HALO-E0765]"), "{errors}");

    let ran = examples(&rig, &hosts);
    let output = |with: &str| {
        &ran.iter().find(|(line, _)| line.contains(with)).unwrap_or_else(|| panic!("no {with}")).1
    };
    let verified: Value = serde_json::from_str(output("--json")).unwrap();
    let rows = verified["rows"].as_array().unwrap();
    // Two networks (management and data), each: latency, bandwidth both ways, three sizes of all-reduce by halo and RCCL.
    assert_eq!(rows.len(), 18, "{verified}");
    for row in rows {
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
        let interface = row["path"]["ends"][0]["interface"].as_str().unwrap();
        assert!(row["proof"].as_str().unwrap().ends_with(&format!(" over {interface}")), "{row}");
    }
    let data = rows.iter().filter(|row| row["path"]["ends"][0]["interface"] == "rdma0").count();
    assert_eq!(data, 9);
    for (interface, bytes) in [("eth0", 8 << 10), ("eth0", 48 << 10), ("rdma0", 8 << 10), ("rdma0", 64 << 20)]
    {
        let rccl = rows.iter().filter(|row| row["what"]["rccl"]["bytes"] == bytes);
        let rccl = rccl.filter(|row| row["path"]["ends"][1]["interface"] == interface).collect::<Vec<_>>();
        assert_eq!(rccl.len(), 1, "{verified}");
        assert!(
            rccl[0]["verdict"] == "measured" && rccl[0]["expected"].as_f64().unwrap() > 0.0,
            "{verified}"
        );
    }
    for number in [1, 2] {
        let from = &hosts.host(number).name;
        let both = rows.iter().filter(|row| row["what"]["bandwidth"]["from"] == **from).count();
        assert_eq!(both, 2, "{verified}");
        assert_eq!(hosts.processes(number).unwrap(), []);
    }

    let compared = output("--compare");
    println!("{compared}");
    assert!(compared.contains("change") && compared.contains(" %"), "{compared}");
    let plot = compared.lines().find_map(|line| line.strip_prefix("plot: ")).unwrap();
    let plot = std::fs::read_to_string(Path::new(plot)).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("halo, virtual (rdma0)"), "{plot}");
    assert!(plot.contains("RCCL, virtual (rdma0)") && compared.contains("RCCL all-reduce 48 KiB"), "{plot}");
    // The dashboard knows the floor from now on.
    let config = rig.config(&hosts);
    let seen: Value =
        serde_json::from_str(&rig.run(["top", config.to_str().unwrap(), "--once", "--json"])).unwrap();
    assert!(seen["floor_us"].as_f64().unwrap() > 0.0, "{seen}");
    assert_eq!(seen["nodes"][1]["now"]["links"][0]["interface"], "rdma0");
}

#[test]
#[ignore = "needs root: measures between two namespace hosts"]
fn a_closed_data_network_fails_its_rows_and_not_the_others_and_rccl_on_one_node_alone_is_none() {
    let _alone = alone();
    let (rig, hosts) = (Rig::new(), Hosts::up(2).unwrap());
    // The link is up and nothing passes: a firewall, to those who measure.
    let closed = ["ip", "route", "add", "blackhole", "192.168.100.1/32"];
    assert!(hosts.exec(2, closed).unwrap().status.success());
    let without = &hosts.host(2).name;
    let (status, output, errors) = verify(&rig, &config(&rig, &hosts, without), &[]);
    assert_eq!(status, 1, "{output}");
    let missing = format!("look for RCCL: none on {without}: torch sees no GPU");
    assert!(errors.contains(&missing) && !output.contains("RCCL"), "{output}{errors}");
    println!("{output}{errors}");
    let rows = |network: &str| output.lines().filter(|line| line.contains(network)).collect::<Vec<_>>();
    assert!(rows("(rdma0)").iter().all(|line| line.contains("FAIL: on ")), "{output}");
    assert!(rows("(eth0)").iter().all(|line| line.contains(" over eth0")), "{output}");
    assert!(errors.contains("error[HALO-E0768]: the verification failed"), "{errors}");
}
