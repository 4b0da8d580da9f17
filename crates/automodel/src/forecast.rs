//! Whether a model fits into memory, in this encoding and in others, before anything is loaded.

use crate::memory::DeviceMemory;
use crate::variants::{Planner, Variant};
use crate::{AutoModelError, Prepared, cache, options::Options};
use automodel_loader::{CheckpointFiles, DtypePolicy, LoadPlan, QuantizationConfig, TieDecision};
use automodel_registry::spec::ModelSpec;
use burn::tensor::Device;
use serde::Serialize;
use std::collections::BTreeMap;

/// Contexts that are shown unless others are asked for, at most.
const MOST_CONTEXTS: usize = 4;

/// Contexts of `2^k` positions are forecast for these `k`, up to the model's own limit.
const CONTEXT_POWERS: std::ops::RangeInclusive<u32> = 10..=17;

/// More positions than any model has.
const UNBOUNDED: usize = 1 << 40;

/// The request of [`FromPretrained::forecast`](crate::FromPretrained::forecast).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForecastOptions {
    /// Context lengths to forecast; if empty a few powers of two, up to the model's limit.
    pub contexts: Vec<usize>,
    /// Sequences that run at once.
    pub batch_size: usize,
}

impl Default for ForecastOptions {
    fn default() -> Self {
        Self { contexts: Vec::new(), batch_size: 1 }
    }
}

impl ForecastOptions {
    /// With these numbers of positions.
    pub fn with_contexts(mut self, contexts: impl IntoIterator<Item = usize>) -> Self {
        self.contexts = contexts.into_iter().collect();
        self
    }

    /// With `batch_size` sequences at once.
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }
}

/// What a model needs of memory in several encodings, predicted from config and headers.
///
/// Counts weights, the transient memory of loading, and the KV cache. Activations come on top while the model runs,
/// and a growing KV cache has a capacity of up to half as much again.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MemoryForecast {
    /// Memory of the device; `None` if it is not known, and nothing is then said to fit or not to.
    pub memory: Option<DeviceMemory>,
    /// Sequences that run at once.
    pub batch_size: usize,
    /// The model's limit on positions, `max_position_embeddings`.
    pub max_position_embeddings: Option<usize>,
    /// The ways to load it. A checkpoint that is quantised already has one.
    pub loads: Vec<LoadForecast>,
}

/// What one way of loading needs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadForecast {
    /// `float32`, `nf4` or `nf4 double` for instance.
    pub name: String,
    /// Whether it is the one that the options request.
    pub selected: bool,
    /// Which dtype weights get.
    pub dtype: DtypePolicy,
    /// How projections are quantised while they are loaded.
    pub quantization: Option<QuantizationConfig>,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Of these, bytes in 4 bits, scales included.
    pub quantized_bytes: u64,
    /// Of these, bytes in floats.
    pub dense_bytes: u64,
    /// Of all weights, bytes that stay in the mapped files: page cache, which the system may take back and read again.
    pub mapped_bytes: u64,
    /// Of all weights, bytes that are surely copied into memory of the process, which the system cannot take back.
    pub held_bytes: u64,
    /// Highest use of the device's memory while loading: on the CPU as [`LoadPlan::peak_bytes`], on others the weights and what is moved
    /// among them in the end; what the host needs meanwhile is little.
    pub peak_bytes: u64,
    /// Whether loading fits.
    pub loading: Fit,
    /// Whether running fits; empty if only a custom implementation knows what it caches.
    pub contexts: Vec<ContextForecast>,
    /// The longest context that fits with all weights in memory, no longer than the model's limit. `None` if memory or
    /// cache are not known, or if nothing bounds it.
    pub largest_context: Option<usize>,
    /// The longest context that fits if mapped weights may be evicted.
    pub largest_evicting_context: Option<usize>,
}

/// What one way of loading needs at one length of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ContextForecast {
    /// Positions of each sequence.
    pub positions: usize,
    /// Bytes of the KV cache of all sequences.
    pub cache_bytes: u64,
    /// With the weights.
    pub total_bytes: u64,
    /// Whether that fits.
    #[serde(flatten)]
    pub fit: Fit,
}

/// Whether something fits into the memory that is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fit", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fit {
    /// It fits.
    Fits {
        /// What is left.
        spare_bytes: u64,
    },
    /// It fits if the system evicts pages of the files, which are read again when they are needed.
    Evicting {
        /// What does not stay in memory.
        excess_bytes: u64,
    },
    /// It does not fit.
    TooLarge {
        /// By how much, with all mapped pages evicted.
        excess_bytes: u64,
    },
    /// The memory of the device is not known.
    Unknown,
}

