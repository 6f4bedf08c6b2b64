//! The tables: every size of every peer, and every target.

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use crate::calls::Calls;
use crate::kernel::{Kernel, LARGE_TARGET};
use crate::peers::{Peer, Place};
use crate::results::{Absent, Quantile, Results};
use crate::setup::{self, Setup};
use crate::targets::{Least, TARGETS, Verdict, size};

/// Median times of all peers at one place, and halo's ratio to each; other calls than plain ones have a table of their own.
pub fn times(results: &Results, place: Place, peers: &[Peer], quantile: Quantile) -> Table {
    let measured = |peer: &&Peer| peer.other_calls().is_none() && results.dtype(place, **peer).is_some();
    let peers: Vec<Peer> = peers.iter().filter(measured).copied().collect();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let head = peers.iter().map(|peer| format!("{peer} ({})", results.dtype(place, *peer).unwrap_or("?")));
    let others = || peers.iter().filter(|peer| **peer != Peer::Halo);
    table.set_header(
        std::iter::once(place.name().to_owned())
            .chain(head)
            .chain(others().map(|peer| format!("halo / {peer}"))),
    );
    for bytes in results.sizes(place) {
        let time = |peer: &Peer| match results.time(place, *peer, bytes, quantile) {
            Some(time) => format!("{time:.2}"),
            None => "-".to_owned(),
        };
        let ratio = |peer: &Peer| match results.ratio(place, *peer, bytes, quantile) {
            Some(ratio) => format!("{ratio:.2}"),
            None => "-".to_owned(),
        };
        table.add_row(std::iter::once(size(bytes)).chain(peers.iter().map(time)).chain(others().map(ratio)));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Median times of a bare exchange by plain calls and by others, with the ratio of each to plain ones, and what the system
/// said about them; `None` where no others were tried.
pub fn other_calls(results: &Results, place: Place, quantile: Quantile) -> Option<String> {
    let absent =
        |peer: Peer| results.absent.iter().find(|absent| (absent.place, absent.peer) == (place, peer));
    let tried = |peer: &Peer| results.dtype(place, *peer).is_some() || absent(*peer).is_some();
    let others: Vec<Peer> = Peer::value_variants()
        .iter()
        .copied()
        .filter(|peer| peer.other_calls().is_some() && tried(peer))
        .collect();
    if others.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let columns = || std::iter::once(Peer::Exchange).chain(others.iter().copied());
    let head = columns().map(|peer| peer.to_string());
    let ratios = others.iter().map(|peer| format!("{peer} / {}", Peer::Exchange));
    table.set_header(std::iter::once(place.name().to_owned()).chain(head).chain(ratios));
    for bytes in results.sizes(place) {
        let figure =
            |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
        let time = |peer| match absent(peer) {
            Some(_) => "not measured".to_owned(),
            None => figure(results.time(place, peer, bytes, quantile)),
        };
        let ratio = |peer: &Peer| {
            let ratio = results.ratio_of(place, *peer, Peer::Exchange, bytes, quantile);
            figure(ratio.map(|ratio| ratio.median))
        };
        table
            .add_row(std::iter::once(size(bytes)).chain(columns().map(time)).chain(others.iter().map(ratio)));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    for peer in others {
        if let Some(Absent { reason, .. }) = absent(peer) {
            text += &format!("\n{peer}: not measured: {reason}");
        }
        if let Some(share) = results.copied(place, peer) {
            text += &format!("\n{peer}: the kernel copied {:.0} % of these sends after all", share * 100.0);
        }
    }
    Some(text)
}

/// Every target that was measured, with its ratio.
pub fn targets(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["where, size", "halo", "peer", "ratio (rounds)", "target", "met", "least possible"]);
    for verdict in verdicts {
        let met = if verdict.met { "yes" } else { "NO" };
        let span = |(lowest, highest)| format!(" ({lowest:.2} to {highest:.2})");
        table.add_row([
            verdict.what.clone(),
            verdict.ours.clone(),
            verdict.theirs.clone(),
            format!("{:.2}{}", verdict.ratio, verdict.span.map_or_else(String::new, span)),
            verdict.target.clone(),
            met.to_owned(),
            verdict.floor.as_ref().map_or_else(String::new, |least| {
                let beyond = if least.possible { "" } else { ": out of reach" };
                format!("{:.2} ({}){beyond}", least.ratio, least.floor)
            }),
        ]);
    }
    table
}

/// The targets of the two-rank sums.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    TARGETS.iter().filter_map(|target| target.verdict(results)).collect()
}

/// The targets of the reduction and of setting up.
pub fn machine_verdicts(kernel: &Kernel, setup: &Setup) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Some(target) = kernel.small_target() {
        verdicts.push(Verdict {
            what: format!("reduction, 4 x 20 KiB bf16, {}", kernel.vectors),
            ours: format!("{:.2} us", kernel.four_small_us),
            theirs: format!("{:.2} us (f32, same bytes)", kernel.four_small_f32_us),
            ratio: kernel.four_small_us / target,
            target: format!("<= {target:.1} us"),
            met: kernel.four_small_us <= target,
            span: Some((kernel.four_small_span_us.0 / target, kernel.four_small_span_us.1 / target)),
            floor: Some(Least {
                floor: "its instructions".to_owned(),
                ratio: kernel.four_near_us / target,
                possible: kernel.four_near_us <= target,
            }),
        });
    }
    verdicts.push(Verdict {
        what: format!("reduction, 2 x 16 MiB bf16, {}", kernel.vectors),
        ours: "-".to_owned(),
        theirs: "f32 addition of the same bytes".to_owned(),
        ratio: kernel.two_large_ratio,
        target: format!("bandwidth >= {LARGE_TARGET} x"),
        met: kernel.two_large_ratio >= LARGE_TARGET,
        span: None,
        floor: None,
    });
    let limit = setup::TARGET.as_secs_f64();
    verdicts.push(Verdict {
        what: format!("set-up, {} ranks on one machine", setup.ranks),
        ours: format!("{:.2} s, {} KiB per peer", setup.seconds, setup.bytes_per_peer >> 10),
        theirs: "-".to_owned(),
        ratio: setup.seconds / limit,
        target: format!("ready in {limit:.0} s"),
        met: setup.seconds <= limit,
        span: None,
        floor: None,
    });
    verdicts
}

