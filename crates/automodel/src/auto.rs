//! From a name to a running model: the calls of the other crates, in order.

use crate::forecast::packed_experts_bytes;
use crate::variants::Planner;
use crate::{
    AutoModel, AutoModelError, DeviceMemory, Dtype, ForecastOptions, FromConfig, MemoryForecast, Prepared, Summary,
    assign, demo, options::Options, refusal,
};
use automodel_attention::{SdpaConstraints, SdpaMethod};
use automodel_config::{GenerationConfig, Overrides, RawConfig};
use automodel_generation::{GenerationError, TextTokenizer};
use automodel_hub::{Checkpoint, HubError, HubOptions};
use automodel_loader::{
    CheckpointFiles, DtypePolicy, LoadPlan, PlanRow, Progress, QuantizationConfig, RequantizeOptions, RequantizeReport,
    SaveFiles, execute,
};
use automodel_models::ModelFactory;
use automodel_quant::Precision;
use automodel_registry::{Registry, RegistryError};
use burn::tensor::{DType, Device, FloatDType};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Causal language models by name, as `AutoModelForCausalLM` of transformers.
#[derive(Clone, Copy, Debug)]
pub struct AutoModelForCausalLM;

impl AutoModelForCausalLM {
    /// A model from a checkpoint: a directory, a repo id of the Hugging Face Hub, or [`DEMO`](crate::DEMO), which is part of the
    /// program. What the local Hugging Face cache lacks of a repo is downloaded.
    ///
    /// ```
    /// use automodel::AutoModelForCausalLM;
    ///
    /// let model = AutoModelForCausalLM::from_pretrained("demo").load()?;
    /// assert_eq!(model.generate_text("27+48=")?, "75");
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    pub fn from_pretrained(model: impl Into<String>) -> FromPretrained {
        FromPretrained {
            model: model.into(),
            config: None,
            options: Options::default(),
            progress: None,
            headers: Mutex::default(),
        }
    }

    /// A model with random weights from a config alone.
    ///
    /// ```
    /// use automodel::{AutoModelForCausalLM, config::RawConfig};
    ///
    /// let config = RawConfig::from_str(
    ///     r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32,
    ///         "num_hidden_layers": 2, "num_attention_heads": 4}"#,
    /// )?;
    /// let model = AutoModelForCausalLM::from_config(config).seed(7).build()?;
    /// assert_eq!(model.logits(&[1, 2, 3])?.dims(), [3, 32]);
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    pub fn from_config(config: RawConfig) -> FromConfig {
        FromConfig::new(config)
    }
}

