//! What doctor prints.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json as value};

use super::{Row, Verdict};

/// A table of everything, then each failure and warning with what to do.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "check", "node", "found"]);
    for Row { node, finding } in rows {
        let verdict = match finding.verdict {
            Verdict::Pass => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        table.add_row([verdict, finding.check.name(), node, &finding.found]);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    for said in rows.iter().filter_map(complaint) {
        let _ = write!(text, "\n{said}\n");
    }
    let _ = writeln!(text, "\n{}", summary(rows));
    text
}

/// A warning or a failure, and what to do; nothing of a row that is as it should be.
pub fn complaint(Row { node, finding }: &Row) -> Option<String> {
    let remedy = finding.remedy.as_ref()?;
    let kind = if finding.verdict == Verdict::Fail { "error" } else { "warning" };
    let (code, name) = (finding.code(), finding.check.name());
    Some(format!("{kind}[{code}]: {name} on node {node}: {}\n  help: {remedy}", finding.found))
}

fn summary(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.finding.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    format!("{} checks: {failed} failed, {warned} warnings", rows.len())
}

/// The same for scripts.
pub fn json(rows: &[Row]) -> Value {
    let row = |Row { node, finding }: &Row| {
        let code = finding.remedy.as_ref().map(|_| finding.code());
        value!({
            "check": finding.check.name(), "node": node, "verdict": finding.verdict, "found": finding.found,
            "code": code, "remedy": finding.remedy,
        })
    };
    let failed = rows.iter().filter(|row| row.finding.verdict == Verdict::Fail).count();
    value!({"ok": failed == 0, "rows": rows.iter().map(row).collect::<Vec<_>>()})
}
