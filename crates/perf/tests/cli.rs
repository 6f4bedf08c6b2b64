//! The program as a user meets it: results that are right, errors that say what to do, no process left behind.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;

fn halo_perf(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("halo-perf"));
    command.args(arguments);
    in_itself(command)
}

/// The machine's own settings, and its input, must not change what is tested.
fn in_itself(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    for variable in halo_env::ALL {
        command.env_remove(variable.name);
    }
    command
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("status {:?}\n{out}\n{err}", output.status)
}

/// The one error with which a command ends before it has measured anything.
fn refused(arguments: &[&str]) -> String {
    let output = halo_perf(arguments).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn free_address() -> String {
    halo_ccl::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}

#[test]
fn every_collective_has_no_wrong_element_over_shm_and_tcp() {
    for transport in ["shm", "tcp"] {
        for (collective, ranks) in [
            ("all-reduce", "1"),
            ("all-reduce", "2"),
            ("all-reduce", "3"),
            ("all-gather", "3"),
            ("reduce-scatter", "3"),
            ("broadcast", "3"),
            ("gather", "2"),
            ("reduce", "3"),
            ("scatter", "3"),
            ("all-to-all", "3"),
            ("sendrecv", "2"),
            ("barrier", "3"),
        ] {
            let sizes = [
                "--min",
                "0",
                "--max",
                "512K",
                "--factor",
                "64",
                "--iterations",
                "2",
                "--warmup",
                "1",
                "--check",
            ];
            let mut arguments = vec![collective, "--ranks", ranks, "--transport", transport];
            arguments.extend(sizes);
            let output = halo_perf(&arguments).output().unwrap();
            assert!(output.status.success(), "{collective} {}", text(&output));
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let rows: Vec<&str> = printed.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(
                !rows.is_empty() && rows.iter().all(|row| row.split_whitespace().nth(7) == Some("0")),
                "{printed}"
            );
            let expected = format!(": {transport} (");
            assert!(ranks == "1" || printed.contains(&expected), "the transport is stated: {printed}");
        }
    }
}

#[test]
fn the_result_file_holds_what_was_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let sizes = ["--max", "4K", "--iterations", "3", "--json", file.to_str().unwrap()];
    let output = halo_perf(&["all-reduce", "--dtype", "f32"]).args(sizes).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let result: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((&result["collective"], &result["ranks"]), (&"all_reduce".into(), &2.into()));
    assert_eq!(result["links"][0]["transport"], "shm");
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 10, "8 B to 4 KiB, each twice the one before");
    assert_eq!(
        (&rows[0]["bytes"], &rows[0]["count"], &rows[0]["type"]),
        (&8.into(), &2.into(), &"f32".into())
    );
    assert!(rows.iter().all(|row| row["p50_us"].as_f64().unwrap() > 0.0 && row["wrong"].is_null()));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count(),
        10
    );
}

#[test]
fn wrong_arguments_are_refused_by_name_with_the_remedy() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["all-reduce", "--transport", "roce"], &["HALO-E0201", "`roce`", "auto, rdma, tcp, shm"]),
        (&["all-reduce", "--dtype", "f33"], &["HALO-E0306", "`f33`", "bf16"]),
        (&["all-reduce", "--dtype", "bool", "--op", "avg"], &["HALO-E0402", "--op avg", "bool"]),
        (&["all-reduce", "--op", "mean"], &["HALO-E0306", "`mean`", "sum, prod, max, min, avg"]),
        (&["sendrecv", "--ranks", "3"], &["HALO-E0402", "3 ranks", "--ranks 2"]),
        (&["all-reduce", "--min", "1M", "--max", "1K"], &["HALO-E0401", "--max"]),
        (&["all-reduce", "--min", "8Q"], &["unknown suffix `Q`"]),
        (&["all-reduce", "--rank", "0"], &["--world"]),
        (&["all-reduce", "--json", "/nonexistent/file", "--max", "8"], &["HALO-E0405", "/nonexistent/file"]),
    ];
    for (arguments, words) in cases {
        let told = refused(arguments);
        assert!(words.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
        let errors = told.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "said by one process only: {arguments:?}: {told}");
    }
    let output = halo_perf(&["all-reduce"]).env("HALO_TIMEOUT", "soon").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.matches("HALO-E0203").count() == 1 && told.contains("`soon`"), "{told}");
}

