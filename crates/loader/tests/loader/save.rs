//! What is written and read again.

use crate::common::{bf16s, checkpoint, counting, f32s, load, message, options, plain_map, slot, values};
use automodel_loader::{
    CheckpointFiles, CheckpointWriter, DtypePolicy, LoadError, LoadedParameters, SaveFiles, SaveOptions, SaveReport,
    StoredDtype, identity_map, save_pretrained,
};
use automodel_registry::weights::{SourcePiece, Tie, ViewOp, WeightMap};
use burn::tensor::{FloatDType, TensorData};
use std::{fs, path::Path};

fn data(shape: &[usize], values: &[f32]) -> TensorData {
    TensorData::new(values.to_vec(), shape.to_vec())
}

fn save(directory: &Path, parameters: Vec<(&str, TensorData)>, map: &WeightMap) -> Result<SaveReport, LoadError> {
    let parameters = parameters.into_iter().map(|(path, data)| (path.to_owned(), data));
    save_pretrained(directory, parameters, map, &SaveOptions::default(), &SaveFiles::default())
}

fn all(parameters: LoadedParameters) -> Vec<(String, TensorData)> {
    parameters.into_dense().map(|(path, tensor)| (path, tensor.try_into_data().unwrap())).collect()
}

/// What is left in the parent of an output directory, hidden entries included.
fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Parameters that are parts of a fused tensor, a transposed one and a stack.
fn layouts() -> WeightMap {
    let head = |index| vec![ViewOp::SplitAxis { axis: 0, sizes: vec![2, 3, 2] }, ViewOp::Select { axis: 1, index }];
    let mut map = WeightMap::default();
    for (index, name) in ["q", "k", "v"].into_iter().enumerate() {
        map.parameters.push(slot(name, &[4, 3], vec![SourcePiece::view("qkv", &[12, 3], head(index))]));
    }
    let transposed = SourcePiece::view("conv", &[2, 3], vec![ViewOp::Transpose(0, 1)]);
    map.parameters.push(slot("linear", &[3, 2], vec![transposed]));
    let experts = vec![SourcePiece::whole("e.0", &[2, 2]), SourcePiece::whole("e.1", &[2, 2])];
    map.parameters.push(slot("experts", &[2, 2, 2], experts));
    map
}

fn fused_checkpoint() -> tempfile::TempDir {
    checkpoint(&[
        f32s("qkv", &[12, 3], &counting(36)),
        f32s("conv", &[2, 3], &counting(6)),
        f32s("e.0", &[2, 2], &counting(4)),
        f32s("e.1", &[2, 2], &[4.0, 5.0, 6.0, 7.0]),
    ])
}

#[test]
fn saving_is_the_inverse_of_loading() {
    let source = fused_checkpoint();
    let (parameters, _) = load(source.path(), &layouts(), &options()).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("new").join("model");
    let report = save_pretrained(&target, all(parameters), &layouts(), &SaveOptions::default(), &SaveFiles::default());
    assert_eq!(report.unwrap().shards, ["model.safetensors"]);
    // The reference implementation reads the file, and every tensor is what it was.
    let (old, new) = (fs::read(source.path().join("model.safetensors")), fs::read(target.join("model.safetensors")));
    let (old, new) = (old.unwrap(), new.unwrap());
    let (old, new) =
        (safetensors::SafeTensors::deserialize(&old).unwrap(), safetensors::SafeTensors::deserialize(&new).unwrap());
    assert_eq!(old.len(), new.len());
    for (name, tensor) in old.tensors() {
        assert_eq!(new.tensor(&name).unwrap(), tensor, "{name}");
    }
    assert_eq!(entries(&parent.path().join("new")), ["model"]);
}

#[test]
fn shards_and_index() {
    let map = plain_map(&[("a", &[100]), ("b", &[100]), ("c", &[300]), ("d", &[1])]);
    let parameters = ["a", "b", "c", "d"].map(|name| {
        let elements = map.parameters.iter().find(|slot| slot.path == name).unwrap().shape[0];
        (name.to_owned(), data(&[elements], &counting(elements)))
    });
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let mut save = SaveOptions::default();
    save.max_shard_bytes = 800;
    let report = save_pretrained(&target, parameters, &map, &save, &SaveFiles::default()).unwrap();
    let names =
        ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    assert_eq!(report.shards, names);
    assert_eq!((report.tensors, report.total_bytes), (4, 501 * 4));
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(target.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 501 * 4);
    assert_eq!([&index["weight_map"]["b"], &index["weight_map"]["c"]], [names[0], names[1]]);
    let files = CheckpointFiles::open(&target).unwrap();
    assert_eq!(files.metadata().unwrap()["format"], "pt");
    let (parameters, _) = load(&target, &map, &options()).unwrap();
    assert_eq!(values(&parameters, "c"), counting(300));
    assert_eq!(values(&parameters, "d"), [0.0]);
}

