//! Which implementation is built, from where, and with which attention.

use super::{TOKENS, fixture, logits};
use crate::support::{assert_says, checkpoint, copy_of, edit_json, message};
use automodel::attention::{SdpaBackend, SdpaConstraints, SdpaMethod};
use automodel::config::{ClassDefaults, DefaultValue, Overrides, RawConfig, ResolvedConfig};
use automodel::loader::QuantizationConfig;
use automodel::models::parameters::{self, ParameterTensor};
use automodel::models::{
    CacheOptions, CausalLm, DecodeCache, Decoder, LogitsFor, Model, ModelError, ModelFactory, ModelOptions, TokenBatch,
};
use automodel::registry::weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap};
use automodel::registry::{
    AcceptedOptions, CompatibilityRule, CustomImplementation, Implementation, Lowered, Registration, Registry,
    RegistryError, ResolveOptions,
};
use automodel::{AutoModelForCausalLM, Device, FromPretrained};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use safetensors::tensor::TensorView;
use std::fs;
use std::path::Path;
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

/// A builder that knows [`OWN`], and the arguments of its factory.
fn with_own(builder: FromPretrained) -> (FromPretrained, Arc<Mutex<Option<serde_json::Value>>>) {
    let seen = Arc::new(Mutex::new(None));
    let note = seen.clone();
    let factory: ModelFactory = Arc::new(move |context| {
        *note.lock().unwrap() = Some(serde_json::Value::Object(context.options.clone()));
        let spec = lower(context.config)?.spec.expect("llama has a spec");
        let options = ModelOptions::new(context.attention);
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
    // An explicit request wins over the choice of the constraints.
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

/// The mathematics of a config, by a registry that knows no custom implementation.
fn mathematics(builder: FromPretrained) -> automodel::registry::spec::ModelSpec {
    builder.inspect().unwrap().prepared.lowered.spec.clone().expect("the generic decoder has a spec")
}

#[test]
fn a_registration_changes_nothing_for_the_generic_decoder() {
    /// Other than Llama's in everything that counts.
    static SMALL: ClassDefaults = ClassDefaults {
        values: &[
            ("hidden_size", DefaultValue::Int(64)),
            ("rms_norm_eps", DefaultValue::Float(0.01)),
            ("hidden_act", DefaultValue::Str("relu")),
            ("rope_theta", DefaultValue::Float(7.0)),
        ],
        aliases: &[],
    };
    let declines: fn(&ResolvedConfig) -> Result<(), String> = |_| Err("it never serves anything".to_owned());
    let own = CustomImplementation { model_type: "llama", defaults: &SMALL, ..OWN };
    let with = |implementation: CustomImplementation, rule: bool| {
        let mut registry = Registry::builtin();
        registry.register_custom(implementation, Registration::New).unwrap();
        if rule {
            registry.add_rule(CompatibilityRule {
                architecture: "LlamaForCausalLM",
                any_of: &["special"],
                reason: "only configs with `special` describe it",
            });
        }
        registry
    };
    // A config without the keys in whose defaults the two classes differ.
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| {
        for key in ["rms_norm_eps", "hidden_act"] {
            config.as_object_mut().unwrap().remove(key).unwrap();
        }
    });
    let plain = || AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    let expected = mathematics(plain());
    let cases = [
        ("forced", plain().registry(with(own, false)).force_generic(true)),
        ("rule", plain().registry(with(own, true))),
        ("declined", plain().registry(with(CustomImplementation { supports: Some(declines), ..own }, false))),
        ("other", plain().registry(with(CustomImplementation { architecture: "OtherForCausalLM", ..own }, false))),
    ];
    for (case, builder) in cases {
        assert!(mathematics(builder) == expected, "{case}");
    }
    let chosen = plain().registry(with(own, false)).inspect().unwrap().prepared;
    assert_eq!(chosen.config.f64("rms_norm_eps").unwrap(), 0.01, "the chosen class has its own default");

    // With more of them absent, what the custom class says would be visible in every shape.
    let bare = RawConfig::from_str(r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#).unwrap();
    let options = ResolveOptions { force_generic: true, ..ResolveOptions::default() };
    let registry = with(own, false);
    let (config, _) = registry.resolve_config(&bare, &Overrides::new(), &options).unwrap();
    assert_eq!((config.usize("hidden_size").unwrap(), config.f64("rms_norm_eps").unwrap()), (4096, 1e-6));
    let (config, resolution) = registry.resolve_config(&bare, &Overrides::new(), &ResolveOptions::default()).unwrap();
    assert_eq!((config.usize("hidden_size").unwrap(), config.f64("rms_norm_eps").unwrap()), (64, 0.01));
    assert_eq!(resolution.implementation, Implementation::Custom { name: "own-llama".to_owned() });
}

/// A layer between two dense matrices, the way somebody from outside would write it.
#[derive(Module, Debug)]
struct TwoMatrices {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
    takes_second: bool,
}

impl Model for TwoMatrices {
    fn device(&self) -> Device {
        self.first.lazy_device()
    }

    fn visit_parameters(&self, visit: &mut dyn FnMut(&str, &[usize])) {
        parameters::visit(self, visit);
    }

    fn assign_parameters(
        &mut self,
        provide: &mut dyn FnMut(&str) -> Option<ParameterTensor>,
    ) -> Result<(), ModelError> {
        let takes_second = self.takes_second;
        let mut provide = |path: &str| if path == "second" && !takes_second { None } else { provide(path) };
        let (filled, outcome) = parameters::assign(self.clone(), &mut provide);
        *self = filled;
        outcome
    }

    fn read_parameters(&self, read: &mut dyn FnMut(&str, ParameterTensor)) {
        parameters::read(self, read);
    }
}

impl CausalLm for TwoMatrices {
    fn vocab_size(&self) -> usize {
        4
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        None
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        DecodeCache::new(options.batch_size, Vec::new())
    }

    fn forward(&self, _: &TokenBatch, _: LogitsFor, _: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        Ok(self.first.val().matmul(self.second.val()).unsqueeze())
    }
}

/// Loads [`TwoMatrices`], with a weight map of these paths.
fn two_matrices(
    directory: &Path,
    takes_second: bool,
    map: fn(&ResolvedConfig) -> Result<WeightMap, RegistryError>,
) -> FromPretrained {
    let implementation = CustomImplementation {
        name: "two-matrices",
        architecture: "TwoMatricesForCausalLM",
        model_type: "two_matrices",
        options: AcceptedOptions::Any,
        weight_map: map,
        ..OWN
    };
    let mut registry = Registry::builtin();
    registry.register_custom(implementation, Registration::New).unwrap();
    let factory: ModelFactory = Arc::new(move |context| {
        let matrix = || parameters::empty([4, 4], context.device);
        Ok(Box::new(TwoMatrices { first: matrix(), second: matrix(), takes_second }) as Box<dyn CausalLm>)
    });
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap())
        .registry(registry)
        .factory("two-matrices", factory)
}

fn matrices(paths: &[&str]) -> WeightMap {
    let slot = |path: &&str| ParameterSlot {
        path: (*path).to_owned(),
        shape: vec![4, 4],
        role: ParameterRole::Projection,
        keep_float32: false,
        pieces: vec![SourcePiece::whole(*path, &[4, 4])],
    };
    WeightMap { parameters: paths.iter().map(slot).collect(), ..WeightMap::default() }
}

/// A checkpoint with three matrices, for [`TwoMatrices`].
fn three_matrices() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "two_matrices", "architectures": ["TwoMatricesForCausalLM"]}"#;
    fs::write(directory.path().join("config.json"), config).unwrap();
    let bytes = [0u8; 64];
    let view = || TensorView::new(safetensors::Dtype::F32, vec![4, 4], &bytes).unwrap();
    let tensors = [("first", view()), ("second", view()), ("third", view())];
    safetensors::serialize_to_file(tensors, None, &directory.path().join("model.safetensors")).unwrap();
    directory
}

