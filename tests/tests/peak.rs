//! How much memory a quantised load takes, by the allocator and by the system. The only test of its process, so that nothing else
//! is counted.

mod counting;

use automodel::loader::{CheckpointFiles, LoadOptions, LoadPlan, QuantizationConfig, execute};
use automodel::registry::weights::{ParameterRole, ParameterSlot, SourcePiece, ViewOp, WeightMap};
use burn::tensor::Device;
use counting::{HIGHEST, NOW};
use std::{fs::File, io::Write, path::Path, sync::atomic::Ordering::Relaxed};

const MIB: u64 = 1 << 20;

/// A file of zeros, which takes no space, with bfloat16 tensors.
fn write_sparse(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let end = at + 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = serde_json::to_string(&header).unwrap();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + at) as u64).unwrap();
}

fn slot(path: &str, shape: &[usize], role: ParameterRole, piece: SourcePiece) -> ParameterSlot {
    ParameterSlot { path: path.into(), shape: shape.to_vec(), role, keep_float32: false, pieces: vec![piece] }
}

/// 200 MB: an embedding, plain, fused and transposed projections, norms.
fn write_model(path: &Path) -> WeightMap {
    let (mut map, mut tensors) = (WeightMap { transposed_projections: true, ..WeightMap::default() }, Vec::new());
    let embedding = vec![8192, 1024];
    tensors.push(("embed.weight".to_owned(), embedding.clone()));
    let piece = SourcePiece::whole("embed.weight", &embedding);
    map.parameters.push(slot("embed.weight", &embedding, ParameterRole::Embedding, piece));
    for layer in 0..4 {
        let name = |part: &str| format!("layers.{layer}.{part}.weight");
        let mut add = |part: &str, stored: &[usize], shape: &[usize], ops: Vec<ViewOp>, to: &str, role| {
            if tensors.iter().all(|(known, _)| *known != name(part)) {
                tensors.push((name(part), stored.to_vec()));
            }
            map.parameters.push(slot(&name(to), shape, role, SourcePiece::view(name(part), stored, ops)));
        };
        let projection = ParameterRole::Projection;
        add("up", &[4096, 2048], &[4096, 2048], vec![], "up", projection);
        add("conv", &[4096, 2048], &[2048, 4096], vec![ViewOp::Transpose(0, 1)], "conv", projection);
        for (number, part) in ["q", "k", "v"].into_iter().enumerate() {
            let narrow = ViewOp::Narrow { axis: 0, start: number * 1024, length: 1024 };
            add("qkv", &[3072, 2048], &[1024, 2048], vec![narrow], part, projection);
        }
        add("norm", &[2048], &[2048], vec![], "norm", ParameterRole::Norm);
    }
    write_sparse(path, &tensors);
    map
}

#[test]
fn memory_stays_near_the_quantised_size() {
    let directory = tempfile::tempdir().unwrap();
    let map = write_model(&directory.path().join("model.safetensors"));
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let device = Device::flex();
    let largest = files.tensors().values().map(|info| info.range.end - info.range.start).max().unwrap();
    for config in [QuantizationConfig::nf4(), QuantizationConfig::fp4().with_double_quant(true)] {
        let options = LoadOptions::new(&device).with_quantization(config);
        let plan = LoadPlan::new(&files, &map, &options).unwrap();
        assert!(plan.stored_bytes > 190 * MIB && plan.quantized_bytes() > 40 * MIB, "{plan}");
        let bound = plan.target_bytes + 2 * largest + 64 * MIB;
        assert!(bound < plan.stored_bytes, "the bound shows that the full weights are never in memory");
        assert!(plan.peak_bytes <= bound);

        let before = NOW.load(Relaxed);
        HIGHEST.store(before, Relaxed);
        let (parameters, report) = execute(&plan, &files, &device, &mut |_| {}).unwrap();
        let allocated = (HIGHEST.load(Relaxed) - before) as u64;
        assert!(allocated <= bound, "{allocated} bytes were allocated, the bound is {bound}");
        assert!(allocated >= plan.target_bytes - plan.mapped_bytes, "the allocator counts: {allocated}");
        if let Some(resident) = report.measured_peak_bytes {
            assert!(resident <= bound, "{resident} bytes were resident, the bound is {bound}");
            assert!(resident <= plan.peak_bytes + 16 * MIB, "{resident} resident, planned {}", plan.peak_bytes);
        }
        drop(parameters);
        // The peak of the whole process, its code and threads included.
        #[cfg(target_os = "linux")]
        {
            let highest = high_water_mark();
            assert!(
                highest <= bound + 64 * MIB,
                "{highest} bytes at most, the bound is {bound} and 64 MiB for the process"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn high_water_mark() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}
