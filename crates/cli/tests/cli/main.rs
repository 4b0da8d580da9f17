//! The command as a user runs it: standard output, standard error, exit codes.

mod chat;
mod failures;
mod generate;
mod hostile;
mod hub;
mod program;
mod readme;
mod reports;
mod run;
mod terminal;
mod weights;