#[test]
fn what_is_loaded_and_not_taken_or_needed_and_not_filled_is_named() {
    let directory = three_matrices();
    let load = |builder: FromPretrained| builder.load().map_err(|error| message(&error));
    let directory = directory.path();
    load(two_matrices(directory, true, |_| Ok(matrices(&["first", "second"])))).unwrap();

    let said = load(two_matrices(directory, true, |_| Ok(matrices(&["first"])))).unwrap_err();
    assert_says(&said, &["1 parameter(s)", "no value", "`second`"]);
    let said = load(two_matrices(directory, true, |_| Ok(matrices(&["first", "second", "third"])))).unwrap_err();
    assert_says(&said, &["`two-matrices`", "takes no value", "1 parameter(s) (`third`)"]);
    let said = load(two_matrices(directory, false, |_| Ok(matrices(&["first", "second"])))).unwrap_err();
    assert_says(&said, &["`two-matrices`", "takes no value", "`second`"]);

    // Nor can it be in 4 bits, which is known before a weight is read.
    let unread = |_: automodel::loader::Progress<'_>| panic!("a weight was read");
    let quantising =
        two_matrices(directory, true, |_| Ok(matrices(&["first", "second"]))).quantize(QuantizationConfig::nf4());
    let said = load(quantising.progress(unread)).unwrap_err();
    assert_says(&said, &["`two-matrices`", "no quantised projections", "`first`", "`second`"]);
    let skipping = QuantizationConfig::nf4().with_skip_modules(["first", "second"]);
    load(two_matrices(directory, true, |_| Ok(matrices(&["first", "second"]))).quantize(skipping)).unwrap();
}

