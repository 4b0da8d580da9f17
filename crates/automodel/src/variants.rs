//! The ways to load a checkpoint, and the refusal of one that cannot fit.

use crate::forecast::held_bytes;
use crate::memory::DeviceMemory;
use crate::{AutoModelError, Prepared, options::Options};
use automodel_loader::{
    CheckpointFiles, DtypePolicy, LoadError, LoadOptions, LoadPlan, QuantizationConfig, float_name,
};
use automodel_quant::Scheme;
use burn::tensor::FloatDType;
use serde::Serialize;
use std::collections::BTreeMap;

/// A way to load a checkpoint that needs less memory than the one that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SmallerLoad {
    /// `nf4` or `bfloat16` for instance.
    pub name: String,
    /// Which dtype weights get.
    pub dtype: DtypePolicy,
    /// How projections are quantised.
    pub quantization: Option<QuantizationConfig>,
    /// Bytes that it needs besides what stays in the files.
    pub needed_bytes: u64,
    /// Bytes that stay in the mapped files, where the system can evict them and read them again.
    pub mapped_bytes: u64,
}

/// One way to load a checkpoint.
pub(crate) struct Variant {
    pub name: String,
    /// Whether it is the one that the options request.
    pub selected: bool,
    pub dtype: DtypePolicy,
    pub quantization: Option<QuantizationConfig>,
    pub plan: LoadPlan,
}

/// Plans a checkpoint in several ways.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub files: &'a CheckpointFiles,
    pub prepared: &'a Prepared,
    /// What was asked for; the ways differ in dtype and quantisation alone.
    pub options: &'a Options,
}

/// Dtype and quantisation.
type Wish = (DtypePolicy, Option<QuantizationConfig>);

