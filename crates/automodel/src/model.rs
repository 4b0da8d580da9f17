//! A model that is ready to run.

use crate::{AutoModelError, Prepared};
use automodel_config::GenerationConfig;
use automodel_generation::{
    ChatMessage, ChatOptions, GenerationEvent, GenerationOptions, GenerationReport, Generator, Prompt, TextTokenizer,
};
use automodel_hub::Checkpoint;
use automodel_loader::{LoadReport, MappedFiles};
use automodel_models::{CacheOptions, CausalLm, LogitsFor, TokenBatch, parameters::ParameterTensor};
use burn::tensor::{DType, Tensor};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// A model that is ready to run, with its tokenizer and what is known of how it came to be.
#[derive(Debug)]
pub struct AutoModel {
    pub(crate) model: Box<dyn CausalLm>,
    pub(crate) tokenizer: Option<TextTokenizer>,
    pub(crate) generation_config: GenerationConfig,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) prepared: Prepared,
    pub(crate) report: Option<LoadReport>,
    pub(crate) tied: Vec<(String, String)>,
    /// Parameters that the files have in half precision and the model in float32 because that is what it computes in.
    pub(crate) widened: HashMap<String, DType>,
    /// Files that weights stay in.
    pub(crate) mapped: MappedFiles,
}

impl AutoModel {
    /// The model itself.
    pub fn model(&self) -> &dyn CausalLm {
        self.model.as_ref()
    }

    /// The tokenizer, if the checkpoint has one.
    pub fn tokenizer(&self) -> Option<&TextTokenizer> {
        self.tokenizer.as_ref()
    }

    /// What the checkpoint suggests for generation.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation_config
    }

    /// Where it was loaded from; `None` for models made from a config.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Config, choice of implementation and mathematics.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// What happened while it was loaded; `None` for models made from a config.
    pub fn report(&self) -> Option<&LoadReport> {
        self.report.as_ref()
    }

    /// Parameters that share the storage of another: (parameter, the one it shares).
    pub fn tied(&self) -> &[(String, String)] {
        &self.tied
    }

    /// Whether the files that weights stay in are still what they were when they were loaded: on the CPU weights of the right
    /// dtype are not copied but mapped, and a program that edits the file in place would change them, or end this process
    /// by cutting it short. Costs one system call for each shard; [`logits`](Self::logits) and [`generate`](Self::generate)
    /// begin with it. A file that was replaced by renaming another over it, as downloads do, is still there and no error.
    ///
    /// # Errors
    /// [`LoadError::MappedFileChanged`](automodel_loader::LoadError::MappedFileChanged) with the file and what is different.
    pub fn check_files(&self) -> Result<(), AutoModelError> {
        Ok(self.mapped.check()?)
    }

    /// The parameter at `path`, `model.norm.weight` for instance; shares its storage.
    pub fn parameter(&self, path: &str) -> Option<ParameterTensor> {
        let mut found = None;
        self.model.read_parameters(&mut |candidate, value| {
            if candidate == path {
                found = Some(value);
            }
        });
        found
    }

    /// Logits `[length, vocab_size]` in float32 for one sequence of token ids.
    ///
    /// # Errors
    /// No tokens, or tokens outside the vocabulary; a sequence longer than learned positions; files that were changed, see
    /// [`check_files`](Self::check_files).
    pub fn logits(&self, tokens: &[u32]) -> Result<Tensor<2>, AutoModelError> {
        self.check_files()?;
        let batch = TokenBatch::new(&[tokens], self.model.vocab_size())?;
        let mut cache = self.model.new_cache(&CacheOptions::default());
        let logits = self.model.forward(&batch, LogitsFor::All, &mut cache)?;
        Ok(logits.squeeze_dim(0))
    }

    /// Continues `prompts`; `on_event` hears of each token and may break off.
    ///
    /// # Errors
    /// Prompts or options that make no sense for this model; files that were changed, see
    /// [`check_files`](Self::check_files).
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &GenerationOptions,
        on_event: &mut dyn FnMut(GenerationEvent<'_>) -> ControlFlow<()>,
    ) -> Result<GenerationReport, AutoModelError> {
        self.check_files()?;
        let generator = Generator::new(self.model()).with_generation_config(self.generation_config.clone());
        let generator = match &self.tokenizer {
            Some(tokenizer) => generator.with_tokenizer(tokenizer),
            None if prompts.iter().any(|prompt| matches!(prompt, Prompt::Text(_))) => {
                return Err(self.without_tokenizer());
            }
            None => generator,
        };
        Ok(generator.generate(prompts, options, on_event)?)
    }

    /// Why there is no tokenizer: which files were found instead, if any.
    fn without_tokenizer(&self) -> AutoModelError {
        let read = self.checkpoint.as_ref().map(|checkpoint| TextTokenizer::from_dir(&checkpoint.dir));
        read.and_then(Result::err).map_or(AutoModelError::NoTokenizer, AutoModelError::from)
    }

    /// Continues one prompt with the checkpoint's own settings and returns the new text.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and a checkpoint without a tokenizer.
    pub fn generate_text(&self, prompt: &str) -> Result<String, AutoModelError> {
        let options = GenerationOptions::default();
        let report = self.generate(&[prompt.into()], &options, &mut |_| ControlFlow::Continue(()))?;
        Ok(report.texts.into_iter().next().map(|text| text.text).unwrap_or_default())
    }

    /// The prompt that the checkpoint's chat template makes of `messages`.
    ///
    /// # Errors
    /// No tokenizer, no chat template, or a template that fails.
    pub fn chat_prompt(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String, AutoModelError> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| self.without_tokenizer())?;
        Ok(tokenizer.render_chat(messages, options)?)
    }
}
