//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::CacheProblem>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::CacheReport>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::CachedRevision>();
    is_send_and_sync::<crate::Checkpoint>();
    is_send_and_sync::<crate::CheckpointFile>();
    is_send_and_sync::<crate::DownloadEvent<'_>>();
    is_send_and_sync::<crate::Environment>();
    is_send_and_sync::<crate::HubError>();
    is_send_and_sync::<crate::HubOptions>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::Kept>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::LockFile>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::LockedFile>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::LockedModel>();
    is_send_and_sync::<crate::Locking>();
    is_send_and_sync::<crate::ModelSource>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::PruneReport>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::Pruned>();
    is_send_and_sync::<crate::RepoId>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::RepoReport>();
    #[cfg(feature = "network")]
    is_send_and_sync::<crate::RetryPolicy>();
    is_send_and_sync::<crate::SharedProgress>();
    is_send_and_sync::<crate::Token>();
}
