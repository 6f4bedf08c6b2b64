//! How long an all-reduce takes on networks that are not here: formulas (`model`), checked against the plans themselves on
//! the simulated fabric in timed mode. `docs/scaling.md` holds what they say; write it anew with
//! `UPDATE_DOCS=1 cargo test -p halo-ccl scaling`.

use std::fmt::Write;

use halo_fabric::sim::{Simulation, Timing};

use super::model::two_shot_from;
use super::{
    Algorithm, Costs, Doubling, Exercise, Parts, Plan, PlanTable, Progress, Reduce, ReduceAndShare, Ring,
};
use crate::dtype::DType;
use crate::operation::{Kind, Operation};
use crate::reduce::Arithmetic;
use crate::reduce_op::ReduceOp;
use halo_fabric::Rounding;

const SLOT_BYTES: usize = 128 * 1024;
const SLOTS: usize = 8;
const SUM: Arithmetic = Arithmetic { dtype: DType::BF16, op: ReduceOp::Sum, rounding: Rounding::Once };

/// A network of the users', by its published or assumed figures.
struct Network {
    name: &'static str,
    transport: &'static str,
    costs: Costs,
    timing: Timing,
}

/// The simulator counts picoseconds.
fn network(name: &'static str, transport: &'static str, costs: Costs) -> Network {
    let picoseconds = |microseconds: f64| (microseconds * 1e6) as u64;
    let timing = Timing {
        latency: picoseconds(costs.latency),
        per_byte: picoseconds(costs.per_byte),
        post: picoseconds(costs.post),
        per_byte_reduced: picoseconds(costs.per_byte_reduced),
    };
    Network { name, transport, costs, timing }
}

fn networks() -> [Network; 3] {
    [
        network("E810 100GbE, RDMA (5.23 us, 50.6 Gb/s)", "rdma", Costs::E810),
        network("25GbE, RDMA (6 us, 23 Gb/s assumed)", "rdma", Costs::ETHERNET_25),
        network("USB4, TCP (68 us, 18 Gb/s assumed)", "tcp", Costs::USB4),
    ]
}

/// Bytes of an f32 for those of a bf16.
const WIDENING: usize = 2;

/// Microseconds by formula.
fn formula(algorithm: Algorithm, ranks: usize, bytes: usize, timing: Timing) -> f64 {
    let microseconds = |picoseconds: u64| picoseconds as f64 / 1e6;
    let costs = Costs {
        latency: microseconds(timing.latency),
        per_byte: microseconds(timing.per_byte),
        post: microseconds(timing.post),
        per_byte_reduced: microseconds(timing.per_byte_reduced),
    };
    let (slot_bytes, slots, widening) = (SLOT_BYTES, SLOTS, WIDENING);
    Exercise { algorithm, ranks, bytes, slot_bytes, slots, widening }.takes(costs)
}

/// Microseconds that the plans take on the simulated fabric.
fn simulated(algorithm: Algorithm, ranks: usize, bytes: usize, timing: Timing) -> f64 {
    let simulation = Simulation::timed(ranks, SLOT_BYTES, SLOTS, timing);
    let op = Some(ReduceOp::Sum);
    let tag =
        Operation { kind: Kind::AllReduce, dtype: DType::BF16, op, root: None, epoch: 1, bytes, members: 0 }
            .tag();
    let mut outputs = vec![vec![0; bytes]; ranks];
    let fabrics: Vec<_> = (0..ranks).map(|rank| simulation.rank(rank)).collect();
    match algorithm {
        Algorithm::OneShot => {
            let parts = Parts::same(&(0..bytes));
            let plans = outputs.iter_mut().zip(&fabrics);
            let plans =
                plans.map(|(output, fabric)| Reduce::new(fabric, tag, SUM, None, output, parts, 0)).collect();
            drive(&simulation, fabrics, plans)
        }
        Algorithm::TwoShot => {
            let plans = outputs.iter_mut().zip(&fabrics);
            let plans =
                plans.map(|(output, fabric)| ReduceAndShare::new(fabric, tag, SUM, None, output)).collect();
            drive(&simulation, fabrics, plans)
        }
        Algorithm::Doubling => {
            let plans = outputs.iter_mut().zip(&fabrics);
            let plans = plans
                .map(|(output, fabric)| Doubling::new(fabric, tag, SUM, None, output, Vec::new()))
                .collect();
            drive(&simulation, fabrics, plans)
        }
        Algorithm::Ring => {
            let plans = outputs.iter_mut().zip(&fabrics);
            let plans = plans
                .map(|(output, fabric)| Ring::new(fabric, tag, SUM, None, output, SLOT_BYTES, Vec::new()))
                .collect();
            drive(&simulation, fabrics, plans)
        }
    }
}