impl Planner<'_> {
    /// Dense, NF4, NF4 with double quantisation and FP4, under otherwise equal options, and the request of the options. A
    /// checkpoint that is quantised already loads in one way.
    pub fn variants(self) -> Result<Vec<Variant>, LoadError> {
        let load = &self.options.load;
        let asked = self.plan((load.dtype, load.quantization.clone()))?;
        if is_quantized_already(&asked.plan) {
            return Ok(vec![asked]);
        }
        let mut requests = vec![(DtypePolicy::Auto, None), (load.dtype, None)];
        requests.dedup();
        requests.extend(self.in_4_bits());
        let mut variants: Vec<Variant> = Vec::new();
        for request in requests {
            let variant = self.plan(request)?;
            // A request that changes nothing is left out; the one that the options make stays.
            match variants.iter_mut().find(|known| known.name == variant.name) {
                Some(known) if variant.selected => *known = variant,
                Some(_) => {}
                None => variants.push(variant),
            }
        }
        if !variants.iter().any(|variant| variant.selected) {
            variants.push(asked);
        }
        Ok(variants)
    }

    /// Refuses a plan that needs more memory than there is, before a weight is read. Only what surely cannot fit is refused:
    /// nothing where the system does not tell, and mapped weights do not count.
    pub fn refuse_what_cannot_fit(self, plan: &LoadPlan) -> Result<(), AutoModelError> {
        let needed_bytes = held_bytes(plan);
        if !self.options.check_memory || needed_bytes == 0 {
            return Ok(());
        }
        match self.options.device_memory() {
            Some(memory) if needed_bytes > memory.available_bytes => {
                let smaller = self.smaller_loads(plan, memory);
                Err(AutoModelError::InsufficientMemory { needed_bytes, memory, smaller })
            }
            _ => Ok(()),
        }
    }

    /// Ways to load the checkpoint that would fit; if there are none, the one that needs least.
    fn smaller_loads(self, plan: &LoadPlan, memory: DeviceMemory) -> Vec<SmallerLoad> {
        if is_quantized_already(plan) {
            return Vec::new();
        }
        let half = half_dtype(plan).map(|dtype| (DtypePolicy::AtLeast(dtype), None));
        let requests = [(DtypePolicy::Auto, None)].into_iter().chain(self.in_4_bits()).chain(half);
        let mut loads: Vec<SmallerLoad> = Vec::new();
        for Variant { name, dtype, quantization, plan, .. } in requests.filter_map(|request| self.plan(request).ok()) {
            if !loads.iter().any(|load| load.name == name) {
                let (needed_bytes, mapped_bytes) = (held_bytes(&plan), plan.mapped_bytes);
                loads.push(SmallerLoad { name, dtype, quantization, needed_bytes, mapped_bytes });
            }
        }
        loads.retain(|load| load.needed_bytes < held_bytes(plan));
        let least = loads.iter().min_by_key(|load| load.needed_bytes).cloned();
        loads.retain(|load| load.needed_bytes <= memory.available_bytes);
        // First those that stay in memory as a whole.
        loads.sort_by_key(|load| load.needed_bytes.saturating_add(load.mapped_bytes) > memory.available_bytes);
        if loads.is_empty() { least.into_iter().collect() } else { loads }
    }

    /// The 4-bit encodings that are compared, with dtype, block size and exceptions as asked for.
    fn in_4_bits(self) -> [Wish; 3] {
        let LoadOptions { dtype, quantization, .. } = &self.options.load;
        [Scheme::nf4(), Scheme::nf4().with_double_quant(true), Scheme::fp4()].map(|scheme| {
            let mut config = quantization.clone().unwrap_or_else(|| QuantizationConfig::new(scheme));
            let blocksize = config.scheme.table16().map(|asked| asked.blocksize);
            config.scheme = blocksize.map_or(scheme, |blocksize| scheme.with_blocksize(blocksize));
            (*dtype, Some(config))
        })
    }

    fn plan(self, (dtype, quantization): Wish) -> Result<Variant, LoadError> {
        let mut options = self.options.clone();
        options.load.dtype = dtype;
        options.load.quantization.clone_from(&quantization);
        let plan = LoadPlan::new(self.files, &self.prepared.lowered.weights, &self.prepared.load_options(&options))?;
        let asked = &self.options.load;
        let selected = (dtype, &quantization) == (asked.dtype, &asked.quantization);
        Ok(Variant { name: name(&plan), selected, dtype, quantization, plan })
    }
}

fn is_quantized_already(plan: &LoadPlan) -> bool {
    plan.rows.iter().filter_map(|row| row.encoding()).any(|encoding| encoding.prequantized)
}

/// What most of the bytes are in: `bfloat16`, `nf4`, `fp4 double`.
fn name(plan: &LoadPlan) -> String {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    // Where anything is quantised, how that is done tells the ways apart, though tables of tokens may be larger.
    let quantized = plan.rows.iter().any(|row| row.encoding().is_some());
    for row in plan.rows.iter().filter(|row| row.encoding().is_some() == quantized) {
        let name = match row.encoding() {
            None => float_name(row.target()).to_owned(),
            Some(encoding) => {
                format!("{}{}", encoding.scheme.name(), if encoding.scheme.is_joint() { " double" } else { "" })
            }
        };
        *bytes.entry(name).or_default() += row.bytes();
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name).unwrap_or_default()
}

