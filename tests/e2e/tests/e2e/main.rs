//! Whole launches on two hosts and on one: real ssh, real Ray and vLLM.

mod launch;
mod models;
mod verify;
