//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::Adapter>();
    is_send_and_sync::<crate::CheckpointFiles>();
    is_send_and_sync::<crate::CheckpointWriter>();
    is_send_and_sync::<crate::UnquantizedMatrix>();
    is_send_and_sync::<crate::DeviceBytes>();
    is_send_and_sync::<crate::DtypeBytes>();
    is_send_and_sync::<crate::DtypePolicy>();
    is_send_and_sync::<crate::Encoding>();
    is_send_and_sync::<crate::EncodingBytes>();
    is_send_and_sync::<crate::FileChange>();
    is_send_and_sync::<crate::LoadError>();
    is_send_and_sync::<crate::LoadOptions>();
    is_send_and_sync::<crate::LoadPlan>();
    is_send_and_sync::<crate::LoadReport>();
    is_send_and_sync::<crate::LoadedParameters>();
    is_send_and_sync::<crate::LoadedTensor>();
    is_send_and_sync::<crate::MappedFiles>();
    is_send_and_sync::<crate::MissingTensor>();
    is_send_and_sync::<crate::NonFinite>();
    is_send_and_sync::<crate::Overflow>();
    is_send_and_sync::<crate::PlanRow>();
    is_send_and_sync::<crate::PlanSource>();
    is_send_and_sync::<crate::PlannedTie>();
    is_send_and_sync::<crate::Problems>();
    is_send_and_sync::<crate::Progress<'_>>();
    is_send_and_sync::<crate::QuantizationConfig>();
    is_send_and_sync::<crate::QuantizationFault>();
    is_send_and_sync::<crate::RequantizeOptions>();
    is_send_and_sync::<crate::RequantizeProgress<'_>>();
    is_send_and_sync::<crate::RequantizeReport>();
    is_send_and_sync::<crate::SaveFiles>();
    is_send_and_sync::<crate::SaveOptions>();
    is_send_and_sync::<crate::SaveReport>();
    is_send_and_sync::<crate::ShapeMismatch>();
    is_send_and_sync::<crate::Shard>();
    is_send_and_sync::<crate::StoredDtype>();
    is_send_and_sync::<crate::TensorInfo>();
    is_send_and_sync::<crate::TieDecision>();
    is_send_and_sync::<crate::TieOutcome>();
    is_send_and_sync::<crate::TieReport>();
    is_send_and_sync::<crate::UnusableDtype>();
    is_send_and_sync::<crate::WeightMapFault>();
}
