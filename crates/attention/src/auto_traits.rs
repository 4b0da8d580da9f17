//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::Alibi>();
    is_send_and_sync::<crate::AttentionError>();
    is_send_and_sync::<crate::AttentionParams>();
    is_send_and_sync::<crate::KeysAndValues>();
    is_send_and_sync::<crate::AttentionMask>();
    is_send_and_sync::<crate::KvCache>();
    is_send_and_sync::<crate::Positions>();
    is_send_and_sync::<crate::Rope>();
    is_send_and_sync::<crate::RopeConfig>();
    is_send_and_sync::<crate::RopePairing>();
    is_send_and_sync::<crate::RopeScaling>();
    is_send_and_sync::<crate::RopeTables>();
    is_send_and_sync::<crate::SdpaBackend>();
    is_send_and_sync::<crate::SdpaChoice>();
    is_send_and_sync::<crate::SdpaConstraints>();
    is_send_and_sync::<crate::SdpaMethod>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::step::StaticKvCache>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::step::StepHeads>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::step::StepPosition>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::step::StepRope>();
}