const HEAD: &str = "lm_head.weight";
const EMBED: &str = "model.embed_tokens.weight";

fn tied_map() -> WeightMap {
    let mut map = plain_map(&[(HEAD, &[4, 2]), (EMBED, &[4, 2])]);
    map.ties.push(Tie { parameter: HEAD.into(), to: EMBED.into(), requested: true });
    map
}

#[test]
fn a_tied_head_is_not_written_twice() {
    let equal = data(&[4, 2], &counting(8));
    let given: [Vec<(&str, TensorData)>; 3] = [
        vec![(EMBED, equal.clone()), (HEAD, equal.clone())],
        vec![(HEAD, equal.clone()), (EMBED, equal.clone())],
        vec![(EMBED, equal.clone())],
    ];
    for parameters in given {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        let report = save(&target, parameters, &tied_map()).unwrap();
        assert_eq!(report.tied, [(HEAD.to_owned(), EMBED.to_owned())]);
        let files = CheckpointFiles::open(&target).unwrap();
        assert_eq!(files.tensors().keys().collect::<Vec<_>>(), [EMBED]);
        let (parameters, _) = load(&target, &tied_map(), &options()).unwrap();
        assert_eq!(values(&parameters, HEAD), counting(8));
    }
}

#[test]
fn a_tied_head_that_differs_is_written_with_a_warning() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let mut other = counting(8);
    other[7] = 0.5;
    let parameters = vec![(EMBED, data(&[4, 2], &counting(8))), (HEAD, data(&[4, 2], &other))];
    let report = save(&target, parameters, &tied_map()).unwrap();
    assert!(report.warnings[0].contains("both are written"), "{:?}", report.warnings);
    let (parameters, _) = load(&target, &tied_map(), &options()).unwrap();
    assert_eq!(values(&parameters, HEAD), other);
}

#[test]
fn dtypes_in_the_file() {
    let source = checkpoint(&[bf16s("w", &[3], &[1.0, 2.0, 3.0]), f32s("kept", &[2], &[0.5, 1.0 / 3.0])]);
    let files = CheckpointFiles::open(source.path()).unwrap();
    let mut map = identity_map(&files);
    map.parameters[0].keep_float32 = true;
    let as_stored = options().with_dtype(DtypePolicy::AtLeast(FloatDType::BF16));
    for (dtype, expected) in [
        (None, [StoredDtype::F32, StoredDtype::BF16]),
        (Some(FloatDType::BF16), [StoredDtype::F32, StoredDtype::BF16]),
        (Some(FloatDType::F16), [StoredDtype::F32, StoredDtype::F16]),
        (Some(FloatDType::F32), [StoredDtype::F32, StoredDtype::F32]),
    ] {
        let (parameters, _) = load(source.path(), &map, &as_stored).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        let mut save = SaveOptions::default();
        save.dtype = dtype;
        save_pretrained(&target, all(parameters), &map, &save, &SaveFiles::default()).unwrap();
        let files = CheckpointFiles::open(&target).unwrap();
        assert_eq!(["kept", "w"].map(|name| files.tensors()[name].dtype), expected, "{dtype:?}");
        let (parameters, _) = load(&target, &map, &options()).unwrap();
        assert_eq!(values(&parameters, "w"), [1.0, 2.0, 3.0]);
        assert_eq!(values(&parameters, "kept"), [0.5, 1.0 / 3.0]);
    }
}

