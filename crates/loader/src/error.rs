//! What can go wrong while a checkpoint is opened, planned, loaded or saved.

use crate::{FileChange, Problems, StoredDtype};
use std::{error::Error as StdError, io, path::Path, path::PathBuf};
use thiserror::Error;

type Cause = Box<dyn StdError + Send + Sync>;

/// What can go wrong while a checkpoint is opened, planned, loaded or saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An operation on a file that the system refused.
    #[error("cannot {action} {}: check that it exists and that you may access it", .path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A directory without the two files that lead to weights.
    #[error(
        "{} has neither model.safetensors nor model.safetensors.index.json{}",
        .directory.display(),
        match .found {
            Some(name) => format!("; it has {name}: a config that names it as `transformers_weights` makes it the weights"),
            None => ": download the weights too".into(),
        }
    )]
    NoWeights {
        /// The directory.
        directory: PathBuf,
        /// Another safetensors file in it.
        found: Option<String>,
    },
    /// The weights of an adapter without a model.
    #[error(
        "{} holds an adapter (PEFT) and no model: adapters are not applied here. Load {}, or merge the two with PEFT \
         (`merge_and_unload`) and save the result",
        .directory.display(),
        match .base {
            Some(base) => format!("its base model `{base}`"),
            None => "its base model".into(),
        }
    )]
    AdapterAlone {
        /// The directory.
        directory: PathBuf,
        /// The model that it was made for, if its config says so.
        base: Option<String>,
    },
    /// A checkpoint in pickle format only, which is not read because it can run code.
    #[error(
        "{} is a PyTorch pickle and there is no safetensors file beside it; convert it with transformers: \
         `AutoModelForCausalLM.from_pretrained(SOURCE).save_pretrained(TARGET)` writes safetensors",
        .file.display()
    )]
    PyTorchWeights {
        /// The pickle file.
        file: PathBuf,
    },
    /// A checkpoint for other programs.
    #[error(
        "{} is in GGUF format, which is not supported: take the repo that it was made from, with weights in safetensors format",
        .file.display()
    )]
    GgufWeights {
        /// The GGUF file.
        file: PathBuf,
    },
    /// A link that leads nowhere where a file belongs.
    #[error(
        "{} is a link to {}, which does not exist: its target was removed or moved; correct the link, or download it again",
        .link.display(), .target.display()
    )]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// What it points to, as it is written in the link.
        target: PathBuf,
    },
    /// Something else where a file belongs.
    #[error("{} is {found}, where a file with weights or their index belongs: put the file in its place", .path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
        /// What it is: `a directory`, `a named pipe`.
        found: &'static str,
    },
    /// An index that is not JSON of the expected form.
    #[error("{} is not the index of a sharded checkpoint: download it again", .index.display())]
    IndexSyntax {
        /// The index.
        index: PathBuf,
        /// Where and why parsing stopped.
        #[source]
        source: Cause,
    },
    /// An index too large to be one.
    #[error("{} has {length} bytes, more than the {limit} bytes that an index may have: it is not an index", .index.display())]
    IndexTooLarge {
        /// The index.
        index: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An index without entries.
    #[error("{} lists no tensor: download it again", .index.display())]
    IndexEmpty {
        /// The index.
        index: PathBuf,
    },
    /// A file name that may not be used.
    #[error("{} names the file {name:?}, which is refused because {reason}: name files inside the checkpoint's directory", .file.display())]
    ShardName {
        /// Where the name is written.
        file: PathBuf,
        /// The name.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A shard that is not there.
    #[error("{} is missing, though {} names it: the download is incomplete, download it again", .shard.display(), .index.display())]
    MissingShard {
        /// Where it is named.
        index: PathBuf,
        /// The file.
        shard: PathBuf,
    },
    /// A needed tensor that two shards hold, differently.
    #[error(
        "tensor `{tensor}` is in {first} and, with other values, in {second}: remove the shards that belong to another checkpoint"
    )]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// One shard.
        first: String,
        /// The other shard.
        second: String,
    },
    /// A file shorter than its header says.
    #[error("{} has {length} bytes and needs at least {needed}: it is empty or cut short, download it again", .file.display())]
    TruncatedShard {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The length in bytes that it needs at least.
        needed: u64,
    },
    /// A stand-in that git left where the file belongs.
    #[error("{} is a Git LFS pointer, not the weights: run `git lfs pull` in the checkpoint's directory", .file.display())]
    GitLfsPointer {
        /// The file.
        file: PathBuf,
    },
    /// A header longer than the format allows.
    #[error(
        "the header of {} claims {length} bytes, the limit is {limit}: it is not a safetensors file or was damaged, download it again",
        .file.display()
    )]
    HeaderTooLarge {
        /// The file.
        file: PathBuf,
        /// The claimed length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A header that is not JSON of the expected form.
    #[error("the header of {} cannot be parsed: it is not a safetensors file or was damaged, download it again", .file.display())]
    HeaderSyntax {
        /// The file.
        file: PathBuf,
        /// Where and why parsing stopped.
        #[source]
        source: Cause,
    },
    /// Bytes that belong to no tensor, which the format forbids.
    #[error("{bytes} bytes of {} from byte {at} on belong to no tensor: the file was damaged, download it again", .file.display())]
    HeaderHole {
        /// The file.
        file: PathBuf,
        /// How many bytes.
        bytes: u64,
        /// The first of them, counted from the start of the file.
        at: u64,
    },
    /// A dtype that is not part of the format.
    #[error("tensor `{tensor}` of {} has the dtype {dtype:?}, which this version does not know", .file.display())]
    UnknownDtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dtype.
        dtype: String,
    },
    /// Offsets that make no range.
    #[error("tensor `{tensor}` of {} has the impossible offsets {begin}..{end}: the file was damaged, download it again", .file.display())]
    TensorRange {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte, counted from the end of the header.
        begin: u64,
        /// Byte behind the last.
        end: u64,
    },
    /// Two tensors that share bytes.
    #[error("the bytes of tensor `{tensor}` of {} overlap with those of `{other}`: the file was damaged, download it again", .file.display())]
    TensorOverlap {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The one before it.
        other: String,
    },
    /// A size in bytes that does not exist.
    #[error("tensor `{tensor}` of {} cannot have the shape {shape:?} in {dtype}: its size in bytes overflows or is not a whole number", .file.display())]
    TensorOverflow {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: StoredDtype,
    },
    /// A byte range that does not fit dtype and shape.
    #[error("tensor `{tensor}` of {} has {found} bytes, but {dtype} of shape {shape:?} needs {expected}: the file was damaged", .file.display())]
    TensorSize {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: StoredDtype,
        /// Bytes that shape and dtype need.
        expected: u64,
        /// Bytes between the offsets.
        found: u64,
    },
    /// A checkpoint that does not fit the model; everything that is wrong at once.
    #[error("the checkpoint in {} does not fit the model: {problems}", .directory.display())]
    Mismatch {
        /// The checkpoint.
        directory: PathBuf,
        /// All that is wrong.
        problems: Box<Problems>,
    },
    /// A dtype that the device cannot compute with.
    #[error("the device {device} does not support {dtype}: choose another dtype")]
    DeviceDtype {
        /// The device.
        device: String,
        /// The dtype.
        dtype: &'static str,
    },
    /// An entry of `skip_modules` that is not a pattern.
    #[error(
        "skip_modules has {pattern:?}, which cannot be used because {reason}: name modules, or write a simpler regular expression"
    )]
    SkipModule {
        /// The entry.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight with an element that has no code: NaN or an infinity.
    #[error(
        "parameter `{parameter}` cannot be quantised: its element {index} (in row-major order), from tensor `{tensor}`, is \
         {value}; add its module to skip_modules to keep it dense"
    )]
    NonFiniteWeight {
        /// The parameter.
        parameter: String,
        /// The tensor that the element is from.
        tensor: String,
        /// Place of the element in the parameter, in row-major order.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A weight that cannot be quantised, or whose stored form is inconsistent.
    #[error("parameter `{parameter}` cannot be loaded quantised")]
    Quantization {
        /// The parameter.
        parameter: String,
        /// What is wrong, with the tensor.
        #[source]
        source: Cause,
    },
    /// A device that failed.
    #[error("the device {device} failed while weights were moved: it may be out of memory")]
    Device {
        /// The device.
        device: String,
        /// Its answer.
        #[source]
        source: Cause,
    },
    /// A plan that was made for another device or other files.
    #[error("this plan was made for {planned}, not for {given}: make a new plan")]
    StalePlan {
        /// What the plan was made for.
        planned: String,
        /// What it was executed with.
        given: String,
    },
    /// A file that was changed while it was loaded.
    #[error("{} was changed since its header was read: {change}. Do not change a checkpoint while it loads", .file.display())]
    ShardChanged {
        /// The file.
        file: PathBuf,
        /// What is different.
        change: FileChange,
    },
    /// A mapped file that was changed while parameters stayed in it.
    #[error("{} was changed while weights stay in it: {change}. Load the model again; where files are edited in place, load it \
             with `zero_copy(false)`, which copies the weights", .file.display())]
    MappedFileChanged {
        /// The file.
        file: PathBuf,
        /// What is different.
        change: FileChange,
    },
    /// An output directory that is in the way.
    #[error("{} exists and {reason}", .directory.display())]
    OutputExists {
        /// The directory.
        directory: PathBuf,
        /// Why it is not replaced and what would help.
        reason: &'static str,
    },
    /// A file to carry along whose name is taken or that cannot be carried.
    #[error("{} cannot be saved beside the weights because {reason}", .file.display())]
    CarriedFile {
        /// The file.
        file: PathBuf,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A parameter that the weight map does not have.
    #[error("parameter `{parameter}` is not in the weight map, so there is no tensor to save it as{}", crate::problems::nearest_hint(.nearest))]
    UnknownParameter {
        /// The parameter.
        parameter: String,
        /// Similar names.
        nearest: Vec<String>,
    },
    /// A parameter that was given twice.
    #[error("parameter `{parameter}` was given twice: give each parameter once")]
    RepeatedParameter {
        /// The parameter.
        parameter: String,
    },
    /// A parameter of another shape than the weight map has.
    #[error("parameter `{parameter}` has the shape {found:?}, the weight map has {expected:?}")]
    ParameterShape {
        /// The parameter.
        parameter: String,
        /// Shape in the weight map.
        expected: Vec<usize>,
        /// Shape of the values.
        found: Vec<usize>,
    },
    /// A parameter whose elements are not floats of 16, 32 or 64 bits.
    #[error("parameter `{parameter}` has the dtype {dtype}: only float64, float32, float16 and bfloat16 can be saved")]
    ParameterDtype {
        /// The parameter.
        parameter: String,
        /// Its dtype.
        dtype: &'static str,
    },
    /// A weight map that cannot be saved through.
    #[error(
        "the weight map cannot place parameter `{parameter}` in tensor `{tensor}`: {reason}; correct the weight map of this family"
    )]
    Placement {
        /// The parameter.
        parameter: String,
        /// The tensor.
        tensor: String,
        /// Why not.
        reason: String,
    },
    /// Two parameters that want different values in the same place of a tensor.
    #[error(
        "parameter `{parameter}` has other values than an earlier one in a place of tensor `{tensor}` that both fill"
    )]
    ConflictingParameters {
        /// The later parameter.
        parameter: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the parameters do not fill.
    #[error(
        "tensor `{tensor}` cannot be saved: the parameters fill {covered} of its {elements} elements{}; give all parameters \
         of the model",
        match .others { 0 => String::new(), more => format!(", and {more} more tensor(s) are incomplete") }
    )]
    UncoveredTensor {
        /// The tensor.
        tensor: String,
        /// Elements that were filled.
        covered: u64,
        /// Elements that it has.
        elements: u64,
        /// How many more tensors are incomplete.
        others: usize,
    },
    /// A checkpoint whose weights are quantised already.
    #[error(
        "the checkpoint in {} cannot be quantised because it is already ({evidence}): take the one that it was made from",
        .directory.display()
    )]
    AlreadyQuantized {
        /// The checkpoint.
        directory: PathBuf,
        /// The key or tensor that says so.
        evidence: String,
    },
    /// A tensor that cannot be quantised.
    #[error("tensor `{tensor}` cannot be quantised: correct it, or let its module be skipped")]
    Unquantizable {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// A config that is to go beside the weights and is none.
    #[error("{} is not the config of a model: give a config.json that is a JSON object", .file.display())]
    ConfigSyntax {
        /// The file, or where it would be.
        file: PathBuf,
        /// Where and why parsing stopped.
        #[source]
        source: Cause,
    },
    /// Another process that writes to the same target.
    #[error("{} is in use by another run: wait for it to end, or choose another output directory", .directory.display())]
    OutputBusy {
        /// The directory in which it works.
        directory: PathBuf,
    },
    /// A representation that no format of files has.
    #[error("weights in {scheme} cannot be saved: no format that transformers reads has them")]
    UnsavableScheme {
        /// The representation.
        scheme: String,
    },
    /// A quantised parameter that cannot be saved so that transformers reads it.
    #[error(
        "quantised parameter `{parameter}` cannot be saved in tensor `{tensor}`: {reason}; quantise the checkpoint instead of the \
         loaded model (`automodel quantize`), or keep all parameters of this tensor dense (skip their modules)"
    )]
    QuantizedPart {
        /// The parameter.
        parameter: String,
        /// The tensor.
        tensor: String,
        /// Why not.
        reason: String,
    },
}

impl LoadError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
