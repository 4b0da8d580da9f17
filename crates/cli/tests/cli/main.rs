//! The command as a user runs it: standard output, standard error, exit codes.

mod chat;
mod failures;
mod generate;
mod hub;
mod readme;
mod reports;
mod run;
mod weights;
