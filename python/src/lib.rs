//! The native half of the Python package `halo`: a communicator over addresses that `halo/_views.py` has checked.

mod allocation;
mod blocks;
mod communicator;
mod error;
mod registration;
mod stop;
mod store;
mod view;

use pyo3::prelude::*;

/// `halo._halo`: used by the Python files beside it, not by users.
#[pymodule(gil_used = false)]
mod _halo {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::communicator::NativeCommunicator;

    #[pymodule_export]
    use super::allocation::NativeAllocation;

    #[pymodule_export]
    use super::registration::NativeRegistration;

    #[pyfunction]
    fn generate_key() -> PyResult<Vec<u8>> {
        let key = halo_ccl::Key::generate().map_err(|error| crate::error::raise(&error.into()))?;
        Ok(key.expose().to_vec())
    }

    /// The name of every element type, and whether it can be reduced.
    #[pyfunction]
    fn element_types() -> Vec<(String, bool)> {
        halo_ccl::DType::ALL
            .iter()
            .map(|dtype| (dtype.to_string(), halo_ccl::ReduceOp::Sum.is_defined_for(*dtype)))
            .collect()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::log_to_stderr();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Logs as `HALO_LOG` says. A program that has set up logging of its own keeps it.
fn log_to_stderr() {
    let filter = halo_env::HALO_LOG.get().unwrap_or_else(|| "warn".to_owned());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .try_init();
}
