//! Ending a wait from outside: a signal, or another thread that wants no more of it.

use std::fmt;

/// Asked now and then while an operation waits.
#[derive(Default)]
pub(crate) struct Interrupt(Option<Box<dyn FnMut() -> bool + Send>>);

impl Interrupt {
    pub(crate) fn new(wanted: impl FnMut() -> bool + Send + 'static) -> Self {
        Self(Some(Box::new(wanted)))
    }

    pub(crate) fn wanted(&mut self) -> bool {
        self.0.as_mut().is_some_and(|wanted| wanted())
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Interrupt(set)" } else { "Interrupt(none)" })
    }
}