impl Fit {
    /// Of `wanted` bytes, `held` cannot be evicted.
    fn of(memory: Option<DeviceMemory>, wanted: u64, held: u64) -> Self {
        let Some(DeviceMemory { available_bytes, .. }) = memory else { return Self::Unknown };
        match (available_bytes.checked_sub(wanted), held.checked_sub(available_bytes)) {
            (Some(spare_bytes), _) => Self::Fits { spare_bytes },
            (None, Some(excess_bytes @ 1..)) => Self::TooLarge { excess_bytes },
            (None, _) => Self::Evicting { excess_bytes: wanted - available_bytes },
        }
    }
}

impl MemoryForecast {
    pub(crate) fn new(
        files: &CheckpointFiles,
        prepared: &Prepared,
        options: &Options,
        request: &ForecastOptions,
    ) -> Result<Self, AutoModelError> {
        let spec = prepared.lowered.spec.as_ref();
        let max_position_embeddings = spec.and_then(|spec| spec.backbone.max_position_embeddings);
        let mut forecast = Self {
            memory: options.device_memory(),
            batch_size: request.batch_size,
            max_position_embeddings,
            loads: Vec::new(),
        };
        let contexts = match request.contexts.as_slice() {
            [] => usual_contexts(max_position_embeddings),
            asked => asked.to_vec(),
        };
        let planner = Planner { files, prepared, options };
        for variant in planner.variants()? {
            forecast.loads.push(forecast.load(spec, variant, &contexts, &options.load.device));
        }
        Ok(forecast)
    }

    fn load(&self, spec: Option<&ModelSpec>, variant: Variant, contexts: &[usize], device: &Device) -> LoadForecast {
        let Variant { name, selected, dtype, quantization, plan } = variant;
        let (weights, held) = (plan.target_bytes, held_bytes(&plan));
        let cache_bytes = |positions| {
            let bytes = cache::cache_bytes(spec?, &plan, positions);
            Some(bytes.saturating_mul(self.batch_size as u64))
        };
        let context = |&positions: &usize| {
            let cache_bytes = cache_bytes(positions)?;
            let total_bytes = weights.saturating_add(cache_bytes);
            let fit = Fit::of(self.memory, total_bytes, held.saturating_add(cache_bytes));
            Some(ContextForecast { positions, cache_bytes, total_bytes, fit })
        };
        let largest = |weights: u64| {
            let room = self.memory?.available_bytes.checked_sub(weights);
            let limit = self.max_position_embeddings.unwrap_or(UNBOUNDED);
            cache_bytes(0)?;
            let fits = |positions| room.is_some_and(|room| cache_bytes(positions).is_some_and(|bytes| bytes <= room));
            Some(last(limit, fits)).filter(|positions| *positions < UNBOUNDED)
        };
        let peak_bytes =
            if *device == Device::flex() { plan.peak_bytes } else { held.saturating_add(packed_experts_bytes(&plan)) };
        LoadForecast {
            name,
            selected,
            dtype,
            quantization,
            weight_bytes: weights,
            quantized_bytes: plan.quantized_bytes(),
            dense_bytes: weights.saturating_sub(plan.quantized_bytes()),
            mapped_bytes: plan.mapped_bytes,
            held_bytes: held,
            peak_bytes,
            loading: Fit::of(self.memory, peak_bytes, held),
            contexts: contexts.iter().filter_map(context).collect(),
            largest_context: largest(weights),
            largest_evicting_context: largest(held),
        }
    }
}

/// Bytes that loading surely copies: not what stays in the files, nor what may turn out to be tied.
pub(crate) fn held_bytes(plan: &LoadPlan) -> u64 {
    let undecided = plan.ties.iter().filter(|tie| tie.decision == TieDecision::ToCompare);
    let undecided = undecided.filter_map(|tie| plan.row(&tie.parameter).filter(|row| !row.is_mapped()));
    let undecided = undecided.map(|row| row.bytes()).fold(0, u64::saturating_add);
    plan.target_bytes.saturating_sub(plan.mapped_bytes).saturating_sub(undecided)
}

/// Bytes of the experts of the layer that has most of them: a GPU has them twice while they are put side by side.
pub(crate) fn packed_experts_bytes(plan: &LoadPlan) -> u64 {
    let mut layers: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &plan.rows {
        if let Some((layer, _)) = row.parameter().split_once(".experts.") {
            let bytes = layers.entry(layer).or_default();
            *bytes = bytes.saturating_add(row.bytes());
        }
    }
    layers.into_values().max().unwrap_or(0)
}