#[test]
fn config_and_other_files_go_along() {
    let parent = tempfile::tempdir().unwrap();
    let tokenizer = parent.path().join("tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    let map = plain_map(&[("w", &[1])]);
    let values = || [("w".to_owned(), data(&[1], &[1.0]))];
    let mut files = SaveFiles {
        config: Some(serde_json::json!({ "model_type": "llama", "hidden_size": 1 })),
        generation_config: Some(serde_json::json!({ "eos_token_id": 1 })),
        copies: vec![tokenizer.clone()],
    };
    let target = parent.path().join("model");
    save_pretrained(&target, values(), &map, &SaveOptions::default(), &files).unwrap();
    assert_eq!(entries(&target), ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
    let config = fs::read_to_string(target.join("config.json")).unwrap();
    assert!(config.starts_with("{\n  \"model_type\": \"llama\""), "keys stay in order: {config}");

    let other = parent.path().join("other");
    files.copies = vec![tokenizer.clone(), tokenizer];
    let error = save_pretrained(&other, values(), &map, &SaveOptions::default(), &files).unwrap_err();
    assert!(matches!(error, LoadError::CarriedFile { .. }), "{error}");
    files.copies = vec![target.join("model.safetensors")];
    let error = save_pretrained(&other, values(), &map, &SaveOptions::default(), &files).unwrap_err();
    assert!(message(&error).contains("for the weights"), "{error}");
    assert_eq!(entries(parent.path()), ["model", "tokenizer.json"], "nothing is left behind");
}

#[test]
fn an_output_directory_that_exists() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let map = plain_map(&[("w", &[1])]);
    let write = |value: f32, overwrite: bool| {
        let mut options = SaveOptions::default();
        options.overwrite = overwrite;
        save_pretrained(&target, [("w".to_owned(), data(&[1], &[value]))], &map, &options, &SaveFiles::default())
    };
    fs::create_dir(&target).unwrap();
    write(1.0, false).expect("an empty directory is not in the way");
    let error = write(2.0, false).unwrap_err();
    assert!(matches!(error, LoadError::OutputExists { .. }) && message(&error).contains("is not empty"), "{error}");
    let first = load(&target, &map, &options()).unwrap().0;
    write(3.0, true).unwrap();
    assert_eq!(values(&load(&target, &map, &options()).unwrap().0, "w"), [3.0]);
    assert_eq!(values(&first, "w"), [1.0], "what was loaded from the replaced file stays");

    fs::create_dir(target.join("notes")).unwrap();
    assert!(message(&write(4.0, true).unwrap_err()).contains("does not look like a checkpoint"));
    fs::remove_dir_all(&target).unwrap();
    fs::write(&target, "a file").unwrap();
    assert!(message(&write(4.0, true).unwrap_err()).contains("is not a directory"));
    assert_eq!(entries(parent.path()), ["model"]);
}

#[test]
fn parameters_that_do_not_fit_the_map() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let q = || ("q", data(&[4, 3], &counting(12)));
    let error = save(&target, vec![("p", data(&[1], &[1.0]))], &layouts()).unwrap_err();
    assert!(matches!(error, LoadError::UnknownParameter { .. }), "{error}");
    let error = save(&target, vec![q(), q()], &layouts()).unwrap_err();
    assert!(matches!(error, LoadError::RepeatedParameter { .. }), "{error}");
    let error = save(&target, vec![("q", data(&[3, 4], &counting(12)))], &layouts()).unwrap_err();
    assert!(matches!(error, LoadError::ParameterShape { .. }), "{error}");
    let integers = TensorData::new(vec![0i32; 12], [4, 3]);
    let error = save(&target, vec![("q", integers)], &layouts()).unwrap_err();
    assert!(matches!(error, LoadError::ParameterDtype { .. }), "{error}");
    let error = save(&target, vec![q(), ("k", data(&[4, 3], &counting(12)))], &layouts()).unwrap_err();
    assert!(matches!(error, LoadError::UncoveredTensor { covered: 24, elements: 36, others: 3, .. }), "{error:?}");
    assert!(entries(parent.path()).is_empty(), "nothing is left behind");
}

#[test]
fn places_that_two_parameters_fill_must_agree() {
    let mut map = plain_map(&[("w", &[4])]);
    let head = vec![ViewOp::Narrow { axis: 0, start: 0, length: 2 }];
    map.parameters.push(slot("head", &[2], vec![SourcePiece::view("w", &[4], head)]));
    let parent = tempfile::tempdir().unwrap();
    let whole = || ("w", data(&[4], &counting(4)));
    save(&parent.path().join("same"), vec![whole(), ("head", data(&[2], &[0.0, 1.0]))], &map).unwrap();
    let error = save(&parent.path().join("other"), vec![whole(), ("head", data(&[2], &[0.0, 9.0]))], &map).unwrap_err();
    assert!(matches!(error, LoadError::ConflictingParameters { .. }), "{error}");
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let map = plain_map(&[("w", &[1])]);
    let mut writer = CheckpointWriter::new(&parent.path().join("model"), &map, &SaveOptions::default()).unwrap();
    writer.write("w", &data(&[1], &[1.0])).unwrap();
    assert_eq!(entries(parent.path()).len(), 1);
    drop(writer);
    assert!(entries(parent.path()).is_empty());
}
