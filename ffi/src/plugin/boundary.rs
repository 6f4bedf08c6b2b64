//! The boundary to the core: errors become its codes and one line in its log, panics stop here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::abi::{NcclResult, SUCCESS};
use super::error::PluginError;
use super::log;

/// Runs one call of the core.
pub(crate) fn guard(call: &'static str, work: impl FnOnce() -> Result<(), Report>) -> NcclResult {
    let guarded = || {
        #[cfg(test)]
        assert!(!tests::EVERY_CALL_PANICS.get(), "as asked");
        work()
    };
    let report = match catch_unwind(AssertUnwindSafe(guarded)) {
        Ok(Ok(())) => return SUCCESS,
        Ok(Err(report)) => report,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            Report::New(PluginError::Panic { call, what: what.to_owned() })
        }
    };
    if let Report::New(error) = &report {
        log::warn(&error.one_line());
    }
    report.error().result()
}

/// An error on its way to the core.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    /// It has not been told yet.
    New(PluginError),
    /// It was told when it happened; every later call on the same connection answers with it.
    Told(PluginError),
}

impl Report {
    pub(crate) fn error(&self) -> &PluginError {
        match self {
            Self::New(error) | Self::Told(error) => error,
        }
    }
}

impl From<PluginError> for Report {
    fn from(error: PluginError) -> Self {
        Self::New(error)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::super::abi;
    use super::*;

    thread_local! {
        /// On this thread, whatever the core calls panics within the guard.
        pub(crate) static EVERY_CALL_PANICS: Cell<bool> = const { Cell::new(false) };
    }

    #[test]
    fn a_panic_is_an_internal_error_and_goes_no_further() {
        assert_eq!(guard("isend", || panic!("no")), abi::INTERNAL_ERROR);
        assert_eq!(guard("isend", || panic!("{} words", 2)), abi::INTERNAL_ERROR);
    }

    #[test]
    fn an_error_keeps_its_code_whether_told_or_new() {
        let error = PluginError::WrongKey { peer: "vm1".to_owned() };
        assert_eq!(guard("connect", || Err(Report::New(error.clone()))), abi::REMOTE_ERROR);
        assert_eq!(guard("test", || Err(Report::Told(error.clone()))), abi::REMOTE_ERROR);
        assert!(error.one_line().starts_with("HALO-E0809: vm1 does not have the same key; set HALO_KEY"));
    }
}