/// A few powers of two up to `limit`, and `limit` itself.
fn usual_contexts(limit: Option<usize>) -> Vec<usize> {
    let powers = CONTEXT_POWERS.map(|power| 1_usize << power);
    let mut all: Vec<usize> = powers.filter(|positions| limit.is_none_or(|limit| *positions < limit)).collect();
    all.extend(limit);
    let (count, steps) = (all.len(), MOST_CONTEXTS - 1);
    if count <= MOST_CONTEXTS {
        return all;
    }
    // Evenly spread, first and last among them.
    (0..=steps).filter_map(|step| all.get((step * (count - 1) + steps / 2) / steps).copied()).collect()
}

/// The largest number up to `limit` that `fits`, given that all smaller ones do; 0 if none.
fn last(limit: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut rest) = (0, limit);
    while rest > 0 {
        let step = rest.div_ceil(2);
        if fits(fitting + step) {
            fitting += step;
            rest -= step;
        } else {
            rest = step - 1;
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AutoModelForCausalLM, Dtype, FromPretrained};
    use automodel_loader::QuantizationConfig;
    use automodel_models::{CacheOptions, LogitsFor, TokenBatch};

    /// Bytes of the demo's weights, which are stored in float32.
    const DEMO: u64 = 445_312 * 4;

    fn fixture(name: &str) -> FromPretrained {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
        AutoModelForCausalLM::from_pretrained(directory.display().to_string())
    }

    fn demo() -> FromPretrained {
        AutoModelForCausalLM::from_pretrained("demo")
    }

    fn names(forecast: &MemoryForecast) -> Vec<(&str, bool)> {
        forecast.loads.iter().map(|load| (load.name.as_str(), load.selected)).collect()
    }

    #[test]
    fn the_ways_to_load_are_dense_and_4_bit_and_what_is_asked_for() {
        let ways = |builder: FromPretrained| {
            let forecast = builder.forecast(&ForecastOptions::default()).unwrap();
            names(&forecast).into_iter().map(|(name, selected)| (name.to_owned(), selected)).collect::<Vec<_>>()
        };
        let expected = |selected: &str, names: &[&str]| -> Vec<(String, bool)> {
            names.iter().map(|name| ((*name).to_owned(), *name == selected)).collect()
        };
        let usual = ["float32", "nf4", "nf4 double", "fp4"];
        assert_eq!(ways(demo()), expected("float32", &usual));
        // Stored in float32, which is not narrowed.
        assert_eq!(ways(demo().dtype(Dtype::BFloat16)), expected("float32", &usual));
        let quantize = |config: QuantizationConfig| ways(demo().quantize(config));
        assert_eq!(quantize(QuantizationConfig::nf4()), expected("nf4", &usual));
        let double = QuantizationConfig::fp4().with_double_quant(true);
        assert_eq!(quantize(double), expected("fp4 double", &[&usual[..], &["fp4 double"]].concat()));
        // Nothing is left to quantise.
        let all = QuantizationConfig::nf4().with_skip_modules(["model"]);
        assert_eq!(quantize(all), expected("float32", &["float32"]));
        assert_eq!(ways(fixture("bitsandbytes/llama-nf4-double")), expected("nf4 double", &["nf4 double"]));
        assert_eq!(ways(fixture("bitsandbytes/gpt2-nf4")), expected("nf4", &["nf4"]));
    }

    #[test]
    fn figures_are_those_of_the_plans_and_of_what_is_loaded() {
        let forecast = demo().forecast(&ForecastOptions::default()).unwrap();
        let [float32, nf4, double, fp4] = forecast.loads.as_slice() else { panic!("{forecast:?}") };
        assert_eq!((float32.weight_bytes, float32.mapped_bytes, float32.held_bytes), (DEMO, DEMO, 0));
        assert_eq!((nf4.weight_bytes, nf4.peak_bytes), (fp4.weight_bytes, fp4.peak_bytes));
        assert!(double.quantized_bytes < nf4.quantized_bytes && double.dense_bytes == nf4.dense_bytes);
        for load in &forecast.loads {
            let builder = match load.quantization.clone() {
                Some(config) => demo().quantize(config),
                None => demo(),
            };
            let plan = builder.inspect().unwrap().plan;
            let planned = (plan.target_bytes, plan.quantized_bytes(), plan.mapped_bytes, plan.peak_bytes);
            assert_eq!((load.weight_bytes, load.quantized_bytes, load.mapped_bytes, load.peak_bytes), planned);
            assert_eq!(load.quantized_bytes + load.dense_bytes, load.weight_bytes);
            let report = builder.load().unwrap().report().unwrap().clone();
            assert_eq!((report.copied_bytes, report.mapped_bytes), (load.held_bytes, load.mapped_bytes));
        }
    }

    #[test]
    fn caches_are_as_large_as_forecast() {
        for name in ["mistral", "llama-bf16", "gemma3_text", "mixtral", "cohere2"] {
            let name = format!("checkpoints/{name}");
            for dtype in [Dtype::Auto, Dtype::BFloat16] {
                let lengths = [3, 8, 9, 40];
                let request = ForecastOptions::default().with_contexts(lengths).with_batch_size(2);
                let forecast = fixture(&name).dtype(dtype).forecast(&request).unwrap();
                let forecast = forecast.loads.iter().find(|load| load.selected).unwrap();
                let model = fixture(&name).dtype(dtype).load().unwrap();
                for (length, context) in lengths.into_iter().zip(&forecast.contexts) {
                    let prompt = vec![1_u32; length];
                    let batch = TokenBatch::new(&[&prompt, &prompt], model.model().vocab_size()).unwrap();
                    let mut cache = model.model().new_cache(&CacheOptions { batch_size: 2, capacity: Some(length) });
                    model.model().forward(&batch, LogitsFor::Last, &mut cache).unwrap();
                    assert_eq!(cache.bytes() as u64, context.cache_bytes, "{name}, {dtype:?}, {length}");
                }
            }
        }
    }

    #[test]
    fn what_fits_depends_on_what_can_be_evicted() {
        let memory = Some(DeviceMemory::given(100));
        assert_eq!(Fit::of(memory, 100, 0), Fit::Fits { spare_bytes: 0 });
        assert_eq!(Fit::of(memory, 101, 100), Fit::Evicting { excess_bytes: 1 });
        assert_eq!(Fit::of(memory, 300, 101), Fit::TooLarge { excess_bytes: 1 });
        assert_eq!(Fit::of(memory, u64::MAX, u64::MAX), Fit::TooLarge { excess_bytes: u64::MAX - 100 });
        assert_eq!(Fit::of(None, 1, 1), Fit::Unknown);
    }

    #[test]
    fn the_longest_context_is_the_last_that_fits() {
        // 1536 bytes a position, 64 positions.
        let position = 3 * 2 * 2 * 32 * 4;
        let longest = |bytes: u64| {
            let forecast = demo().assume_memory(bytes).forecast(&ForecastOptions::default()).unwrap();
            (forecast.loads[0].largest_context, forecast.loads[0].largest_evicting_context)
        };
        assert_eq!(longest(DEMO + 10 * position), (Some(10), Some(64)));
        assert_eq!(longest(DEMO + 10 * position - 1), (Some(9), Some(64)));
        assert_eq!(longest(u64::MAX), (Some(64), Some(64)));
        assert_eq!(longest(DEMO - 1), (Some(0), Some(64)));
        assert_eq!(longest(3 * position), (Some(0), Some(3)));
        assert_eq!(longest(1), (Some(0), Some(0)));
        for limit in [0, 1, 2, 63, 64, UNBOUNDED] {
            for fitting in [0, 1, 2, 40, 63, 64].into_iter().filter(|fitting| *fitting <= limit) {
                assert_eq!(last(limit, |positions| positions <= fitting), fitting, "of {limit}");
            }
        }
    }

    #[test]
    fn usual_contexts_are_few_and_end_with_the_limit() {
        assert_eq!(usual_contexts(Some(64)), [64]);
        assert_eq!(usual_contexts(Some(1024)), [1024]);
        assert_eq!(usual_contexts(Some(4096)), [1024, 2048, 4096]);
        assert_eq!(usual_contexts(Some(131_072)), [1024, 4096, 32_768, 131_072]);
        assert_eq!(usual_contexts(Some(40_960)), [1024, 4096, 16_384, 40_960]);
        assert_eq!(usual_contexts(None), [1024, 4096, 32_768, 131_072]);
        assert_eq!(usual_contexts(Some(usize::MAX)).last(), Some(&usize::MAX));
    }

    #[test]
    fn absurd_requests_saturate() {
        let request = ForecastOptions::default().with_contexts([0, usize::MAX]).with_batch_size(usize::MAX);
        let forecast = demo().assume_memory(u64::MAX - 1).forecast(&request).unwrap();
        let [none, most] = forecast.loads[0].contexts.as_slice() else { panic!("{forecast:?}") };
        assert_eq!((none.cache_bytes, most.total_bytes), (0, u64::MAX));
        assert_eq!(most.fit, Fit::TooLarge { excess_bytes: 1 });
    }

    #[test]
    fn the_experts_of_one_layer_are_moved_at_once() {
        let plan = |name: &str| fixture(name).dtype(Dtype::Float32).inspect().unwrap().plan;
        // Four experts of three projections, 32 x 24.
        assert_eq!(packed_experts_bytes(&plan("checkpoints/mixtral")), 4 * 3 * 32 * 24 * 4);
        assert_eq!(packed_experts_bytes(&plan("checkpoints/llama")), 0);
    }
}
