//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::AcceptedOptions>();
    is_send_and_sync::<crate::CompatibilityRule>();
    is_send_and_sync::<crate::Considered>();
    is_send_and_sync::<crate::CustomImplementation>();
    is_send_and_sync::<crate::Family>();
    is_send_and_sync::<crate::Implementation>();
    is_send_and_sync::<crate::Lowered>();
    is_send_and_sync::<crate::Registration>();
    is_send_and_sync::<crate::Registry>();
    is_send_and_sync::<crate::RegistryError>();
    is_send_and_sync::<crate::Resolution>();
    is_send_and_sync::<crate::ResolveOptions>();
    is_send_and_sync::<crate::SplitOptions>();
    is_send_and_sync::<crate::SupportsConfig>();
    is_send_and_sync::<crate::rope::LayerTypeThetas>();
    is_send_and_sync::<crate::rope::RopeByLayerType>();
    is_send_and_sync::<crate::spec::Activation>();
    is_send_and_sync::<crate::spec::AttentionBias>();
    is_send_and_sync::<crate::spec::AttentionMask>();
    is_send_and_sync::<crate::spec::AttentionSpec>();
    is_send_and_sync::<crate::spec::EmbeddingSpec>();
    is_send_and_sync::<crate::spec::HeadSpec>();
    is_send_and_sync::<crate::spec::LayerSpec>();
    is_send_and_sync::<crate::spec::LearnedPositions>();
    is_send_and_sync::<crate::spec::LongRope>();
    is_send_and_sync::<crate::spec::Mixer>();
    is_send_and_sync::<crate::spec::Mlp>();
    is_send_and_sync::<crate::spec::MlpSpec>();
    is_send_and_sync::<crate::spec::ModelSpec>();
    is_send_and_sync::<crate::spec::MoeSpec>();
    is_send_and_sync::<crate::spec::NormKind>();
    is_send_and_sync::<crate::spec::NormPlacement>();
    is_send_and_sync::<crate::spec::NormSpec>();
    is_send_and_sync::<crate::spec::QkNorm>();
    is_send_and_sync::<crate::spec::QkNormExtent>();
    is_send_and_sync::<crate::spec::QueryTemperature>();
    is_send_and_sync::<crate::spec::RopePairing>();
    is_send_and_sync::<crate::spec::RopeScaling>();
    is_send_and_sync::<crate::spec::RopeSpec>();
    is_send_and_sync::<crate::spec::RouterScore>();
    is_send_and_sync::<crate::spec::RouterSpec>();
    is_send_and_sync::<crate::spec::SharedExpert>();
    is_send_and_sync::<crate::spec::YarnRope>();
    is_send_and_sync::<crate::template::Keys>();
    is_send_and_sync::<crate::template::Template>();
    is_send_and_sync::<crate::weights::Fused>();
    is_send_and_sync::<crate::weights::FusedOrder>();
    is_send_and_sync::<crate::weights::IgnoredTensors>();
    is_send_and_sync::<crate::weights::Layout>();
    is_send_and_sync::<crate::weights::ParameterRole>();
    is_send_and_sync::<crate::weights::ParameterSlot>();
    is_send_and_sync::<crate::weights::SourcePiece>();
    is_send_and_sync::<crate::weights::StackedExperts>();
    is_send_and_sync::<crate::weights::StridedView>();
    is_send_and_sync::<crate::weights::Tie>();
    is_send_and_sync::<crate::weights::ViewError>();
    is_send_and_sync::<crate::weights::ViewOp>();
    is_send_and_sync::<crate::weights::WeightMap>();
}
