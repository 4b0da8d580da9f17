//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::Assembly>();
    is_send_and_sync::<crate::AssemblyError>();
    #[cfg(feature = "cube")]
    is_send_and_sync::<crate::WeightStack>();
    is_send_and_sync::<crate::Crossover>();
    is_send_and_sync::<crate::Cut>();
    is_send_and_sync::<crate::CutError>();
    is_send_and_sync::<crate::Declared>();
    is_send_and_sync::<crate::DenseMatrix<'_>>();
    is_send_and_sync::<crate::DeviceQuantizer>();
    is_send_and_sync::<crate::DeviceWeight>();
    is_send_and_sync::<crate::Elements<'_>>();
    is_send_and_sync::<crate::Joint>();
    is_send_and_sync::<crate::OwnedElements>();
    is_send_and_sync::<crate::Part>();
    is_send_and_sync::<crate::PartSpec>();
    is_send_and_sync::<crate::Precision>();
    is_send_and_sync::<crate::QuantError>();
    is_send_and_sync::<crate::QuantLayout>();
    is_send_and_sync::<crate::QuantLinear>();
    is_send_and_sync::<crate::QuantWeight>();
    is_send_and_sync::<crate::Quantized>();
    is_send_and_sync::<crate::Quantizer>();
    is_send_and_sync::<crate::Scheme>();
    is_send_and_sync::<crate::WeightDtype>();
    is_send_and_sync::<crate::files::DescribeError<std::io::Error>>();
    is_send_and_sync::<crate::files::PlannedTensor>();
    is_send_and_sync::<crate::files::StoredTensor>();
    is_send_and_sync::<crate::files::StoredWeight>();
    is_send_and_sync::<crate::files::TensorHeader>();
    is_send_and_sync::<crate::self_test::Kernel>();
    is_send_and_sync::<crate::self_test::KernelCheck>();
    is_send_and_sync::<crate::self_test::Outcome>();
    is_send_and_sync::<crate::table16::Absmax>();
    is_send_and_sync::<crate::table16::format::Companion>();
    is_send_and_sync::<crate::table16::format::NestedState>();
    is_send_and_sync::<crate::table16::format::QuantState>();
    is_send_and_sync::<crate::table16::Blocksize>();
    is_send_and_sync::<crate::table16::Device4bit>();
    is_send_and_sync::<crate::table16::DeviceQuantizer>();
    is_send_and_sync::<crate::table16::Layout4bit>();
    is_send_and_sync::<crate::table16::Matrix4bit<'_>>();
    is_send_and_sync::<crate::table16::NestedAbsmax>();
    is_send_and_sync::<crate::table16::QuantType>();
    is_send_and_sync::<crate::table16::Quantized4bit>();
    is_send_and_sync::<crate::table16::Quantizer>();
    is_send_and_sync::<crate::table16::Table16>();
}
