//! Downloads from a real server on loopback, which fails on request.

mod access;
mod faults;
#[cfg(unix)]
mod links;
mod locked;
mod looks;
mod maintenance;
mod names;
mod pins;
mod processes;
mod workplace;
