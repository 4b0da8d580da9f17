//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

#[cfg(feature = "cube")]
fn is_send<T: Send>() {}
fn is_send_and_sync<T: Send + Sync>() {}

/// Implemented twice for types that are `Send`, so that a call for them is ambiguous and does not compile.
trait IsNotSend<Marker> {
    fn is_not_send() {}
}
impl<T> IsNotSend<()> for T {}
impl<T: Send> IsNotSend<u8> for T {}

/// Guards restore a setting of the thread that made them.
#[test]
fn guards_of_a_thread_are_not_send() {
    <crate::scope::DefaultDtype as IsNotSend<_>>::is_not_send();
    <crate::scope::RealAllocation as IsNotSend<_>>::is_not_send();
}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::Attention>();
    is_send_and_sync::<crate::Backbone>();
    is_send_and_sync::<crate::BackboneEncoder>();
    is_send_and_sync::<crate::BranchModule>();
    is_send_and_sync::<crate::BuildContext<'_>>();
    is_send_and_sync::<crate::CacheOptions>();
    is_send_and_sync::<crate::ConvState>();
    is_send_and_sync::<crate::DecodeCache>();
    is_send_and_sync::<crate::Decoder>();
    is_send_and_sync::<crate::DepthwiseConv>();
    is_send_and_sync::<crate::Embedding>();
    is_send_and_sync::<crate::FeedForwardModule>();
    is_send_and_sync::<crate::GatedMlp>();
    is_send_and_sync::<crate::Indexer>();
    is_send_and_sync::<crate::LatentAttention>();
    is_send_and_sync::<crate::HeadTransform>();
    is_send_and_sync::<crate::Layer>();
    is_send_and_sync::<crate::Linear>();
    is_send_and_sync::<crate::LogitsFor>();
    is_send_and_sync::<crate::MixerModule>();
    is_send_and_sync::<crate::MixerState>();
    is_send_and_sync::<crate::ModelError>();
    is_send_and_sync::<crate::ModelFactories>();
    is_send_and_sync::<crate::ModelFactory>();
    is_send_and_sync::<crate::ModelOptions>();
    is_send_and_sync::<crate::Norm>();
    is_send_and_sync::<crate::OperationModule>();
    is_send_and_sync::<crate::PlainMlp>();
    is_send_and_sync::<crate::Router>();
    is_send_and_sync::<crate::ShortConv>();
    is_send_and_sync::<crate::SparseMoe>();
    is_send_and_sync::<crate::TokenBatch>();
    is_send_and_sync::<crate::Weight>();
    is_send_and_sync::<crate::parameters::ParameterTensor>();
    is_send_and_sync::<crate::scope::NotAFloatDtype>();
    #[cfg(feature = "cube")]
    is_send::<crate::CapturedDecode>();
}