fn drive<P: Plan>(
    simulation: &Simulation,
    mut fabrics: Vec<halo_fabric::sim::SimFabric>,
    mut plans: Vec<P>,
) -> f64 {
    use halo_fabric::Fabric;
    while let Some(rank) = simulation.furthest_behind() {
        fabrics[rank].progress().unwrap();
        match plans[rank].step(&mut fabrics[rank]).unwrap() {
            Progress::Done => simulation.finish(rank),
            Progress::Moved => {}
            Progress::Idle => simulation.skip(rank),
        }
    }
    simulation.latest() as f64 / 1e6
}

/// Doubling is for small sizes: it moves as much as one-shot and collects it all before it reduces.
fn usable(algorithm: Algorithm, ranks: usize, bytes: usize) -> bool {
    match algorithm {
        Algorithm::OneShot | Algorithm::TwoShot => true,
        Algorithm::Ring => ranks > 2,
        Algorithm::Doubling => ranks > 2 && bytes <= 64 * 1024,
    }
}

/// Passed on as they come, results are on their way in the time that inputs take: two phases, one after the other, would
/// take longer than one-shot's one.
#[test]
fn two_ranks_lose_nothing_by_a_second_phase_where_shares_are_several_slots() {
    for Network { name, timing, .. } in networks() {
        for bytes in [8 * SLOT_BYTES, 32 * SLOT_BYTES] {
            let [one, two] = [Algorithm::OneShot, Algorithm::TwoShot]
                .map(|algorithm| simulated(algorithm, 2, bytes, timing));
            assert!(two <= one * 1.001, "{name}, {bytes} bytes: one-shot {one:.1} us, two-shot {two:.1} us");
        }
    }
}

#[test]
fn the_formulas_are_what_the_plans_do() {
    for Network { name, timing, .. } in networks() {
        for (ranks, bytes) in
            (2..=16).flat_map(|ranks| [(ranks, 8), (ranks, 8192), (ranks, 49_152), (ranks, 1024 * 1024)])
        {
            check(name, ranks, bytes, timing);
        }
        for ranks in 2..=4 {
            check(name, ranks, 64 << 20, timing);
        }
    }
}

fn check(name: &str, ranks: usize, bytes: usize, timing: Timing) {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| usable(*algorithm, ranks, bytes)) {
        let (told, done) =
            (formula(algorithm, ranks, bytes, timing), simulated(algorithm, ranks, bytes, timing));
        // Of a ring the formula leaves out what several chunks of a share wait for.
        let least = if algorithm == Algorithm::Ring { 0.7 } else { 0.75 };
        assert!(
            (least..=1.33).contains(&(told / done)),
            "{name}, {ranks} ranks, {bytes} bytes, {algorithm}: formula {told:.1} us, simulated {done:.1} us"
        );
    }
}

/// What the built-in table takes.
fn by_table(transport: &str, ranks: usize, bytes: usize) -> Algorithm {
    PlanTable::default().algorithm(ranks, transport, bytes)
}

fn predictions() -> String {
    let mut page = String::new();
    for Network { name, transport, costs, timing } in networks() {
        let _ = writeln!(page, "### {name}\n");
        page += "| ranks | 8 KiB | 48 KiB | 1 MiB | 64 MiB | 64 MiB by ring | two-shot from |\n|---|---|---|---|---|---|---|\n";
        for ranks in 2..=16 {
            let _ = write!(page, "| {ranks} ");
            for bytes in [8 * 1024, 48 * 1024, 1024 * 1024, 64 * 1024 * 1024] {
                let usable = Algorithm::ALL.into_iter().filter(|algorithm| usable(*algorithm, ranks, bytes));
                let timed = usable.map(|algorithm| (formula(algorithm, ranks, bytes, timing), algorithm));
                // Of two that take as long, what the built-in table takes.
                let other = |algorithm| algorithm != by_table(transport, ranks, bytes);
                let fastest = timed.min_by(|a, b| a.0.total_cmp(&b.0).then(other(a.1).cmp(&other(b.1))));
                let (microseconds, algorithm) = fastest.expect("one-shot always is");
                let _ = write!(page, "| {microseconds:.1} us, {algorithm} ");
            }
            let ring = formula(Algorithm::Ring, ranks, 64 * 1024 * 1024, timing);
            let takes_it = |bytes: &usize| by_table(transport, ranks, *bytes) == Algorithm::TwoShot;
            let from = match ranks {
                // Said in whole powers of two.
                2 => (10..40).map(|power| 1 << power).find(takes_it),
                _ => Some(two_shot_from(ranks, costs)),
            };
            let from = from.map_or_else(|| "never".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
            let _ = writeln!(page, "| {ring:.1} us | {from} |");
        }
        page.push('\n');
    }
    page
}

#[test]
fn the_scaling_page_holds_the_predictions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scaling.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- predictions -->\n", "<!-- end of predictions -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let fresh = format!("{head}{begin}\n{}{end}{tail}", predictions());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &fresh).unwrap();
    } else {
        assert_eq!(page, fresh, "run UPDATE_DOCS=1 cargo test -p halo-ccl scaling");
    }
}