#[test]
fn an_arena_that_memory_does_not_allow_is_refused_with_the_settings_to_lower() {
    let refused = |mut command: Command| {
        let output = command
            .env("HALO_SLOTS", "4096")
            .env("HALO_SLOT_BYTES", (1 << 30).to_string())
            .env("HALO_TRANSPORT", "shm")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let arguments = ["all-reduce", "--ranks", "2", "--max", "8"];
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 4000000; exec \"$@\"", "sh"]).arg(cargo_bin!("halo-perf")).args(arguments);
    for told in [refused(halo_perf(&arguments)), refused(in_itself(limited))] {
        let words = ["HALO-E0216", "2 ranks", "lower HALO_SLOTS or HALO_SLOT_BYTES"];
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
}

#[test]
fn rdma_without_libibverbs_or_a_device_says_which_is_missing() {
    let without = |arguments: &[&str]| {
        let output =
            halo_perf(arguments).env("HALO_LIBIBVERBS", "/nonexistent/libibverbs.so").output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = without(&["devices"]);
    assert!(told.contains("HALO-E0101") && told.contains("apt-get install libibverbs1"), "{told}");
    let told = without(&["all-reduce", "--transport", "rdma"]);
    assert!(told.contains("HALO-E0215") && told.contains("/nonexistent/libibverbs.so"), "{told}");
}

#[test]
fn an_unreachable_rendezvous_and_a_taken_port_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let told = refused(&["all-reduce", "--rank", "0", "--world", "2", "--rendezvous", &taken]);
    assert!(told.contains("HALO-E0204") && told.contains(&taken), "{told}");
    // Not the listener's port once more: a process that another test starts may hold it for a moment longer.
    let nobody = "127.0.0.1:1";
    let output = halo_perf(&["all-reduce", "--rank", "1", "--world", "2", "--rendezvous", nobody])
        .env("HALO_TIMEOUT", "0.5")
        .output()
        .unwrap();
    let told = text(&output);
    assert!(told.contains("HALO-E0205") && told.contains(nobody), "{told}");
}

