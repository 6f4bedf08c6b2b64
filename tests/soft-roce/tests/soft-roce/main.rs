//! Real verbs, in virtual machines with Soft-RoCE, and the rig that boots them.

mod collectives;
mod idle;
mod memory;
mod pages;
mod python;
mod rails;
mod ray;
mod rig;
mod verbs;
