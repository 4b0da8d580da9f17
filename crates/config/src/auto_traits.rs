//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::ClassDefaults>();
    is_send_and_sync::<crate::ConfigError>();
    is_send_and_sync::<crate::ConfigWarning>();
    is_send_and_sync::<crate::DefaultValue>();
    is_send_and_sync::<crate::FloatType>();
    is_send_and_sync::<crate::GenerationConfig>();
    is_send_and_sync::<crate::InvalidSetting>();
    is_send_and_sync::<crate::ModelRope>();
    is_send_and_sync::<crate::Origin>();
    is_send_and_sync::<crate::Overrides>();
    is_send_and_sync::<crate::RawConfig>();
    is_send_and_sync::<crate::ResolvedConfig>();
    is_send_and_sync::<crate::RopeDefaults>();
    is_send_and_sync::<crate::RopeLayer>();
    is_send_and_sync::<crate::RopeOptions>();
    is_send_and_sync::<crate::RopeParameters>();
    is_send_and_sync::<crate::RopeType>();
    is_send_and_sync::<crate::UnreadKey>();
    is_send_and_sync::<crate::Wrapper<'_>>();
}
