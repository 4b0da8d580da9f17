//! Downloads from a server and the maintenance of the cache.

pub(crate) mod api;
mod client;
mod download;
pub(crate) mod fetch;
mod folder;
mod hash;
mod in_use;
mod listing;
mod lock;
pub(crate) mod lock_file;
pub(crate) mod maintenance;
mod parallel;
pub(crate) mod remote;
pub(crate) mod retry;
mod select;
mod store;
mod url;
