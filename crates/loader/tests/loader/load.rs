//! What arrives on the device.

use crate::common::{bf16s, checkpoint, counting, f16s, f32s, load, options, plain_map, sharded, slot, stored, values};
use automodel_loader::{CheckpointFiles, DtypePolicy, LoadError, LoadPlan, StoredDtype, execute, identity_map};
use automodel_registry::weights::{SourcePiece, ViewOp, WeightMap};
use burn::tensor::{Device, FloatDType, Tensor};
use safetensors::Dtype;
use std::fs;

#[test]
fn parameters_on_the_cpu_stay_in_the_mapped_file() {
    let directory = checkpoint(&[f32s("w", &[256, 64], &counting(256 * 64)), bf16s("b", &[2], &[1.0, 2.0])]);
    let (mut parameters, report) =
        load(directory.path(), &plain_map(&[("w", &[256, 64]), ("b", &[2])]), &options()).unwrap();
    assert_eq!((report.mapped_bytes, report.copied_bytes), (256 * 64 * 4, 8));
    assert!(report.measured_peak_bytes.is_some() || !cfg!(target_os = "linux"));
    let weight: Tensor<2> = parameters.take("w").unwrap().tensor().unwrap();
    // The clone keeps the storage shared; the only owner hands over its bytes without a copy.
    let product = weight.clone().matmul(weight.clone().transpose());
    assert_eq!(product.dims(), [256, 256]);
    let data = weight.into_data();
    assert_eq!(data.try_to_vec::<f32>().unwrap(), counting(256 * 64));
    #[cfg(target_os = "linux")]
    assert!(is_mapped(data.bytes().as_ptr() as usize, "model.safetensors"));
    let bias = parameters.take("b").unwrap().try_into_data().unwrap();
    #[cfg(target_os = "linux")]
    assert!(!is_mapped(bias.bytes().as_ptr() as usize, "model.safetensors"));
    assert_eq!(bias.try_to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert!(parameters.is_empty());
}

/// Whether `address` lies in a mapping of a file of that name, by `/proc/self/maps`.
#[cfg(target_os = "linux")]
pub fn is_mapped(address: usize, name: &str) -> bool {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.ends_with(name)).any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
        (hex(start)..hex(end)).contains(&address)
    })
}

#[test]
fn mapped_parameters_outlive_the_file() {
    let directory = checkpoint(&[f32s("w", &[64, 64], &counting(4096))]);
    let (parameters, _) = load(directory.path(), &plain_map(&[("w", &[64, 64])]), &options()).unwrap();
    drop(directory);
    assert_eq!(values(&parameters, "w"), counting(4096));
}

