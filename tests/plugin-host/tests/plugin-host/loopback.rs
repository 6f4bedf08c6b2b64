//! Every case through every version of the interface, over TCP on loopback.

use crate::common::{host, printed};

fn cases() -> Vec<String> {
    let output = host("v12").arg("cases").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn every_case(version: &str, environment: &[(&str, &str)]) {
    let cases = cases();
    assert!(cases.len() >= 20, "{cases:?}");
    let mut failed = Vec::new();
    for case in cases {
        let began = std::time::Instant::now();
        let output = host(version).envs(environment.iter().copied()).args(["case", &case]).output().unwrap();
        println!("{version} {case}: {} in {:.1?}", output.status, began.elapsed());
        if !output.status.success() {
            failed.push(format!("{case}: {}", printed(&output)));
        }
    }
    assert!(failed.is_empty(), "{version}: {}", failed.join("\n"));
}

#[test]
fn version_8() {
    every_case("v8", &[]);
}

#[test]
fn version_9() {
    every_case("v9", &[]);
}

#[test]
fn version_10() {
    every_case("v10", &[]);
}

#[test]
fn version_11() {
    every_case("v11", &[]);
}

#[test]
fn version_12() {
    every_case("v12", &[]);
}

#[test]
fn version_12_with_four_sockets_and_a_low_threshold() {
    every_case("v12", &[("HALO_PLUGIN_SOCKETS", "4"), ("HALO_PLUGIN_STRIPE_BYTES", "4096")]);
}

#[test]
fn version_12_without_eager_messages() {
    every_case("v12", &[("HALO_PLUGIN_EAGER_BYTES", "0")]);
}