/// System calls of the thread that runs the operations, where nothing waits long.
pub fn calls_verdict(calls: &Calls) -> Verdict {
    Verdict {
        what: format!("hot path, {} operations over {}", calls.operations, calls.transport),
        ours: format!("{} system calls", calls.made.len()),
        theirs: "-".to_owned(),
        ratio: calls.made.len() as f64 / calls.operations as f64,
        target: "0 system calls".to_owned(),
        met: calls.made.is_empty(),
        span: None,
        floor: None,
    }
}

/// Whether any operation of halo allocated; `None` where halo was not measured.
pub fn hot_path_verdict(results: &Results) -> Option<Verdict> {
    let halo = results.samples.iter().filter(|sample| sample.peer == Peer::Halo);
    let allocations = halo.filter_map(|sample| sample.line.allocations).reduce(|a, b| a + b)?;
    Some(Verdict {
        what: "hot path, every size of every round".to_owned(),
        ours: format!("{allocations} allocations"),
        theirs: "-".to_owned(),
        ratio: allocations as f64,
        target: "0 allocations".to_owned(),
        met: allocations == 0,
        span: None,
        floor: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    #[test]
    fn other_calls_stand_beside_plain_ones_and_who_is_refused_is_told_of() {
        let mut results = Results::default();
        assert_eq!(other_calls(&results, Place::Tcp, Quantile::P50), None);
        for (peer, p50_us, copied) in
            [(Peer::Exchange, 10.0, None), (Peer::ExchangeZerocopy, 25.0, Some(1.0))]
        {
            let line =
                Line { bytes: 8, dtype: "none".to_owned(), p10_us: 1.0, p50_us, allocations: None, copied };
            results.add(Place::Tcp, peer, 0, vec![line]);
        }
        let reason = "Operation not permitted".to_owned();
        results.absent.push(Absent { place: Place::Tcp, peer: Peer::ExchangeUring, reason });
        let text = other_calls(&results, Place::Tcp, Quantile::P50).unwrap();
        for wanted in [
            "| 10.00 |",
            "| 25.00 |",
            "| 2.50 |",
            "| not measured |",
            "both write, io_uring: not measured: Operation not permitted",
            "both write, MSG_ZEROCOPY: the kernel copied 100 % of these sends after all",
        ] {
            let narrow: Vec<&str> = text.split([' ', '\n']).filter(|word| !word.is_empty()).collect();
            assert!(narrow.join(" ").contains(wanted), "{wanted} in {text}");
        }
        let halo = times(&results, Place::Tcp, &[Peer::Exchange, Peer::ExchangeZerocopy], Quantile::P50);
        assert!(!halo.to_string().contains("MSG_ZEROCOPY"), "{halo}");
    }
}
