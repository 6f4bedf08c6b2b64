//! The net plugin, loaded and driven as RCCL and NCCL do: over TCP on this machine, and over real verbs.

mod c_host;
mod common;
mod exports;
mod failure;
mod loopback;
mod soft_roce;
