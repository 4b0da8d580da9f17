//! Models in 4 bits saved and read back: the same codes, scales and numbers, in files as `quantize_checkpoint` makes them.

use crate::support::{Reference, assert_says, bitsandbytes, check_all, checkpoint, checkpoints, load, message};
use automodel::loader::{QuantizationConfig, RequantizeOptions, SaveOptions, SaveReport};
use automodel::quant::{
    files::StoredTensor,
    table16::{Absmax, Blocksize, Quantized4bit, format},
};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use automodel_test_support::checkpoints::{Tensors, read_tensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn quantized(directory: &Path, config: &QuantizationConfig) -> AutoModel {
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).quantize(config.clone()).load().unwrap()
}

/// Saves a model and reads it back: the copy, its files, and the report.
fn saved(model: &AutoModel, options: &SaveOptions) -> (AutoModel, Files, SaveReport) {
    let parent = tempfile::tempdir().unwrap();
    let copy = parent.path().join("copy");
    let report = model.save_pretrained(&copy, options).unwrap();
    (load(&copy).unwrap(), Files::read(&copy), report)
}

fn logits(model: &AutoModel, tokens: &[u32]) -> Vec<f32> {
    model.logits(tokens).unwrap().into_data().try_into_vec().unwrap()
}

fn weights(model: &AutoModel) -> BTreeMap<String, Quantized4bit> {
    let mut weights = BTreeMap::new();
    model.model().read_quantized(&mut |path, layer| {
        assert!(weights.insert(path.to_owned(), layer.to_weight().unwrap().table16().unwrap()).is_none());
    });
    weights
}

/// A saved checkpoint.
struct Files {
    tensors: Tensors,
    config: Value,
}

impl Files {
    fn read(directory: &Path) -> Self {
        let mut tensors = Tensors::new();
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let weights = path.extension().is_some_and(|extension| extension == "safetensors");
            if weights && !path.ends_with("reference.safetensors") {
                tensors.extend(read_tensors(&path));
            }
        }
        Self { tensors, config: serde_json::from_slice(&fs::read(directory.join("config.json")).unwrap()).unwrap() }
    }

    fn declared(&self) -> &Value {
        &self.config["quantization_config"]
    }

    fn parameter(&self, name: &str) -> Quantized4bit {
        let find = |name: &str| {
            let (dtype, shape, data) = self.tensors.get(name)?.clone();
            Some(StoredTensor { dtype, shape, data: data.into() })
        };
        format::read_parameter(name, find).unwrap()
    }
}

fn blocks_of(blocksize: usize) -> Blocksize {
    Blocksize::new(blocksize).unwrap()
}

#[test]
fn every_family_comes_back_bit_for_bit() {
    // Short blocks, so that the parts of all fused projections begin with one.
    let config = QuantizationConfig::nf4().with_blocksize(blocks_of(32)).with_skip_modules([".*experts"]);
    check_all(&checkpoints(), |name| {
        let model = quantized(&checkpoint(name), &config);
        let parent = tempfile::tempdir().unwrap();
        let copy = parent.path().join("copy");
        let report = model.save_pretrained(&copy, &SaveOptions::default()).map_err(|error| message(&error))?;
        let again = load(&copy).map_err(|error| message(&error))?;
        let (before, after) = (weights(&model), weights(&again));
        if before.is_empty() || before != after {
            return Err(format!("{} weights became {} or others", before.len(), after.len()));
        }
        if !report.warnings.is_empty() || !again.report().unwrap().unexpected.is_empty() {
            return Err(format!("{:?}, {:?}", report.warnings, again.report().unwrap().unexpected));
        }
        let tokens = Reference::read(name).tokens;
        let same = logits(&again, &tokens) == logits(&model, &tokens) && again.tied() == model.tied();
        if same { Ok(()) } else { Err("logits or ties differ".to_owned()) }
    });
}