/// The dtype of two bytes in which most weights are stored, if they become wider when loaded.
fn half_dtype(plan: &LoadPlan) -> Option<FloatDType> {
    let widened = |dtype: FloatDType| {
        let rows =
            plan.rows.iter().filter(|row| row.stored().float() == Some(dtype) && row.target() == FloatDType::F32);
        (dtype, rows.map(|row| row.bytes()).fold(0, u64::saturating_add))
    };
    let (dtype, bytes) =
        [FloatDType::BF16, FloatDType::F16].map(widened).into_iter().max_by_key(|(_, bytes)| *bytes)?;
    (bytes > 0).then_some(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AutoModelForCausalLM, FromPretrained};

    /// The demo, copied into memory: 1.7 MiB.
    fn copied() -> FromPretrained {
        AutoModelForCausalLM::from_pretrained("demo").zero_copy(false)
    }

    /// The error for a memory that is too small.
    #[track_caller]
    fn refusal(builder: FromPretrained, bytes: u64) -> (String, u64, Vec<SmallerLoad>) {
        let unread = |_: automodel_loader::Progress<'_>| panic!("a weight was read before the check");
        let error = builder.assume_memory(bytes).progress(unread).load().unwrap_err();
        let text = error.to_string();
        let AutoModelError::InsufficientMemory { needed_bytes, smaller, .. } = error else { panic!("{text}") };
        (text, needed_bytes, smaller)
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_would() {
        let (text, needed_bytes, smaller) = refusal(copied(), 300 << 10);
        assert_eq!(needed_bytes, 445_312 * 4);
        for part in ["1.7 MiB", "300.0 KiB", "254.5 KiB in nf4,", "nf4 double", "nothing was loaded", "free memory"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let names: Vec<&str> = smaller.iter().map(|load| load.name.as_str()).collect();
        assert_eq!(names, ["nf4", "nf4 double", "fp4"]);

        let (text, _, smaller) = refusal(copied(), 240 << 10);
        assert!(smaller.len() == 1 && text.contains("234.4 KiB in nf4 double"), "{text}");
        let (text, _, smaller) = refusal(copied(), 1 << 10);
        assert!(
            smaller.len() == 1 && text.contains("do not fit in any encoding, the smallest needs 234.4 KiB"),
            "{text}"
        );
        let (text, _, smaller) = refusal(copied().quantize(QuantizationConfig::nf4().with_double_quant(true)), 1 << 10);
        assert!(smaller.is_empty() && text.contains("no smaller way"), "{text}");
    }

    #[test]
    fn half_precision_is_named_where_it_would_fit() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/checkpoints/llama-bf16");
        let wide = AutoModelForCausalLM::from_pretrained(directory).dtype(crate::Dtype::Float32);
        // Left in bfloat16 most of it stays in the file.
        let (text, _, smaller) = refusal(wide, 5 << 10);
        assert!(smaller.iter().any(|load| load.name == "bfloat16"), "{text}");
    }

    #[test]
    fn what_fits_stays_in_the_files_or_is_not_checked_loads() {
        let loads = |builder: FromPretrained, bytes: u64| builder.assume_memory(bytes).load().unwrap();
        loads(copied(), 445_312 * 4);
        loads(AutoModelForCausalLM::from_pretrained("demo"), 1);
        loads(copied().check_memory(false), 1);
        loads(copied().quantize(QuantizationConfig::nf4()), 260_608);
        refusal(copied(), 445_312 * 4 - 1);
    }

    /// A checkpoint with tied weights whose file has head and embedding.
    fn stored_twice() -> tempfile::TempDir {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/checkpoints/llama-tied");
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(format!("{fixture}/config.json"), directory.path().join("config.json")).unwrap();
        let bytes = std::fs::read(format!("{fixture}/model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = file.tensors();
        tensors.push(("lm_head.weight".to_owned(), file.tensor("model.embed_tokens.weight").unwrap()));
        safetensors::serialize_to_file(tensors, None, &directory.path().join("model.safetensors")).unwrap();
        directory
    }

    #[test]
    fn weights_that_may_be_tied_are_not_counted_twice() {
        let directory = stored_twice();
        let model = || AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap()).zero_copy(false);
        let plan = model().inspect().unwrap().plan;
        let held = held_bytes(&plan);
        assert!(held < plan.target_bytes, "{held}");
        let report = model().assume_memory(held).load().unwrap().report().unwrap().clone();
        assert_eq!(report.copied_bytes, held);
        refusal(model(), held - 1);
    }
}
