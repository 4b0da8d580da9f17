//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::BoxedError>();
    is_send_and_sync::<crate::Candidates>();
    is_send_and_sync::<crate::ChatLimits>();
    is_send_and_sync::<crate::ChatMessage>();
    is_send_and_sync::<crate::ChatOptions>();
    is_send_and_sync::<crate::ChatTemplate>();
    is_send_and_sync::<crate::DeviceSampler>();
    is_send_and_sync::<crate::FinishReason>();
    is_send_and_sync::<crate::GeneratedText>();
    is_send_and_sync::<crate::GenerationError>();
    is_send_and_sync::<crate::GenerationEvent<'_>>();
    is_send_and_sync::<crate::GenerationOptions>();
    is_send_and_sync::<crate::GenerationReport>();
    is_send_and_sync::<crate::GenerationTimings>();
    is_send_and_sync::<crate::Generator<'_>>();
    is_send_and_sync::<crate::Prompt>();
    is_send_and_sync::<crate::Sampler>();
    is_send_and_sync::<crate::SamplingOptions>();
    is_send_and_sync::<crate::SpecialTokens>();
    is_send_and_sync::<crate::StopStrings>();
    is_send_and_sync::<crate::TextStream<'_>>();
    is_send_and_sync::<crate::TextTokenizer>();
}
