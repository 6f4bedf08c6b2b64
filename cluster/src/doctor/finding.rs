//! What a check found on a node.

use serde::Serialize;

use super::check::Check;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It works, but something is lost by it.
    Warn,
    /// It does not work, or not as configured.
    Fail,
}

/// What a check found on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What to do; none for a pass.
    pub remedy: Option<String>,
    /// An error's own code, where it is not the check's.
    pub code: Option<String>,
}

impl Finding {
    pub fn pass(check: Check, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Pass, found: found.into(), remedy: None, code: None }
    }

    pub fn warn(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { check, verdict: Verdict::Warn, found: found.into(), remedy, code: None }
    }

    pub fn fail(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, found, remedy) }
    }

    /// The code to print with it.
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(self.check.code())
    }
}
