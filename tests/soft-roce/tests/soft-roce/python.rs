//! The Python package over real verbs, between two virtual machines.

use std::time::Duration;

use halo_built::{python, workspace};
use halo_soft_roce::Rig;

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn python_reduces_over_rdma() {
    let script = workspace().join("tests/soft-roce/guest/two_ranks.py");
    let command = format!("{} {}", python().display(), script.display());
    let rig = Rig::new().timeout(Duration::from_secs(300)).env("HALO_KEY", "a key for this test").echo(true);
    let outcome = rig.run(&[&command; 2]).unwrap();
    for (index, machine) in outcome.vms.iter().enumerate() {
        let output = &machine.output;
        assert!(outcome.succeeded(), "machine {index}: status {:?}\n{output}", machine.status);
        assert!(
            output.contains("communicator: {3.0} by rdma (rxe0 port 1 GID 1"),
            "machine {index}: {output}"
        );
    }
}
