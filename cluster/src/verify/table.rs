//! What was measured, for a reader: the table, and two measurements side by side.

use comfy_table::{Table, presets};

use super::expected::Verdict;
use super::result::{Row, Verified};

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn ends(row: &Row) -> String {
    format!("{}-{}", row.path.ends[0].node, row.path.ends[1].node)
}

/// One row per measurement.
pub fn rows(verified: &Verified) -> String {
    let mut table =
        table(&["nodes", "path", "what", "median", "p99", "unit", "expected", "verdict", "counted"]);
    for row in &verified.rows {
        let verdict = match &row.verdict {
            Verdict::Pass => "pass".to_owned(),
            Verdict::Measured => "measured".to_owned(),
            Verdict::Slow(reason) => format!("slow: {reason}"),
            Verdict::Fail(reason) => format!("FAIL: {reason}"),
        };
        table.add_row([
            ends(row),
            row.path.name(),
            row.what.name(),
            number(row.value),
            number(row.p99),
            row.what.unit().to_owned(),
            number(row.expected),
            verdict,
            row.proof.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// The same rows of two measurements, and how much they differ.
pub fn compare(before: &Verified, after: &Verified) -> String {
    let mut table = table(&["nodes", "path", "what", "unit", "before", "now", "change"]);
    for row in &after.rows {
        let same =
            |old: &&Row| ends(old) == ends(row) && old.path.name() == row.path.name() && old.what == row.what;
        let old = before.rows.iter().find(same).and_then(|old| old.value);
        let change = match (old, row.value) {
            (Some(old), Some(new)) if old > 0.0 => format!("{:+.1} %", (new / old - 1.0) * 100.0),
            (None, Some(_)) => "new".to_owned(),
            _ => "-".to_owned(),
        };
        table.add_row([
            ends(row),
            row.path.name(),
            row.what.name(),
            row.what.unit().to_owned(),
            number(old),
            number(row.value),
            change,
        ]);
    }
    let gone = before.rows.iter().filter(|old| {
        !after
            .rows
            .iter()
            .any(|row| ends(old) == ends(row) && old.path.name() == row.path.name() && old.what == row.what)
    });
    let gone: Vec<_> =
        gone.map(|row| format!("{} {} {}", ends(row), row.path.name(), row.what.name())).collect();
    let gone = if gone.is_empty() {
        String::new()
    } else {
        format!("\nnot measured this time: {}\n", gone.join("; "))
    };
    format!("{}\n{gone}", table.trim_fmt())
}