#[test]
fn the_files_are_those_of_quantising_on_disk() {
    // Whole, transposed, by head, in rows, of a mixture.
    for (name, config) in [
        ("llama", QuantizationConfig::nf4()),
        ("llama-tied", QuantizationConfig::fp4().with_blocksize(blocks_of(32))),
        ("gpt2", QuantizationConfig::nf4()),
        ("gpt_neox", QuantizationConfig::nf4().with_blocksize(blocks_of(128))),
        ("phi3", QuantizationConfig::fp4()),
        ("starcoder2", QuantizationConfig::nf4()),
    ] {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("quantised");
        AutoModelForCausalLM::from_pretrained(checkpoint(name).to_str().unwrap())
            .quantize_checkpoint(&out, &config, &RequantizeOptions::default())
            .unwrap();
        let expected = Files::read(&out);
        let (_, found, report) = saved(&quantized(&checkpoint(name), &config), &SaveOptions::default());
        assert_eq!(found.tensors.keys().collect::<Vec<_>>(), expected.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, expected) in &expected.tensors {
            assert!(found.tensors[tensor] == *expected, "{tensor} of {name}");
        }
        assert_eq!(found.declared(), expected.declared(), "{name}");
        assert_eq!(report.tensors, expected.tensors.len());
    }
}

#[test]
fn checkpoints_of_bitsandbytes_are_saved_as_they_were() {
    for name in ["llama-nf4", "llama-fp4", "gpt2-nf4", "llama-nf4-double"] {
        let directory = bitsandbytes(name);
        let (model, original) = (load(&directory).unwrap(), Files::read(&directory));
        let (again, copy, report) = saved(&model, &SaveOptions::default());
        let tokens = Reference::in_directory(&directory).tokens;
        assert_eq!(logits(&again, &tokens), logits(&model, &tokens), "{name}");
        assert_eq!(weights(&again), weights(&model), "{name}");
        if name != "llama-nf4-double" {
            assert!(copy.tensors == original.tensors, "{name}");
            assert_eq!(copy.declared(), original.declared());
            assert!(report.warnings.is_empty(), "{:?}", report.warnings);
            continue;
        }
        // Scales in 8 bits were decoded: the files have them in float32, and say so.
        let parameter = "model.layers.0.self_attn.q_proj.weight";
        let (before, after) = (original.parameter(parameter), copy.parameter(parameter));
        assert_eq!(after.packed(), before.packed());
        assert_eq!(after.absmax(), &Absmax::Plain(before.scales()));
        let mut expected = original.declared().clone();
        expected["bnb_4bit_use_double_quant"] = json!(false);
        assert_eq!(copy.declared(), &expected);
        assert_eq!(report.warnings.len(), 1);
        assert_says(&report.warnings[0], &["8 bits", "float32"]);
    }
}

#[test]
fn the_dtype_asked_for_is_that_of_dense_weights() {
    let model = AutoModelForCausalLM::from_pretrained(checkpoint("llama-bf16").to_str().unwrap())
        .quantize(QuantizationConfig::nf4())
        .dtype(Dtype::Float32)
        .load()
        .unwrap();
    let mut options = SaveOptions::default();
    for (dtype, stored, name) in [
        (None, safetensors::Dtype::F32, "float32"),
        (Some(Dtype::BFloat16), safetensors::Dtype::BF16, "bfloat16"),
        (Some(Dtype::Float16), safetensors::Dtype::F16, "float16"),
    ] {
        options.dtype = dtype.and_then(Dtype::float);
        let (again, files, _) = saved(&model, &options);
        assert_eq!(files.tensors["model.embed_tokens.weight"].0, stored);
        assert_eq!(weights(&again), weights(&model), "codes, scales and the dtype that they stand for stay");
        assert_eq!(files.declared()["bnb_4bit_compute_dtype"], name);
        let declared = files.config.get("dtype").or(files.config.get("torch_dtype"));
        assert_eq!(declared.unwrap(), name);
    }
}

#[test]
fn modules_that_are_dense_are_named() {
    let config = QuantizationConfig::nf4().with_skip_modules(["q_proj", "model.layers.1.mlp"]);
    let (again, files, _) = saved(&quantized(&checkpoint("llama"), &config), &SaveOptions::default());
    let listed = files.declared()["llm_int8_skip_modules"].as_array().unwrap();
    let listed: Vec<&str> = listed.iter().map(|entry| entry.as_str().unwrap()).collect();
    assert_eq!(listed[..2], ["lm_head", "self_attn.q_proj"]);
    let means = QuantizationConfig::nf4().with_skip_modules(listed.clone());
    let quantized = weights(&again);
    assert!(quantized.keys().all(|path| !means.skips(path.strip_suffix(".weight").unwrap())), "{listed:?}");
    let dense = ["layers.0.self_attn.q_proj", "layers.1.mlp.up_proj", "layers.1.mlp.down_proj"];
    for module in dense.map(|module| format!("model.{module}")) {
        assert!(means.skips(&module) && !quantized.contains_key(&format!("{module}.weight")), "{module}: {listed:?}");
    }
}

