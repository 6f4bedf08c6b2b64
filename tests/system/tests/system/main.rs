//! halo-cluster sets up machines and takes it back: namespace hosts dressed as Fedora, and a virtual machine.

mod configure;
mod doctor;
mod examples;
mod init;
mod login;
mod vm;
