//! Downloads from a real server on loopback, which fails on request.

mod access;
mod faults;
mod locked;
mod looks;
mod maintenance;
mod names;
mod pins;
mod processes;
mod workplace;