#[test]
fn a_dense_model_declares_no_quantisation() {
    let (_, files, _) = saved(&load(&checkpoint("llama")).unwrap(), &SaveOptions::default());
    assert!(files.config.get("quantization_config").is_none());
    assert!(files.tensors.values().all(|(dtype, _, _)| *dtype == safetensors::Dtype::F32));
}

#[test]
fn what_transformers_could_not_read_is_refused() {
    let nf4 = QuantizationConfig::nf4;
    for (name, config, parts) in [
        ("mixtral", nf4(), ["layers.0.mlp.experts.0.gate_proj.weight", "transformers joins experts"]),
        ("qwen3_moe", nf4(), ["layers.0.mlp.experts.0.gate_proj.weight", "transformers joins experts"]),
    ] {
        let model = quantized(&checkpoint(name), &config);
        let parent = tempfile::tempdir().unwrap();
        let error = model.save_pretrained(&parent.path().join("copy"), &SaveOptions::default()).unwrap_err();
        let said = message(&error);
        assert_says(&said, &parts);
        assert_says(&said, &["automodel quantize", "skip"]);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

/// A tensor that cannot be quantised as a whole, as transformers does, stays dense, here and in files.
#[test]
fn fused_projections_that_cannot_be_cut_are_dense_everywhere() {
    let nf4 = QuantizationConfig::nf4;
    for (name, config, dense) in [
        ("phi3", nf4().with_blocksize(blocks_of(4096)), "self_attn.q_proj"),
        ("gpt_neox", nf4().with_blocksize(blocks_of(4096)), "self_attn.q_proj"),
        ("phi3", nf4().with_skip_modules(["k_proj"]), "self_attn.v_proj"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (saved, converted) = (directory.path().join("saved"), directory.path().join("converted"));
        let model = quantized(&checkpoint(name), &config);
        let warnings = model.report().unwrap().warnings.join("\n");
        assert_says(&warnings, &["stay dense", "cannot be quantised as a whole"]);
        model.save_pretrained(&saved, &SaveOptions::default()).unwrap();
        let report = AutoModelForCausalLM::from_pretrained(checkpoint(name).to_str().unwrap())
            .quantize_checkpoint(&converted, &config, &RequantizeOptions::default())
            .unwrap();
        assert!(report.dense.iter().any(|matrix| matrix.tensor.contains("qkv") || matrix.tensor.contains("query_key")));
        let tokens = Reference::read(name).tokens;
        for copy in [&saved, &converted] {
            let again = load(copy).unwrap();
            assert!(!weights(&again).is_empty());
            assert!(!weights(&again).keys().any(|path| path.contains(dense)), "{name}");
            assert_eq!(weights(&again), weights(&model), "{name}");
            assert_eq!(logits(&again, &tokens), logits(&model, &tokens), "{name}");
        }
        let (saved, converted) = (Files::read(&saved), Files::read(&converted));
        assert!(saved.tensors == converted.tensors, "{name}");
    }
}

#[test]
fn the_text_model_of_a_larger_one_is_saved_by_itself_before_it_is_quantised_on_disk() {
    let parent = tempfile::tempdir().unwrap();
    let (out, text_model) = (parent.path().join("out"), parent.path().join("text"));
    let config = automodel::loader::QuantizationConfig::nf4();
    let quantize = |source: &std::path::Path| {
        automodel::AutoModelForCausalLM::from_pretrained(source.to_str().unwrap()).quantize_checkpoint(
            &out,
            &config,
            &automodel::loader::RequantizeOptions::default(),
        )
    };
    let source = checkpoint("smolvlm");
    let error = quantize(&source).unwrap_err().to_string();
    assert!(error.contains("smolvlm") && error.contains("save the text model"), "{error}");
    assert!(!out.exists());
    let model = automodel::AutoModelForCausalLM::from_pretrained(source.to_str().unwrap()).load().unwrap();
    model.save_pretrained(&text_model, &Default::default()).unwrap();
    quantize(&text_model).unwrap();
    automodel::AutoModelForCausalLM::from_pretrained(out.to_str().unwrap()).load().unwrap();
}
