//! Ending a wait from outside: a signal, or another thread that wants no more of it.

use std::fmt;
use std::sync::Arc;

use crate::error::FabricError;

/// Asked several times a second while a rank waits for its peers.
#[derive(Clone, Default)]
pub struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    /// Waits end as soon as `wanted` answers `true`, which it goes on to do until somebody has heard of it. It must not
    /// wait itself, and any thread may ask it.
    pub fn when(wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wanted)))
    }

    /// Whether a wait should end now.
    pub fn wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|wanted| wanted())
    }

    /// For waits of the bootstrap.
    pub(crate) fn check(&self) -> Result<(), FabricError> {
        if self.wanted() { Err(FabricError::Interrupted) } else { Ok(()) }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Interrupt(set)" } else { "Interrupt(none)" })
    }
}
