//! The shared library `libhalo`: what other languages and programs load.
//!
//! Two tenants, neither of which knows the other: [`c_api`] is `halo.h`, the collectives for C; the net plugin for
//! RCCL and NCCL stands beside it. Both keep the same promise: nothing unwinds into the caller.

pub mod c_api;
pub mod plugin;