#[test]
fn changing_a_mapped_parameter_does_not_change_the_file() {
    let directory = checkpoint(&[f32s("w", &[4], &counting(4))]);
    let (mut parameters, _) = load(directory.path(), &plain_map(&[("w", &[4])]), &options()).unwrap();
    let weight: Tensor<1> = parameters.take("w").unwrap().tensor().unwrap();
    assert_eq!((weight + 1.0).into_data().try_to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let (parameters, _) = load(directory.path(), &plain_map(&[("w", &[4])]), &options()).unwrap();
    assert_eq!(values(&parameters, "w"), counting(4));
}

#[test]
fn misaligned_tensors_are_copied() {
    // Ten bytes of header make every float32 start at an odd place.
    let header = r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    assert_ne!(bytes.len() % 4, 0);
    bytes.extend([1f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    let (parameters, report) = load(directory.path(), &plain_map(&[("w", &[3])]), &options()).unwrap();
    assert_eq!((report.mapped_bytes, report.copied_bytes), (0, 12));
    assert_eq!(values(&parameters, "w"), [1.0, 2.0, 3.0]);
}

#[test]
fn nothing_is_mapped_on_request() {
    let directory = checkpoint(&[f32s("w", &[3], &counting(3))]);
    let mut options = options();
    options.zero_copy = false;
    let (parameters, report) = load(directory.path(), &plain_map(&[("w", &[3])]), &options).unwrap();
    assert_eq!((report.mapped_bytes, report.copied_bytes), (0, 12));
    assert_eq!(values(&parameters, "w"), counting(3));
}

/// A fused projection `[heads = 2, 3, dim = 2] x 3`, a Conv1D, experts apart, and all dtypes.
fn layouts() -> (tempfile::TempDir, WeightMap) {
    let directory = sharded(&[
        ("a.safetensors", vec![f32s("qkv", &[12, 3], &counting(36)), bf16s("conv", &[2, 3], &counting(6))]),
        ("b.safetensors", vec![f16s("e.0", &[2, 2], &counting(4)), f32s("e.1", &[2, 2], &[4.0, 5.0, 6.0, 7.0])]),
    ]);
    let head = |index| vec![ViewOp::SplitAxis { axis: 0, sizes: vec![2, 3, 2] }, ViewOp::Select { axis: 1, index }];
    let mut map = WeightMap::default();
    for (index, name) in ["q", "k", "v"].into_iter().enumerate() {
        map.parameters.push(slot(name, &[4, 3], vec![SourcePiece::view("qkv", &[12, 3], head(index))]));
    }
    let transposed = SourcePiece::view("conv", &[2, 3], vec![ViewOp::Transpose(0, 1)]);
    map.parameters.push(slot("linear", &[3, 2], vec![transposed]));
    let experts = vec![SourcePiece::whole("e.0", &[2, 2]), SourcePiece::whole("e.1", &[2, 2])];
    map.parameters.push(slot("experts", &[2, 2, 2], experts));
    (directory, map)
}

#[test]
fn fused_transposed_and_stacked_layouts() {
    let (directory, map) = layouts();
    let mut done = Vec::new();
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &map, &options()).unwrap();
    let (parameters, report) = execute(&plan, &files, &Device::flex(), &mut |progress| {
        done.push((progress.bytes_done, progress.bytes_total, progress.parameter.to_owned()));
    })
    .unwrap();
    let rows =
        |rows: &[usize]| rows.iter().flat_map(|row| (0..3).map(move |c| (row * 3 + c) as f32)).collect::<Vec<_>>();
    assert_eq!(values(&parameters, "q"), rows(&[0, 1, 6, 7]));
    assert_eq!(values(&parameters, "k"), rows(&[2, 3, 8, 9]));
    assert_eq!(values(&parameters, "v"), rows(&[4, 5, 10, 11]));
    assert_eq!(values(&parameters, "linear"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values(&parameters, "experts"), counting(8));
    assert_eq!(parameters.get("experts").unwrap().shape, [2, 2, 2]);
    assert_eq!(done.last().unwrap().0, plan.target_bytes);
    assert_eq!(done.iter().map(|(.., name)| name.as_str()).rfind(|name| name.len() > 1), Some("experts"), "{done:?}");
    // q, k, v and the stack, whose widest part is float32.
    let as_stored = report.dtypes.iter().find(|entry| entry.stored == StoredDtype::F32).unwrap();
    assert_eq!((as_stored.parameters, as_stored.bytes), (4, 3 * 48 + 32));
    assert_eq!(report.planned_peak_bytes, plan.peak_bytes);
}

#[test]
fn every_dtype_becomes_every_dtype() {
    let value = |index: usize| [1.5f32, -2.25, 0.0, 30000.0, 1e-3][index % 5];
    let list: Vec<f32> = (0..5000).map(value).collect();
    let doubles = list.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
    let directory = checkpoint(&[
        bf16s("bf16", &[5000], &list),
        f16s("f16", &[5000], &list),
        f32s("f32", &[5000], &list),
        stored("f64", Dtype::F64, &[5000], doubles),
    ]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let map = identity_map(&files);
    for dtype in [FloatDType::F64, FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
        let (parameters, _) = load(directory.path(), &map, &options().with_dtype(DtypePolicy::Cast(dtype))).unwrap();
        for name in ["bf16", "f16", "f32", "f64"] {
            assert_eq!(parameters.get(name).unwrap().dtype, dtype);
            let loaded = values(&parameters, name);
            assert!(loaded.iter().zip(&list).all(|(a, b)| (a - b).abs() <= b.abs() / 128.0), "{name} as {dtype:?}");
        }
    }
}

#[test]
fn small_windows_load_the_same_values() {
    let elements = 3 << 20;
    let list: Vec<f32> = (0..elements).map(|n| (n % 253) as f32).collect();
    let directory = checkpoint(&[bf16s("w", &[1024, 3072], &list)]);
    let narrow = ViewOp::Narrow { axis: 1, start: 1000, length: 2000 };
    let mut map = plain_map(&[("w", &[1024, 3072])]);
    map.parameters.push(slot("part", &[1024, 2000], vec![SourcePiece::view("w", &[1024, 3072], vec![narrow])]));
    let mut options = options();
    options.max_bytes_in_flight = 1;
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &map, &options).unwrap();
    // The smallest window is a mebibyte.
    assert_eq!(plan.peak_bytes - plan.target_bytes, 1 << 20);
    let (parameters, _) = load(directory.path(), &map, &options).unwrap();
    assert!(values(&parameters, "w") == list);
    let part: Vec<f32> = list.chunks(3072).flat_map(|row| row[1000..3000].to_vec()).collect();
    assert!(values(&parameters, "part") == part);
}

#[test]
fn nan_and_infinite_weights_are_reported() {
    let mut list = counting(100);
    list[41] = f32::NAN;
    list[77] = f32::INFINITY;
    let directory = checkpoint(&[f32s("mapped", &[100], &list), bf16s("converted", &[10, 10], &list)]);
    let map = plain_map(&[("mapped", &[100]), ("converted", &[10, 10])]);
    let (_, report) = load(directory.path(), &map, &options()).unwrap();
    assert_eq!(report.non_finite.len(), 1, "mapped parameters are not read");
    let mut options = options();
    options.check_finite = true;
    let (_, report) = load(directory.path(), &map, &options).unwrap();
    assert_eq!(report.non_finite.len(), 2);
    for entry in &report.non_finite {
        assert_eq!((entry.count, entry.first_index), (2, 41), "{entry:?}");
    }
}

#[test]
fn empty_and_scalar_tensors() {
    let directory = checkpoint(&[f32s("empty", &[0, 4], &[]), f32s("scalar", &[], &[3.0])]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let (parameters, _) = load(directory.path(), &identity_map(&files), &options()).unwrap();
    assert_eq!(parameters.get("empty").unwrap().shape, [0, 4]);
    assert_eq!(values(&parameters, "scalar"), [3.0]);
}

#[test]
fn a_file_that_changed_after_planning_is_refused() {
    let directory = checkpoint(&[f32s("w", &[64], &counting(64))]);
    let path = directory.path().join("model.safetensors");
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &plain_map(&[("w", &[64])]), &options()).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let error = execute(&plan, &files, &Device::flex(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::ShardChanged { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = execute(&plan, &files, &Device::flex(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Io { .. }), "{error}");
}

#[test]
fn a_plan_for_another_checkpoint_is_refused() {
    let (one, two) = (checkpoint(&[f32s("w", &[4], &counting(4))]), checkpoint(&[f32s("w", &[5], &counting(5))]));
    let files = CheckpointFiles::open(one.path()).unwrap();
    let plan = LoadPlan::new(&files, &plain_map(&[("w", &[4])]), &options()).unwrap();
    let other = CheckpointFiles::open(two.path()).unwrap();
    let error = execute(&plan, &other, &Device::flex(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::StalePlan { .. }), "{error}");
}
