//! From a model back to a checkpoint.

use crate::{AutoModel, AutoModelError};
use automodel_hub::Checkpoint;
use automodel_loader::{CheckpointWriter, SaveFiles, SaveOptions, SaveReport};
use burn::tensor::{DType, FloatDType};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Files of a checkpoint, besides config and weights, that a saved copy needs too.
const CARRIED: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

impl AutoModel {
    /// Writes the model to `directory` in Hugging Face layout: config with overrides applied, weights in the layout of their
    /// family, tokenizer and generation files. transformers reads it back. The directory appears at the end, whole.
    ///
    /// Weights are written in the dtype they have in memory unless `options` says otherwise: a bfloat16 checkpoint that was
    /// loaded as float32 is saved as float32.
    ///
    /// # Errors
    /// An output directory that exists, and what keeps files from being written.
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
        if self.quantized {
            return Err(AutoModelError::QuantizedSave);
        }
        let mut writer = CheckpointWriter::new(directory, &self.prepared.lowered.weights, options)?;
        let mut dtype = None;
        let mut outcome = Ok(());
        self.model.read_parameters(&mut |path, value| {
            if outcome.is_err() {
                return;
            }
            dtype = dtype.or(Some(value.dtype()));
            outcome = match value.into_data() {
                Some(data) => writer.write(path, &data).map_err(AutoModelError::from),
                None => Err(AutoModelError::UnreadableParameter { parameter: path.to_owned() }),
            };
        });
        outcome?;
        let saved = options.dtype.map(DType::from).or(dtype);
        Ok(writer.finish(&SaveFiles {
            config: Some(self.config_to_save(saved)),
            generation_config: None,
            copies: self.carried(),
        })?)
    }

    /// The effective config, with the dtype that the weights are saved in.
    fn config_to_save(&self, dtype: Option<DType>) -> Value {
        let mut config = self.prepared.config.to_json();
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

    fn carried(&self) -> Vec<PathBuf> {
        self.checkpoint.as_ref().map(carried).unwrap_or_default()
    }
}

/// Files of a checkpoint that go with its weights.
pub(crate) fn carried(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    CARRIED.iter().filter_map(|name| checkpoint.file(name)).collect()
}
