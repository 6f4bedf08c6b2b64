//! Memory that all ranks allocate together, as a Python object.

use std::sync::Mutex;

use halo_ccl::SharedBuffer;
use pyo3::prelude::*;

/// The memory behind what `halo.Communicator.allocate` gives, for as long as this object lives.
#[pyclass(frozen, module = "halo._halo")]
pub(crate) struct NativeAllocation {
    address: usize,
    // Only to be dropped: its bytes belong to whoever was given the address.
    _buffer: Mutex<SharedBuffer>,
}

impl NativeAllocation {
    pub(crate) fn new(mut buffer: SharedBuffer) -> Self {
        Self { address: buffer.as_mut_ptr() as usize, _buffer: Mutex::new(buffer) }
    }
}

#[pymethods]
impl NativeAllocation {
    fn address(&self) -> usize {
        self.address
    }
}
