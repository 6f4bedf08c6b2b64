//! The rig itself: what its machines see, and what it says when they fail.

use std::process::Command;
use std::time::Duration;

use halo_soft_roce::Rig;

fn soft_roce() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft-roce"));
    // It must not matter where it is started.
    command.current_dir("/");
    command
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_machine_sees_rxe0_and_its_status_comes_back() {
    let outcome = soft_roce()
        .args([
            "run",
            "-n",
            "1",
            "--timeout",
            "240",
            "--env",
            "WORD=it's here",
            "--",
            "ibv_devinfo -d rxe0; echo $WORD >&2; exit 7",
        ])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&outcome.stdout);
    assert_eq!(outcome.status.code(), Some(7), "{outcome:?}");
    assert!(printed.contains("PORT_ACTIVE") && printed.contains("[0] it's here"), "{printed}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn machines_that_take_too_long_are_ended() {
    let outcome = Rig::new().timeout(Duration::from_secs(1)).run(&["sleep infinity"]).unwrap();
    assert!(outcome.timed_out && !outcome.succeeded());
    assert_eq!(outcome.vms[0].status, None);
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_qemu_that_refuses_is_heard_and_not_waited_for() {
    let outcome = soft_roce().args(["run", "-n", "1", "--memory", "much", "--", "true"]).output().unwrap();
    assert_eq!(outcome.status.code(), Some(125), "{outcome:?}");
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("machine 0 ended without a status") && said.contains("much"), "{said}");
}

#[test]
fn a_variable_without_a_value_is_refused() {
    let outcome = soft_roce().args(["run", "--env", "WORD", "--", "true"]).output().unwrap();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("NAME=VALUE is meant"));
}

#[test]
fn missing_programs_are_named_with_their_packages() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = soft_roce().args(["run", "--", "true"]).env("PATH", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(said.contains("HALO-E0701") && said.contains("qemu-system-x86_64"), "{said}");
    assert!(said.contains("apt-get install qemu-system-x86"), "{said}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_kernel_that_gives_up_ends_the_run_of_both_machines() {
    let command = "[ $RANK = 1 ] || echo c >/proc/sysrq-trigger; sleep 1000";
    let outcome = Rig::new().timeout(Duration::from_secs(300)).run(&[command; 2]).unwrap();
    assert!(!outcome.timed_out && !outcome.succeeded(), "{outcome:#?}");
    let complaints = &outcome.vms[0].kernel_complaints;
    assert!(complaints.iter().any(|line| line.contains("Kernel panic")), "{outcome:#?}");
    assert_eq!((outcome.vms[0].status, outcome.vms[1].status), (None, None));
}
