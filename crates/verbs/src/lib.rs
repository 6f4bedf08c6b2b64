//! libibverbs, loaded at run time.
