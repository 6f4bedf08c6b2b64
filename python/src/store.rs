//! A Python object as the bootstrap's store: anything with the `set`, `get` and `check` of a torch.distributed store.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use halo_ccl::{Store, StoreError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// How often an absent key is looked for: at first, and at last when a peer takes its time. A store over the network is
/// not to be flooded.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

pub(crate) struct PyStore {
    store: Py<PyAny>,
    /// Keeps communicators that share a store apart.
    prefix: String,
    /// What this rank has left there.
    left: Mutex<Vec<String>>,
}

impl PyStore {
    pub(crate) fn new(store: Py<PyAny>, prefix: String) -> Self {
        Self { store, prefix, left: Mutex::default() }
    }

    /// Takes back what this rank has left, so that the same name can be used again in the same store. Every peer has
    /// read it when this rank has met them all: none could have connected to it otherwise.
    pub(crate) fn clean(&self) -> Result<(), StoreError> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        Python::attach(|py| {
            if !self.store.bind(py).hasattr("delete_key")? {
                return Ok(());
            }
            left.into_iter().try_for_each(|key| self.store.call_method1(py, "delete_key", (key,)).map(|_| ()))
        })
        .map_err(|error| failed(&error))
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }
}

impl Store for PyStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let key = self.key(key);
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        Python::attach(|py| {
            let value = PyBytes::new(py, value);
            self.store.call_method1(py, "set", (key, value)).map(|_| ()).map_err(|e| failed(&e))
        })
    }

    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        let key = self.key(key);
        let mut between_looks = FIRST_LOOK;
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
                Ok(None) => {
                    std::thread::sleep(between_looks);
                    between_looks = LAST_LOOK.min(between_looks * 2);
                }
                Err(error) => return Err(failed(&error)),
            }
        }
    }
}

fn failed(error: &PyErr) -> StoreError {
    StoreError::Failed(error.to_string())
}
