//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::Absmax>();
    is_send_and_sync::<crate::BitsAndBytes4bit>();
    is_send_and_sync::<crate::Blocksize>();
    is_send_and_sync::<crate::CheckpointQuantization>();
    is_send_and_sync::<crate::Crossover>();
    is_send_and_sync::<crate::DenseMatrix<'_>>();
    is_send_and_sync::<crate::Device4bit>();
    is_send_and_sync::<crate::DeviceQuantizer>();
    is_send_and_sync::<crate::Elements<'_>>();
    is_send_and_sync::<crate::Layout4bit>();
    is_send_and_sync::<crate::Linear4bit>();
    is_send_and_sync::<crate::Matrix4bit<'_>>();
    is_send_and_sync::<crate::NestedAbsmax>();
    is_send_and_sync::<crate::OwnedElements>();
    is_send_and_sync::<crate::Precision>();
    is_send_and_sync::<crate::QuantError>();
    is_send_and_sync::<crate::QuantType>();
    is_send_and_sync::<crate::Quantized4bit>();
    is_send_and_sync::<crate::Quantizer>();
    is_send_and_sync::<crate::WeightDtype>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::WeightStack>();
    is_send_and_sync::<crate::format::Companion>();
    is_send_and_sync::<crate::format::NestedState>();
    is_send_and_sync::<crate::format::QuantState>();
    is_send_and_sync::<crate::format::StoredTensor>();
    is_send_and_sync::<crate::format::TensorHeader>();
    is_send_and_sync::<crate::self_test::Kernel>();
    is_send_and_sync::<crate::self_test::KernelCheck>();
    is_send_and_sync::<crate::self_test::Outcome>();
}