/// Called by the thread that loads. In a mutex, so that a builder with a callback that is not `Sync` can still be shared.
type ProgressCallback = Mutex<Box<dyn FnMut(Progress<'_>) + Send>>;

/// A builder; [`load`](Self::load) does the work.
pub struct FromPretrained {
    model: String,
    config: Option<RawConfig>,
    options: Options,
    progress: Option<ProgressCallback>,
    /// The result of [`resolve_headers`](Self::resolve_headers), so that `inspect` and `load` request headers from the Hub once.
    headers: Mutex<Option<(HubOptions, Checkpoint)>>,
}

impl FromPretrained {
    /// Where the model runs; the CPU if not said.
    pub fn device(mut self, device: Device) -> Self {
        self.options.load.device = device;
        self
    }

    /// Branch, tag or commit of a repo.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.options.hub.revision = Some(revision.into());
        self
    }

    /// Directory of the Hugging Face cache, instead of the environment's.
    pub fn cache_dir(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.options.hub.cache_dir = Some(directory.into());
        self
    }

    /// The folder of the repo or directory that holds the checkpoint.
    pub fn subfolder(mut self, folder: impl Into<String>) -> Self {
        self.options.hub.subfolder = Some(folder.into());
        self
    }

    /// Uses only the cache, as the variable `HF_HUB_OFFLINE` requests too.
    pub fn offline(mut self, offline: bool) -> Self {
        self.options.hub.offline = offline;
        self
    }

    /// Everything about how a repo is found and downloaded: token, server, lock file, retries, progress. Revision, cache directory
    /// and folder that `options` leaves open stay as they were said before, and offline mode stays on;
    /// [`offline(false)`](Self::offline) ends it.
    pub fn hub_options(mut self, options: HubOptions) -> Self {
        self.options.set_hub(options);
        self
    }

    /// The dtype of the weights.
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.options.load.dtype = dtype.policy();
        self
    }

    /// Uses this config as it is, instead of the checkpoint's config.json, which is then not read.
    pub fn config(mut self, config: RawConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Changes a value of the config: a key or dotted path; objects merge into what is there.
    pub fn config_override(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.overrides = self.options.overrides.set(key, value);
        self
    }

    /// Changes several values of the config.
    pub fn config_overrides(mut self, overrides: &Overrides) -> Self {
        self.options.overrides = self.options.overrides.merged_with(overrides);
        self
    }

    /// An option by name: those that the implementation declares go to it, those that the config knows to the config, and
    /// any other is an error.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.named.insert(name.to_owned(), value.into());
        self
    }

    /// Lets the config have a key that nothing reads.
    pub fn allow_unread_key(mut self, key: impl Into<String>) -> Self {
        self.options.allowed_unread_keys.push(key.into());
        self
    }

    /// Attention backends in order of preference, by name or value.
    pub fn attention<M: Into<SdpaMethod>>(mut self, methods: impl IntoIterator<Item = M>) -> Self {
        self.options.attention = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// What the run demands of attention, where no backend is named.
    pub fn attention_constraints(mut self, constraints: SdpaConstraints) -> Self {
        self.options.constraints = constraints;
        self
    }

    /// Uses the generic implementation even where a custom one is compatible.
    pub fn force_generic(mut self, force: bool) -> Self {
        self.options.resolve.force_generic = force;
        self
    }

    /// Computes the model as this model type, whatever the config says: a guess, for model types that are not supported and whose
    /// mathematics may be that of a supported family. The config's keys are read, or refused, as for that family, its tensors
    /// must be those of that family, and every report has a warning.
    pub fn assume_model_type(mut self, model_type: impl Into<String>) -> Self {
        self.options.resolve.assume_model_type = Some(model_type.into());
        self
    }

    /// Families and implementations to choose from, instead of the built-in ones.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.options.registry = registry;
        self
    }

    /// Builds the custom implementation `name`.
    pub fn factory(mut self, name: &str, factory: ModelFactory) -> Self {
        self.options.factories.insert(name, factory);
        self
    }

    /// Quantises projections to 4 bits while they are loaded: the full-precision model is never in memory.
    pub fn quantize(mut self, config: QuantizationConfig) -> Self {
        self.options.load.quantization = Some(config);
        self
    }

    /// How products of few tokens with 4-bit weights are computed. [`Precision::Fast`] rounds activations of one or two tokens to 15
    /// bits on processors with AVX2 or AVX-512, and the values of codes to the activations' dtype on tensor cores; generic implementation
    /// only.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.options.precision = precision;
        self
    }

    /// Looks for NaN and infinity in all weights, which reads them all.
    pub fn check_finite(mut self, check: bool) -> Self {
        self.options.load.check_finite = check;
        self
    }

    /// Whether weights may stay in the mapped file (the default). Turn it off for files that are edited in place: what is
    /// mapped then is an error, see [`AutoModel::check_files`].
    pub fn zero_copy(mut self, zero_copy: bool) -> Self {
        self.options.load.zero_copy = zero_copy;
        self
    }

    /// Bound in bytes on what is read but not yet on the device.
    pub fn max_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.options.load.max_bytes_in_flight = bytes;
        self
    }

    /// Whether to refuse, before a weight is read, what surely does not fit into the memory that is available (the default).
    /// Swap space is not counted. See [`DeviceMemory::of`] for where the figure comes from; where there is none, nothing is
    /// refused.
    pub fn check_memory(mut self, check: bool) -> Self {
        self.options.check_memory = check;
        self
    }

    /// Assumes this many bytes of memory instead of asking the device.
    pub fn assume_memory(mut self, bytes: u64) -> Self {
        self.options.assumed_memory = Some(DeviceMemory::given(bytes));
        self
    }

    /// Calls `progress` after each parameter.
    pub fn progress(mut self, progress: impl FnMut(Progress<'_>) + Send + 'static) -> Self {
        self.progress = Some(Mutex::new(Box::new(progress)));
        self
    }

    /// What would be loaded and why, from config and headers alone. Of a repo that is not in the cache, no more than these are
    /// read.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for what only the weights themselves can show.
    pub fn inspect(&self) -> Result<Summary, AutoModelError> {
        let (checkpoint, prepared, files) = self.prepare(self.resolve_headers()?)?;
        let plan = self.plan(&prepared, &files)?;
        Ok(Summary::new(&checkpoint, prepared, &files, plan))
    }

    /// What loading and running needs of memory, in float and in 4 bits and for several lengths of context, and whether that
    /// fits; from config and headers alone.
    ///
    /// ```
    /// use automodel::{AutoModelForCausalLM, Fit, ForecastOptions};
    ///
    /// let demo = AutoModelForCausalLM::from_pretrained("demo").assume_memory(1 << 20);
    /// let forecast = demo.forecast(&ForecastOptions::default().with_contexts([64]))?;
    /// let float32 = &forecast.loads[0];
    /// assert_eq!((float32.weight_bytes, float32.contexts[0].cache_bytes), (1_781_248, 98_304));
    /// // The weights stay in the file, and the system can evict them.
    /// assert!(matches!(float32.contexts[0].fit, Fit::Evicting { excess_bytes: 830_976 }));
    /// assert!(forecast.loads.iter().any(|load| load.name == "nf4" && matches!(load.loading, Fit::Fits { .. })));
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub fn forecast(&self, request: &ForecastOptions) -> Result<MemoryForecast, AutoModelError> {
        let (_, prepared, files) = self.prepare(self.resolve_headers()?)?;
        MemoryForecast::new(&files, &prepared, &self.options, request)
    }

    /// Resolves, plans, loads.
    ///
    /// # Errors
    /// What any stage finds wrong: the checkpoint cannot be found, the config makes no sense or requests something that is not
    /// supported, the files do not fit the model or are damaged, the weights do not fit into memory.
    pub fn load(mut self) -> Result<AutoModel, AutoModelError> {
        let (checkpoint, prepared, files) = self.prepare(self.download(self.options.check_memory)?)?;
        // A vocabulary of some 100,000 tokens takes longer to parse than a model that stays in its files takes to load.
        let tokenizer = std::thread::spawn({
            let checkpoint = checkpoint.clone();
            move || tokenizer(&checkpoint)
        });
        // Before the module: sizes of the config that the files contradict cost nothing.
        let plan = self.plan(&prepared, &files)?;
        Planner { files: &files, prepared: &prepared, options: &self.options }.refuse_what_cannot_fit(&plan)?;
        let mut model = prepared.skeleton(&self.options)?;
        let implementation = prepared.implementation();
        assign::check_plan(model.as_mut(), implementation, &plan)?;
        let mut silent = |_: Progress<'_>| {};
        let progress: &mut dyn FnMut(Progress<'_>) = match &mut self.progress {
            Some(progress) => progress.get_mut().unwrap_or_else(PoisonError::into_inner),
            None => &mut silent,
        };
        let (loaded, report) = execute(&plan, &files, &self.options.load.device, progress)?;
        let (tied, mapped) = (loaded.tied().to_vec(), loaded.mapped_files().clone());
        assign::fill(model.as_mut(), implementation, loaded)?;
        if self.has_room_to_pack_experts(&plan) {
            model.pack_experts();
        }
        Ok(AutoModel {
            model,
            tokenizer: tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
            generation_config: generation_config(&checkpoint, &prepared)?,
            tied,
            widened: widened(&plan),
            checkpoint: Some(checkpoint),
            prepared,
            report: Some(report),
            mapped,
        })
    }

    /// The plan, with a warning of what the caller assumes.
    fn plan(&self, prepared: &Prepared, files: &CheckpointFiles) -> Result<LoadPlan, AutoModelError> {
        let mut plan = LoadPlan::new(files, &prepared.lowered.weights, &prepared.load_options(&self.options))?;
        plan.warnings.splice(0..0, prepared.resolution.assumption());
        Ok(plan)
    }

    /// Whether the device has memory for the experts of a layer twice while they are packed.
    fn has_room_to_pack_experts(&self, plan: &LoadPlan) -> bool {
        let needed = packed_experts_bytes(plan);
        let has_room = needed == 0
            || self.options.load.device == Device::flex()
            || self.options.device_memory().is_none_or(|memory| needed <= memory.available_bytes);
        if !has_room {
            tracing::warn!(needed, "no memory to pack the experts: the host routes tokens, which is slower");
        }
        has_room
    }

    /// Writes the checkpoint to `out` with its projections in 4 bits, in the format of bitsandbytes, tensor by tensor: no model
    /// is built. See [`automodel_loader::quantize_checkpoint`] for what is quantised and what an interrupted run leaves.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect), and what keeps the output from being written.
    pub fn quantize_checkpoint(
        &self,
        out: &Path,
        config: &QuantizationConfig,
        options: &RequantizeOptions,
    ) -> Result<RequantizeReport, AutoModelError> {
        // Before anything is downloaded. What is wrong with the source shows when that is tried.
        let source = self.resolve_headers().map(|checkpoint| checkpoint.dir).unwrap_or_default();
        automodel_loader::check_output(out, options.overwrite, &source)?;
        let (checkpoint, prepared, files) = self.prepare(self.download(false)?)?;
        if let Some(wrapper) = prepared.config.wrapper() {
            let wrapper = wrapper.model_type.unwrap_or("multimodal model").to_owned();
            return Err(AutoModelError::QuantizeWrapped { wrapper });
        }
        let beside = SaveFiles {
            config: Some(prepared.config.to_json()),
            generation_config: None,
            copies: checkpoint.auxiliary_files()?,
        };
        let map = &prepared.lowered.weights;
        let mut report =
            automodel_loader::quantize_checkpoint(&files, map, config, out, options, &beside, &mut |_| {})?;
        report.warnings.splice(0..0, prepared.resolution.assumption());
        Ok(report)
    }

    /// All files. What config and headers show to be impossible is refused before any weight is downloaded.
    fn download(&self, check_memory: bool) -> Result<Checkpoint, AutoModelError> {
        use HubError::{CorruptDownload, InvalidHeader, InvalidResponse};
        match self.resolve_headers() {
            Ok(checkpoint) if !checkpoint.headers_only => return Ok(checkpoint),
            Ok(checkpoint) => {
                let (_, prepared, files) = self.prepare(checkpoint)?;
                let plan = self.plan(&prepared, &files)?;
                if check_memory {
                    let planner = Planner { files: &files, prepared: &prepared, options: &self.options };
                    planner.refuse_what_cannot_fit(&plan)?;
                }
            }
            // A server that gives no headers may still give whole files.
            Err(AutoModelError::Hub(InvalidResponse { .. } | InvalidHeader { .. } | CorruptDownload { .. })) => {}
            Err(error) => return Err(error),
        }
        demo::resolve(&self.model, &self.options.hub)
    }

    /// Config and headers, without weights if those are elsewhere.
    fn resolve_headers(&self) -> Result<Checkpoint, AutoModelError> {
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        match &*headers {
            Some((options, checkpoint)) if *options == self.options.hub => Ok(checkpoint.clone()),
            _ => {
                let checkpoint = demo::resolve_headers(&self.model, &self.options.hub)?;
                *headers = Some((self.options.hub.clone(), checkpoint.clone()));
                Ok(checkpoint)
            }
        }
    }

    fn prepare(&self, checkpoint: Checkpoint) -> Result<(Checkpoint, Prepared, CheckpointFiles), AutoModelError> {
        let (model, config, options) = (&self.model, &self.config, &self.options);
        let prepare = |tensors: usize| {
            let raw = match config {
                Some(config) => config.clone(),
                None => RawConfig::from_file(&checkpoint.config_file())?,
            };
            let prepared = Prepared::new(raw.clone(), options, tensors).map_err(|error| error.of_checkpoint(model))?;
            prepared.refuse_flipped_tie(raw, options)?;
            Ok::<_, AutoModelError>(prepared)
        };
        // Neither needs the other, and for thousands of tensors they take about as long.
        let (prepared, files) = std::thread::scope(|scope| {
            let files = scope.spawn(|| CheckpointFiles::open(&checkpoint.dir));
            (prepare(0), files.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        match prepared {
            // Perhaps the files have that many.
            Err(AutoModelError::Registry(RegistryError::TooManyParameters { .. })) => {
                let files = files?;
                let prepared = prepare(files.tensors().len())?;
                Ok((checkpoint, prepared, files))
            }
            Err(AutoModelError::Registry(error @ RegistryError::UnsupportedArchitecture { .. })) => {
                let raw = match config {
                    Some(config) => config.clone(),
                    None => RawConfig::from_file(&checkpoint.config_file())?,
                };
                Err(refusal::with_similar(error, &raw, files.ok().as_ref(), options).into())
            }
            prepared => Ok((checkpoint, prepared?, files?)),
        }
    }
}

impl std::fmt::Debug for FromPretrained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromPretrained")
            .field("model", &self.model)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Parameters whose dtype the device chose, not the caller: they are saved in that of their file.
fn widened(plan: &LoadPlan) -> HashMap<String, DType> {
    let of_files =
        |row: &&PlanRow| plan.dtype == DtypePolicy::Auto && row.encoding().is_none() && row.stored().bits() == 16;
    let rows = plan.rows.iter().filter(of_files).filter(|row| row.target() == FloatDType::F32);
    rows.filter_map(|row| Some((row.parameter().to_owned(), row.stored().float()?.into()))).collect()
}

/// The tokenizer, if the checkpoint has one that can be read.
fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<TextTokenizer>, AutoModelError> {
    match TextTokenizer::from_dir(&checkpoint.dir) {
        Ok(tokenizer) => Ok(Some(tokenizer)),
        // Token ids need no tokenizer; a prompt of text is refused later.
        Err(GenerationError::MissingTokenizerFile { .. } | GenerationError::UnconvertedTokenizer { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// generation_config.json, or what config.json says of generation where there is none, and the caller's overrides.
fn generation_config(checkpoint: &Checkpoint, prepared: &Prepared) -> Result<GenerationConfig, AutoModelError> {
    let suggested = match checkpoint.file("generation_config.json") {
        Some(path) => GenerationConfig::from_file(&path)?,
        None => GenerationConfig::from_config_file(&prepared.config),
    };
    Ok(suggested.with_overrides_of(&prepared.config))
}