#[test]
fn an_implementation_that_can_be_quantised_is() {
    let (builder, _) = with_own(fixture("llama"));
    let own = builder.quantize(QuantizationConfig::nf4()).load().unwrap();
    let generic = fixture("llama").quantize(QuantizationConfig::nf4()).load().unwrap();
    assert_eq!(own.report().unwrap().encodings, generic.report().unwrap().encodings);
    assert_eq!(logits(&own), logits(&generic));
}

#[test]
fn models_from_a_config_choose_and_are_filled_as_those_of_checkpoints() {
    let config = || RawConfig::from_file(&checkpoint("llama").join("config.json")).unwrap();
    let factory: ModelFactory = Arc::new(|context| {
        let spec = lower(context.config)?.spec.expect("llama has a spec");
        Ok(Box::new(Decoder::new(&spec, ModelOptions::new(context.attention), context.device)?) as Box<dyn CausalLm>)
    });
    let random = || AutoModelForCausalLM::from_config(config()).seed(5);
    let generic = random().build().unwrap();
    let said = message(&random().registry(registry()).build().unwrap_err());
    assert_says(&said, &["`own-llama`", "no factory"]);
    let own = random().registry(registry()).factory("own-llama", factory).option("chunk", 3).build().unwrap();
    assert_eq!(own.prepared().resolution.implementation, Implementation::Custom { name: "own-llama".to_owned() });
    assert_eq!(logits(&own), logits(&generic));
    assert_eq!(logits(&random().registry(registry()).force_generic(true).build().unwrap()), logits(&generic));
    let shorter = random().config_override("num_hidden_layers", 1).build().unwrap();
    assert_eq!(shorter.prepared().lowered.spec.as_ref().unwrap().backbone.layers.len(), 1);

    // A parameter that the weight map forgot is needed all the same.
    let partial: ModelFactory = Arc::new(|context| {
        let matrix = || parameters::empty([4, 4], context.device);
        Ok(Box::new(TwoMatrices { first: matrix(), second: matrix(), takes_second: false }) as Box<dyn CausalLm>)
    });
    let said = message(&random().registry(registry()).factory("own-llama", partial).build().unwrap_err());
    assert_says(&said, &["1 parameter(s)", "no value", "`second`"]);
}