/// Starts two ranks with different arguments and returns what each said.
fn two(zero: &[&str], one: &[&str]) -> [String; 2] {
    let address = free_address();
    let start = |arguments: &[&str]| {
        halo_perf(&["all-reduce", "--rendezvous", &address])
            .args(arguments)
            .env("HALO_TIMEOUT", "10")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    [start(zero), start(one)].map(|rank| text(&rank.wait_with_output().unwrap()))
}

#[test]
fn ranks_that_disagree_are_told_so_on_both_sides() {
    for told in two(&["--rank", "0", "--world", "2"], &["--rank", "1", "--world", "3"]) {
        assert!(told.contains("world size") && told.contains('3'), "{told}");
    }
    for told in two(&["--rank", "0", "--world", "2"], &["--rank", "0", "--world", "2"]) {
        assert!(
            told.contains("HALO-E0204") || told.contains("HALO-E0206") || told.contains("given twice"),
            "{told}"
        );
    }
    let sizes = two(
        &["--rank", "0", "--world", "2", "--min", "8", "--max", "8"],
        &["--rank", "1", "--world", "2", "--min", "16", "--max", "16"],
    );
    for told in sizes {
        assert!(
            told.contains("HALO-E0301") && told.contains("4 x bf16") && told.contains("8 x bf16"),
            "{told}"
        );
    }
}

#[test]
fn a_killed_rank_ends_the_run_and_is_named() {
    let address = free_address();
    let endless =
        ["--min", "8", "--max", "8", "--iterations", "20000000", "--rendezvous", &address, "--world", "2"];
    let folder = tempfile::tempdir().unwrap();
    let statistics = folder.path().join("statistics");
    let start = |rank: &str| {
        halo_perf(&["all-reduce", "--rank", rank])
            .args(endless)
            .env("HALO_STATS_FILE", statistics.with_extension(rank))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (zero, mut one) = (start("0"), start("1"));
    // At work once its statistics count an operation.
    while !std::fs::read_to_string(statistics.with_extension("1"))
        .is_ok_and(|text| text.contains("all_reduce"))
    {
        assert!(one.try_wait().unwrap().is_none(), "rank 1 ended by itself");
        std::thread::yield_now();
    }
    one.kill().unwrap();
    one.wait().unwrap();
    let told = text(&zero.wait_with_output().unwrap());
    assert!(told.contains("HALO-E0219") && told.contains("rank 1"), "{told}");
}

#[test]
fn help_is_as_documented() {
    let output = halo_perf(&["--help"]).output().unwrap();
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}

#[test]
fn tune_writes_a_table_that_every_rank_then_uses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.toml");
    let path = path.to_str().unwrap();
    for transport in ["shm", "tcp"] {
        let arguments = [
            "tune",
            "--ranks",
            "3",
            "--transport",
            transport,
            "--max",
            "128K",
            "--rounds",
            "1",
            "--output",
            path,
        ];
        let output = halo_perf(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("HALO_PLANS"), "{}", text(&output));
    }
    let table = std::fs::read_to_string(path).unwrap();
    for transport in ["shm", "tcp"] {
        assert!(table.contains(&format!("transport = \"{transport}\"")), "kept beside the other: {table}");
    }
    let check =
        ["all-reduce", "--ranks", "3", "--max", "256K", "--factor", "8", "--iterations", "2", "--check"];
    let output = halo_perf(&check).env("HALO_PLANS", path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = halo_perf(&check).env("HALO_PLANS", "/nowhere").output().unwrap();
    assert!(text(&output).contains("HALO-E0309"), "{}", text(&output));
}

/// What `halo-perf` answers when it has been able to measure: the other tests may keep the machine so busy that it cannot,
/// and then it says so.
fn measured(arguments: &[&str]) -> Output {
    let mut answers = (0..20).map(|_| halo_perf(arguments).output().unwrap());
    answers.find(|output| !text(output).contains("too busy to measure")).expect("a quiet moment in twenty")
}

#[test]
fn tune_plugin_writes_a_table_that_the_plugin_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuner.toml");
    let arguments =
        ["tune-plugin", "--transport", "tcp", "--rounds", "1", "--output", path.to_str().unwrap()];
    let output = measured(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("HALO_TUNER_FILE"), "{}", text(&output));
    let table = halo_tuner::Table::from_file(path.to_str().unwrap()).unwrap();
    let find =
        |bytes| table.find(halo_tuner::Collective::AllReduce, 2, bytes, halo_tuner::Link::Tcp).unwrap();
    assert_eq!(find(8).protocol, halo_tuner::Protocol::Ll);
    assert_eq!(find(1 << 30).protocol, halo_tuner::Protocol::Simple);
    let written = std::fs::read_to_string(&path).unwrap();
    for words in ["# Measured over tcp", "#   latency ", "#   bandwidth ", "RCCL's own model", "bytes/us = "]
    {
        assert!(written.contains(words), "{words}: {written}");
    }
    // What is measured elsewhere is as given, and the file says so.
    let output = measured(&[&arguments[..], &["--handshake-us", "0"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let table = halo_tuner::Table::from_file(path.to_str().unwrap()).unwrap();
    assert!(table.rules.iter().all(|rule| rule.protocol == halo_tuner::Protocol::Simple), "{table:?}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("as given on the command line"));
}

#[test]
fn tune_plugin_refuses_what_it_cannot_measure_or_write() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--transport", "shm"], &["HALO-E0402", "transport shm", "--transport tcp"]),
        (&["--ranks", "3", "--transport", "tcp"], &["HALO-E0402", "3 ranks", "--ranks 2"]),
        (
            &["--transport", "tcp", "--rounds", "1", "--output", "/nonexistent/tuner.toml"],
            &["HALO-E0405", "/nonexistent/tuner.toml", "a folder that exists"],
        ),
        (&["--handshake-us=-1"], &["microseconds are a number"]),
        (&["--handshake-us", "soon"], &["microseconds are a number"]),
    ];
    for (arguments, words) in cases {
        let output = measured(&[&["tune-plugin"], *arguments].concat());
        assert!(!output.status.success(), "{}", text(&output));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(words.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
    }
}

#[test]
fn help_of_tune_plugin_is_as_documented() {
    let output = halo_perf(&["tune-plugin", "--help"]).output().unwrap();
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}
