//! Downloads from a real server on loopback, which fails on request.

mod access;
mod faults;
mod fixture;
mod headers;
#[cfg(unix)]
mod links;
mod locked;
mod maintenance;
mod names;
mod pins;
mod processes;
