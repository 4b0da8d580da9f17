//! From a model back to a checkpoint.

use crate::{AutoModel, AutoModelError};
use automodel_loader::{CheckpointWriter, SaveFiles, SaveOptions, SaveReport};
use automodel_quant::WeightDtype;
use burn::tensor::{DType, FloatDType};
use serde_json::Value;
use std::path::Path;

const FLOAT32_SCALES: &str = "scales that were read in 8 bits or were to be kept so (double quantisation) are written in float32, as the \
                              model has them in memory";

impl AutoModel {
    /// Writes the model to `directory` in Hugging Face layout: config with overrides applied, weights in the layout of their
    /// family, tokenizer, chat template, processor and generation files. transformers reads it back. Code (`.py`) is not copied: the
    /// families here are those that transformers has itself. A text model that transformers has inside a larger one alone (Qwen2-VL's) is
    /// written under the model type that computes the same. The directory appears at the end, whole; a checkpoint that is
    /// replaced, which may be the one that the model was loaded from, stays until then.
    ///
    /// Values beyond the range of the dtype in the files, 65504 in float16, become infinite, as torch makes them; the report
    /// counts them and says of which parameters they are.
    ///
    /// Weights are written in the dtype they have in memory unless `options` says otherwise; those that were only widened
    /// because the CPU computes in float32, norms of a bfloat16 checkpoint for instance, get the dtype of their file again.
    ///
    /// # Weights in 4 bits
    /// They are written as they are in memory, in the format of bitsandbytes, and config.json gets the `quantization_config` that
    /// `automodel quantize` would write; loaded again, codes and scales are the same bit for bit. The dtype of `options` is that of
    /// the other weights. A model on the CPU has its scales in float32: those that were in 8 bits in the files (double
    /// quantisation) were decoded when it was loaded and are written as what they stood for. GPUs keep them in 8 bits.
    ///
    /// What transformers could not read is an error, and nothing is written: experts of a mixture in 4 bits, which it joins
    /// into one parameter of three axes; and parts of a fused projection that are not whole blocks of it, that are not all in
    /// 4 bits or were quantised in different ways. `automodel quantize` does these checkpoints from their files, or load the
    /// model with those modules skipped.
    ///
    /// # Errors
    /// An output directory that exists, 4-bit weights that cannot be saved, and what keeps files from being written.
    ///
    /// ```
    /// use automodel::{AutoModelForCausalLM, loader::SaveOptions};
    ///
    /// let model = AutoModelForCausalLM::from_pretrained("demo").load()?;
    /// let parent = tempfile::tempdir().expect("a temporary directory");
    /// let copy = parent.path().join("copy");
    /// model.save_pretrained(&copy, &SaveOptions::default())?;
    /// let again = AutoModelForCausalLM::from_pretrained(copy.to_string_lossy()).load()?;
    /// assert_eq!(again.generate_text("3+4=")?, "7");
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    pub fn save_pretrained(&self, directory: &Path, options: &SaveOptions) -> Result<SaveReport, AutoModelError> {
        self.check_files()?;
        let mut options = options.clone();
        let mut decoded = false;
        self.model.read_quantized(&mut |_, layer| {
            options.quantized = Some(layer.scheme());
            decoded |= layer.scale_codes.is_none();
        });
        let spec = self.prepared.lowered.spec.as_ref();
        let alone = spec.and_then(|spec| automodel_registry::standalone(&self.prepared.config, spec));
        let weights = alone.as_ref().map_or(&self.prepared.lowered.weights, |(_, weights)| weights);
        let mut writer = CheckpointWriter::new(directory, weights, &options)?;
        // First, because only these can be refused.
        self.write_quantized(&mut writer)?;
        let dtype = self.write_dense(&mut writer)?;
        let saved = options.dtype.map(DType::from).or(dtype);
        let config = alone.map_or_else(|| self.prepared.config.to_json(), |(config, _)| config);
        let mut config = with_dtype(config, saved);
        declare_quantization(&mut config, writer.quantization_config(compute_dtype(saved))?);
        let copies = self.checkpoint.as_ref().map(|checkpoint| checkpoint.auxiliary_files()).transpose()?;
        let files = SaveFiles { config: Some(config), generation_config: None, copies: copies.unwrap_or_default() };
        // Whoever changed a file meanwhile may have had a mixture of old and new weights written.
        let mut report = writer.finish_if(&files, || self.mapped.check())?;
        report.warnings.splice(0..0, self.prepared.resolution.assumption());
        let encodings = self.report.iter().flat_map(|report| &report.encodings);
        if decoded && encodings.into_iter().any(|bytes| bytes.encoding.scheme.is_joint()) {
            report.warnings.push(FLOAT32_SCALES.to_owned());
        }
        Ok(report)
    }

    fn write_quantized(&self, writer: &mut CheckpointWriter) -> Result<(), AutoModelError> {
        let mut outcome = Ok(());
        self.model.read_quantized(&mut |path, layer| {
            if outcome.is_err() {
                return;
            }
            outcome = match layer.to_weight() {
                Some(weight) => writer.write_quantized(path, &weight).map_err(AutoModelError::from),
                None => Err(AutoModelError::UnreadableParameter { parameter: path.to_owned() }),
            };
        });
        outcome
    }

    /// Returns the dtype of the first parameter.
    fn write_dense(&self, writer: &mut CheckpointWriter) -> Result<Option<DType>, AutoModelError> {
        let mut dtype = None;
        let mut outcome = Ok(());
        self.model.read_parameters(&mut |path, value| {
            if outcome.is_err() {
                return;
            }
            let stored = self.widened.get(path).copied().unwrap_or(value.dtype());
            dtype = dtype.or(Some(stored));
            outcome = match value.into_data() {
                Some(data) => writer.write(path, &data.convert_dtype(stored)).map_err(AutoModelError::from),
                None => Err(AutoModelError::UnreadableParameter { parameter: path.to_owned() }),
            };
        });
        outcome.map(|()| dtype)
    }
}

/// A config with the dtype that the weights are saved in.
fn with_dtype(mut config: Value, dtype: Option<DType>) -> Value {
    let name = match dtype.map(FloatDType::from) {
        Some(FloatDType::F64) => "float64",
        Some(FloatDType::F16) => "float16",
        Some(FloatDType::BF16) => "bfloat16",
        Some(_) => "float32",
        None => return config,
    };
    if let Some(object) = config.as_object_mut() {
        let old_style = object.contains_key("torch_dtype") && !object.contains_key("dtype");
        let key = if old_style { "torch_dtype" } else { "dtype" };
        object.insert(key.to_owned(), Value::from(name));
    }
    config
}

/// Says in a config how its weights are quantised, or that they are not.
fn declare_quantization(config: &mut Value, declaration: Option<Value>) {
    let Some(object) = config.as_object_mut() else { return };
    match declaration {
        Some(declaration) => object.insert("quantization_config".to_owned(), declaration),
        None => object.remove("quantization_config"),
    };
}

/// The dtype in which transformers is to multiply: that of the other weights.
fn compute_dtype(saved: Option<DType>) -> WeightDtype {
    match saved.map(FloatDType::from) {
        Some(FloatDType::F16) => WeightDtype::Float16,
        Some(FloatDType::BF16) => WeightDtype::BFloat16,
        _ => WeightDtype::Float32,
    }
}
