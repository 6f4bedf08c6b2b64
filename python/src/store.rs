//! A Python object as the bootstrap's store: anything with the `set`, `get` and `check` of a torch.distributed store.

use std::time::{Duration, Instant};

use halo_ccl::{Store, StoreError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// How often an absent key is looked for. Bootstrap happens once; a store over the network is not to be flooded.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

pub(crate) struct PyStore {
    pub(crate) store: Py<PyAny>,
    /// Keeps communicators that share a store apart.
    pub(crate) prefix: String,
}

impl PyStore {
    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }
}

impl Store for PyStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        Python::attach(|py| {
            let value = PyBytes::new(py, value);
            self.store.call_method1(py, "set", (self.key(key), value)).map(|_| ()).map_err(|e| failed(&e))
        })
    }

    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        let key = self.key(key);
        loop {
            let found = Python::attach(|py| {
                let present = self.store.call_method1(py, "check", (vec![&key],))?.extract::<bool>(py)?;
                if !present {
                    return Ok(None);
                }
                self.store.call_method1(py, "get", (&key,))?.extract::<Vec<u8>>(py).map(Some)
            });
            match found {
                Ok(Some(value)) => return Ok(value),
                Ok(None) if Instant::now() >= deadline => return Err(StoreError::Absent),
                Ok(None) => std::thread::sleep(BETWEEN_LOOKS),
                Err(error) => return Err(failed(&error)),
            }
        }
    }
}

fn failed(error: &PyErr) -> StoreError {
    StoreError::Failed(error.to_string())
}
