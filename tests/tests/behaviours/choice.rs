//! Which implementation is built, from where, and with which attention.

use super::{TOKENS, fixture, logits};
use crate::support::{assert_says, checkpoint, copy_of, message};
use automodel::attention::{SdpaBackend, SdpaConstraints, SdpaMethod};
use automodel::config::{ClassDefaults, ResolvedConfig};
use automodel::models::{CausalLm, Decoder, DecoderOptions, ModelFactory};
use automodel::registry::{
    AcceptedOptions, CustomImplementation, Implementation, Lowered, Registration, Registry, RegistryError,
    ResolveOptions,
};
use automodel::{AutoModelForCausalLM, FromPretrained};
use std::fs;
use std::sync::{Arc, Mutex};

static DEFAULTS: ClassDefaults = ClassDefaults { values: &[], aliases: &[] };

/// The generic decoder once more, as a dedicated implementation.
const OWN: CustomImplementation = CustomImplementation {
    name: "own-llama",
    architecture: "LlamaForCausalLM",
    model_type: "own",
    defaults: &DEFAULTS,
    options: AcceptedOptions::Named(&["chunk"]),
    tags: &[],
    supports: None,
    weight_map: |config| Ok(lower(config)?.weights),
};

fn lower(config: &ResolvedConfig) -> Result<Lowered, RegistryError> {
    let registry = Registry::builtin();
    let resolution = registry.resolve(config, &ResolveOptions::default())?;
    registry.lower(config, &resolution)
}

fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.register_custom(OWN, Registration::New).unwrap();
    registry
}

/// A builder that knows [`OWN`], and what its factory is given.
fn with_own(builder: FromPretrained) -> (FromPretrained, Arc<Mutex<Option<serde_json::Value>>>) {
    let seen = Arc::new(Mutex::new(None));
    let note = seen.clone();
    let factory: ModelFactory = Arc::new(move |context| {
        *note.lock().unwrap() = Some(serde_json::Value::Object(context.options.clone()));
        let spec = lower(context.config)?.spec.expect("llama has a spec");
        let options = DecoderOptions::new(context.attention);
        Ok(Box::new(Decoder::new(&spec, options, context.device)?) as Box<dyn CausalLm>)
    });
    (builder.registry(registry()).factory("own-llama", factory), seen)
}

#[test]
fn a_compatible_custom_implementation_is_built_with_its_options() {
    let (builder, seen) = with_own(fixture("llama"));
    let model = builder.option("chunk", 3).option("rms_norm_eps", 0.01).load().unwrap();
    assert_eq!(model.prepared().resolution.implementation, Implementation::Custom { name: "own-llama".to_owned() });
    assert_eq!(seen.lock().unwrap().take().unwrap(), serde_json::json!({"chunk": 3}));
    assert_eq!(logits(&model), logits(&fixture("llama").load().unwrap()));
}

#[test]
fn forcing_the_generic_implementation_leaves_the_factory_alone() {
    let (builder, seen) = with_own(fixture("llama"));
    let model = builder.force_generic(true).load().unwrap();
    assert_eq!(model.prepared().resolution.implementation, Implementation::Generic { family: "llama".to_owned() });
    assert!(seen.lock().unwrap().is_none());
    // Options of the implementation that was not chosen are not swallowed.
    let (builder, _) = with_own(fixture("llama"));
    let said = message(&builder.force_generic(true).option("chunk", 3).load().unwrap_err());
    assert_says(&said, &["unknown option `chunk`"]);
}

#[test]
fn a_custom_implementation_without_a_factory_is_an_error() {
    let said = message(&fixture("llama").registry(registry()).load().unwrap_err());
    assert_says(&said, &["`own-llama`", "no factory", "register one", "force the generic"]);
}

#[test]
fn a_repo_is_found_in_the_cache_without_a_network() {
    let cache = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = cache.path().join("models--org--tiny-llama");
    let snapshot = repo.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), commit).unwrap();
    for entry in fs::read_dir(copy_of("llama").path()).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    let from_cache = || AutoModelForCausalLM::from_pretrained("org/tiny-llama").cache_dir(cache.path()).offline(true);
    for builder in [from_cache(), from_cache().revision("main"), from_cache().revision(commit)] {
        let model = builder.load().unwrap();
        assert_eq!(model.checkpoint().unwrap().commit.as_deref(), Some(commit));
        assert_eq!(logits(&model), logits(&fixture("llama").load().unwrap()));
    }
    let said = message(&from_cache().revision("v2").load().unwrap_err());
    assert_says(&said, &["`v2`", "org/tiny-llama", "main"]);
}

#[test]
fn attention_backends_keep_their_order_and_any_spelling() {
    let chosen = |builder: FromPretrained| {
        let attention = builder.load().unwrap().prepared().attention.clone();
        (attention.backend, attention.reason)
    };
    assert_eq!(chosen(fixture("llama").attention(["MATH", "Efficient_Attention"])).0, SdpaBackend::Math);
    let mixed = [SdpaMethod::from("cudnn_attention"), SdpaBackend::EfficientAttention.into(), "math".into()];
    let (backend, reason) = chosen(fixture("llama").attention(mixed));
    assert_eq!(backend, SdpaBackend::EfficientAttention);
    assert!(!reason.is_empty());
    // An explicit wish wins over what constraints would have chosen.
    let constraints = SdpaConstraints { activation_checkpointing: true, ..SdpaConstraints::default() };
    let (unasked, _) = chosen(fixture("llama").attention_constraints(constraints));
    assert_ne!(unasked, SdpaBackend::Math);
    let asked = fixture("llama").attention_constraints(constraints).attention([SdpaBackend::Math]);
    assert_eq!(chosen(asked).0, SdpaBackend::Math);
}

#[test]
fn inspecting_and_loading_agree() {
    let summary = fixture("qwen3_moe-sharded").inspect().unwrap();
    let model = fixture("qwen3_moe-sharded").load().unwrap();
    assert_eq!(summary.resolution, model.prepared().resolution);
    assert_eq!(summary.peak_bytes, model.report().unwrap().planned_peak_bytes);
    assert_eq!(summary.mapped_bytes, model.report().unwrap().mapped_bytes);
    assert_eq!(summary.directory, checkpoint("qwen3_moe-sharded"));
    assert_eq!(model.logits(&TOKENS).unwrap().dims(), [TOKENS.len(), 96]);
}
