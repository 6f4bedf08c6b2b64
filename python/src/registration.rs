//! Memory registered with the NIC, as a Python object.

use std::sync::{Mutex, PoisonError};

use halo_ccl::Registration;
use pyo3::prelude::*;

/// The native half of `halo.Registration`.
#[pyclass(frozen, module = "halo._halo")]
pub(crate) struct NativeRegistration {
    // In this order: the registration goes before the memory may.
    held: Mutex<Option<(Registration, Py<PyAny>)>>,
}

impl NativeRegistration {
    pub(crate) fn new(held: Registration, owner: Py<PyAny>) -> Self {
        Self { held: Mutex::new(Some((held, owner))) }
    }
}

#[pymethods]
impl NativeRegistration {
    /// Whether a NIC uses it now.
    fn is_used(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_some_and(|(registration, _)| registration.is_used())
    }

    /// Gives it back; a second call does nothing.
    fn close(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
