//! `halo.h` from C: the example and the clients are compiled as a strict compiler wants them and run as ranks.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where cargo left the shared library: beside this test's own executable.
fn library_folder() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(folder.join("libhalo.so").exists(), "libhalo.so is not in {}", folder.display());
    folder
}

fn succeeded(what: &str, output: &Output) {
    let told = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{what}: {}\n{}{}", output.status, told[0], told[1]);
}

/// A C source below `ffi/`, compiled and linked against the library.
struct Program {
    name: String,
    folder: tempfile::TempDir,
}

impl Program {
    fn compile(source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ffi = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = library_folder();
        let output = Command::new("cc")
            .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"])
            .arg("-I")
            .arg(ffi.join("include"))
            .arg(ffi.join(source))
            .arg("-o")
            .arg(folder.path().join("program"))
            .arg("-L")
            .arg(&library)
            .arg(format!("-Wl,-rpath,{}", library.display()))
            .arg("-lhalo")
            .output()
            .expect("a C compiler, cc, is installed");
        succeeded(source, &output);
        Self { name: source.to_owned(), folder }
    }

    /// Runs one process per rank and returns what each printed; every one must succeed.
    fn run(&self, world: usize) -> Vec<String> {
        let rendezvous = halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
        let start = |rank: usize| {
            Command::new(self.folder.path().join("program"))
                .args([&rank.to_string(), &world.to_string(), &rendezvous])
                .env_remove("HALO_TRANSPORT")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let ranks: Vec<_> = (0..world).map(start).collect();
        let outputs: Vec<_> = ranks.into_iter().map(|rank| rank.wait_with_output().unwrap()).collect();
        for output in &outputs {
            succeeded(&self.name, output);
        }
        outputs.into_iter().map(|output| String::from_utf8(output.stdout).unwrap()).collect()
    }
}

#[test]
fn the_example_sums_on_two_ranks() {
    let told = Program::compile("examples/all_reduce.c").run(2);
    for (rank, told) in told.iter().enumerate() {
        assert_eq!(*told, format!("rank {rank} of 2: 4096 elements summed, 0 wrong\n"));
    }
}

#[test]
fn every_operation_gives_the_right_result() {
    Program::compile("tests/client/operations.c").run(2);
}

#[test]
fn operations_work_in_place() {
    Program::compile("tests/client/in_place.c").run(2);
}

#[test]
fn queues_groups_and_splits_do_what_they_say() {
    Program::compile("tests/client/queue.c").run(2);
}

#[test]
fn impossible_arguments_are_errors_and_harm_nothing() {
    Program::compile("tests/client/arguments.c").run(1);
}

#[test]
fn ranks_with_different_counts_are_told_so() {
    Program::compile("tests/client/mismatch.c").run(2);
}

#[test]
fn a_lost_peer_is_named_at_once_and_ever_after() {
    Program::compile("tests/client/peer_loss.c").run(2);
}

#[test]
fn what_was_sent_by_a_rank_that_has_closed_arrives_without_a_signal() {
    Program::compile("tests/client/late.c").run(2);
}

#[test]
fn a_queue_keeps_what_its_communicator_had() {
    Program::compile("tests/client/freed.c").run(2);
}

#[test]
fn registered_memory_changes_no_result_and_is_given_back_once() {
    Program::compile("tests/client/registration.c").run(2);
}

#[test]
fn memory_of_all_ranks_changes_no_result_and_is_given_back_once() {
    Program::compile("tests/client/allocation.c").run(2);
}

#[test]
fn ranks_meet_through_a_store_of_the_program() {
    Program::compile("tests/client/store.c").run(1);
}

#[test]
fn the_header_is_c_plus_plus_too() {
    let output = Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/halo.h"))
        .output()
        .expect("a C++ compiler, c++, is installed");
    succeeded("halo.h", &output);
}

#[test]
fn the_library_exports_every_function_of_the_header() {
    let symbols =
        Command::new("nm").args(["-D", "--defined-only"]).arg(library_folder().join("libhalo.so")).output();
    let symbols = symbols.expect("nm, of binutils, is installed");
    succeeded("nm", &symbols);
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let exported: Vec<_> = symbols
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|name| name.starts_with("halo_"))
        .collect();
    let header =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/halo.h")).unwrap();
    let declared = |name: &&str| header.contains(&format!("{name}("));
    assert!(exported.len() > 45 && exported.iter().all(declared), "{exported:?}");
    let calls = header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains('('));
    for call in calls {
        let name = call.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap();
        assert!(exported.contains(&name), "{name} is declared but not exported");
    }
}
