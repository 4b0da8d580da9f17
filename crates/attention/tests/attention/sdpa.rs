//! Names, requests and choices of backends.

use automodel_attention::SdpaBackend::{CudnnAttention, EfficientAttention, FlashAttention, Math};
use automodel_attention::{
    AttentionError, SdpaBackend, SdpaConstraints, SdpaMethod, resolve_sdpa_method, select_backend,
};
use burn::tensor::Device;

const PLAIN: SdpaConstraints = SdpaConstraints { context_parallel_size: 1, activation_checkpointing: false };

#[test]
fn names_in_any_case() {
    for (name, backend) in [
        ("flash_attention", FlashAttention),
        ("EFFICIENT_ATTENTION", EfficientAttention),
        ("Math", Math),
        ("CuDNN_Attention", CudnnAttention),
    ] {
        assert_eq!(name.parse(), Ok(backend));
        assert_eq!(backend.to_string(), name.to_lowercase());
    }
}

#[test]
fn order_is_kept_and_names_mix_with_values() {
    let names = ["math", "Flash_Attention", "efficient_attention"];
    assert_eq!(resolve_sdpa_method(Some(&names), &PLAIN), Ok(Some(vec![Math, FlashAttention, EfficientAttention])));
    let owned = [String::from("CUDNN_ATTENTION")];
    assert_eq!(resolve_sdpa_method(Some(&owned), &PLAIN), Ok(Some(vec![CudnnAttention])));
    assert_eq!(resolve_sdpa_method(Some(&[Math, FlashAttention]), &PLAIN), Ok(Some(vec![Math, FlashAttention])));
    let mixed: [SdpaMethod; 3] = [EfficientAttention.into(), "MATH".into(), FlashAttention.into()];
    assert_eq!(resolve_sdpa_method(Some(&mixed), &PLAIN), Ok(Some(vec![EfficientAttention, Math, FlashAttention])));
}

#[test]
fn an_unknown_name_lists_the_valid_ones() {
    let error = resolve_sdpa_method(Some(&["math", "flash"]), &PLAIN).expect_err("`flash` is not a name");
    assert_eq!(error, AttentionError::UnknownBackend { name: "flash".to_owned() });
    assert_eq!(
        error.to_string(),
        "unknown attention backend `flash`: choose from flash_attention, efficient_attention, math, cudnn_attention"
    );
}

#[test]
fn without_a_request_the_constraints_decide() {
    let resolve = |context_parallel_size, activation_checkpointing| {
        let constraints = SdpaConstraints { context_parallel_size, activation_checkpointing };
        resolve_sdpa_method::<&str>(None, &constraints)
    };
    assert_eq!(resolve(1, false), Ok(None));
    assert_eq!(resolve(0, false), Ok(None));
    assert_eq!(resolve(2, false), Ok(Some(vec![FlashAttention, EfficientAttention])));
    assert_eq!(resolve(2, true), Ok(Some(vec![FlashAttention, EfficientAttention])));
    assert_eq!(resolve(1, true), Ok(Some(vec![FlashAttention, EfficientAttention, Math])));
    assert_eq!(SdpaConstraints::default(), PLAIN);
}

#[test]
fn an_explicit_request_wins() {
    let constraints = SdpaConstraints { context_parallel_size: 8, activation_checkpointing: true };
    assert_eq!(resolve_sdpa_method(Some(&["math"]), &constraints), Ok(Some(vec![Math])));
}

#[test]
fn an_empty_request_is_an_error() {
    assert_eq!(resolve_sdpa_method::<&str>(Some(&[]), &PLAIN), Err(AttentionError::EmptyPreference));
    assert_eq!(select_backend(Some(&[]), &Device::flex()), Err(AttentionError::EmptyPreference));
}

#[test]
fn the_first_available_backend_is_taken() {
    let device = Device::flex();
    assert_eq!(select_backend(None, &device).map(|choice| choice.backend), Ok(EfficientAttention));
    for backend in [FlashAttention, EfficientAttention, Math] {
        let choice = select_backend(Some(&[backend, Math]), &device).expect("available on the CPU");
        assert_eq!((choice.backend, choice.skipped.len()), (backend, 0));
    }
    let choice = select_backend(Some(&[CudnnAttention, Math]), &device).expect("math is everywhere");
    assert_eq!(choice.backend, Math);
    assert_eq!(choice.skipped, [(CudnnAttention, "cuDNN needs an NVIDIA GPU".to_owned())]);
    assert!(choice.reason.contains("CPU"), "{}", choice.reason);
}

#[test]
fn only_unavailable_backends_list_what_there_is() {
    let error = select_backend(Some(&[CudnnAttention]), &Device::flex()).expect_err("no cuDNN on a CPU");
    assert_eq!(
        error.to_string(),
        "no requested attention backend runs on the CPU: cudnn_attention (cuDNN needs an NVIDIA GPU). \
         It supports flash_attention, efficient_attention, math"
    );
}

#[test]
fn names_are_those_of_configurations() {
    for backend in SdpaBackend::ALL {
        assert_eq!(SdpaBackend::try_from(backend.name()), Ok(backend));
    }
}
