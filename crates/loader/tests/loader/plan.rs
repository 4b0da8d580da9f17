//! What a plan says before any weight is read.

use crate::common::{bf16s, checkpoint, counting, f16s, f32s, message, options, plain_map, sharded, slot, stored};
use automodel_loader::{CheckpointFiles, DtypePolicy, LoadError, LoadPlan, identity_map};
use automodel_registry::weights::{IgnoredTensors, SourcePiece, ViewOp, WeightMap};
use burn::tensor::FloatDType::{BF16, F16, F32, F64};
use safetensors::Dtype;
use std::path::Path;

fn plan(directory: &Path, map: &WeightMap) -> Result<LoadPlan, LoadError> {
    LoadPlan::new(&CheckpointFiles::open(directory).unwrap(), map, &options())
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let directory = checkpoint(&[
        f32s("model.layers.0.mlp.up.weight", &[2, 3], &counting(6)),
        f32s("model.norm.weight", &[4], &counting(4)),
        stored("model.packed.weight", Dtype::U8, &[4], vec![0; 4]),
        stored("model.scaled.weight", Dtype::F8_E4M3, &[4], vec![0; 4]),
    ]);
    let mut map = plain_map(&[
        ("model.layers.0.mlp.up_proj.weight", &[2, 3]),
        ("model.norm.weight", &[8]),
        ("model.packed.weight", &[4]),
        ("model.scaled.weight", &[4]),
    ]);
    map.parameters.push(slot("model.short", &[5], vec![SourcePiece::whole("model.layers.0.mlp.up.weight", &[2, 3])]));
    let error = plan(directory.path(), &map).unwrap_err();
    let text = message(&error);
    let LoadError::Mismatch { problems, .. } = error else { panic!("{error:?}") };
    assert_eq!(problems.missing[0].parameter, "model.layers.0.mlp.up_proj.weight");
    assert_eq!((problems.shapes.len(), problems.dtypes.len(), problems.map.len()), (1, 2, 1));
    for part in [
        "1 tensor(s) missing: `model.layers.0.mlp.up_proj.weight`",
        "`model.norm.weight` is [4] and should be [8]",
        "`model.packed.weight` is U8, `model.scaled.weight` is F8_E4M3",
        "scales",
        "`model.short`: its pieces have 6 elements",
    ] {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

#[test]
fn missing_tensors_come_with_similar_names_ten_at_a_time() {
    let stored: Vec<_> = (0..20).map(|n| f32s(&format!("layers.{n}.attn.weight"), &[1], &[0.0])).collect();
    let directory = checkpoint(&stored);
    let paths: Vec<String> = (0..20).map(|n| format!("layers.{n}.attention.weight")).collect();
    let map = plain_map(&paths.iter().map(|path| (path.as_str(), &[1usize][..])).collect::<Vec<_>>());
    let text = message(&plan(directory.path(), &map).unwrap_err());
    assert!(
        text.contains("20 tensor(s) missing: `layers.0.attention.weight` (similar: `layers.0.attn.weight`"),
        "{text}"
    );
    assert!(text.contains("and 10 more; 20 tensor(s) of the files are read by nothing"), "{text}");
}

#[test]
fn parameters_may_stay_without_a_value_on_request() {
    let directory = checkpoint(&[f32s("a", &[1], &[0.0])]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let mut options = options();
    options.allow_missing = true;
    let plan = LoadPlan::new(&files, &plain_map(&[("a", &[1]), ("b", &[1])]), &options).unwrap();
    assert_eq!((plan.rows.len(), plan.missing[0].parameter.as_str()), (1, "b"));
}

#[test]
fn extra_tensors_are_listed_and_ignored_ones_apart() {
    let directory = checkpoint(&[
        f32s("h.0.attn.bias", &[1], &[0.0]),
        f32s("h.0.weight", &[1], &[0.0]),
        f32s("stray", &[1], &[0.0]),
    ]);
    let mut map = plain_map(&[("transformer.h.0.weight", &[1])]);
    map.prefixes.push(("transformer.".into(), String::new()));
    map.ignored.push(IgnoredTensors { pattern: "transformer.h.*.attn.bias".into(), reason: "a constant mask".into() });
    let plan = plan(directory.path(), &map).unwrap();
    assert_eq!(plan.unexpected, ["stray"]);
    assert_eq!(plan.ignored, [("h.0.attn.bias".to_owned(), "a constant mask".to_owned())]);
    assert_eq!(plan.rows[0].sources().next().unwrap().tensor, "h.0.weight");
    assert_eq!(plan.renamed, [("transformer.".to_owned(), String::new())]);
    assert!(plan.warnings.iter().any(|warning| warning.contains("`stray`")));
}

#[test]
fn dtypes_follow_the_policy_and_say_why() {
    let directory = checkpoint(&[
        bf16s("bf16", &[4], &counting(4)),
        f16s("f16", &[4], &counting(4)),
        f32s("f32", &[4], &counting(4)),
        stored("f64", Dtype::F64, &[4], vec![0; 32]),
    ]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let map = identity_map(&files);
    let targets = |policy| {
        let plan = LoadPlan::new(&files, &map, &options().with_dtype(policy)).unwrap();
        let targets: Vec<_> = plan.rows.iter().map(|row| row.target()).collect();
        (targets, plan)
    };
    let (automatic, plan) = targets(DtypePolicy::Auto);
    assert_eq!(automatic, [F32, F32, F32, F32]);
    assert!(plan.row("bf16").unwrap().reason().contains("computes in float32"));
    assert_eq!(plan.row("f32").unwrap().reason(), "as stored");
    assert!(plan.row("f64").unwrap().reason().contains("unless float64 is asked for"));
    let (explicit, plan) = targets(DtypePolicy::AtLeast(BF16));
    assert_eq!(explicit, [BF16, BF16, F32, F32]);
    assert!(plan.warnings.iter().any(|warning| warning.starts_with("bfloat16 on the CPU")));
    assert!(plan.warnings.iter().any(|warning| warning.starts_with("parameters of several dtypes")));
    assert_eq!(targets(DtypePolicy::AtLeast(F64)).0, [F64; 4]);
    assert_eq!(targets(DtypePolicy::Cast(F16)).0, [F16; 4]);
}

#[test]
fn bytes_are_counted_for_files_device_and_peak() {
    let directory = sharded(&[
        ("a.safetensors", vec![f32s("fused", &[6, 4], &counting(24))]),
        ("b.safetensors", vec![bf16s("half", &[2, 4], &counting(8)), f32s("unread", &[1], &[0.0])]),
    ]);
    let narrow = |start| vec![ViewOp::Narrow { axis: 0, start, length: 3 }];
    let mut map = plain_map(&[("half", &[2, 4])]);
    map.parameters.insert(0, slot("q", &[3, 4], vec![SourcePiece::view("fused", &[6, 4], narrow(0))]));
    map.parameters.insert(1, slot("k", &[3, 4], vec![SourcePiece::view("fused", &[6, 4], narrow(3))]));
    let plan = plan(directory.path(), &map).unwrap();
    assert_eq!(plan.stored_bytes, 24 * 4 + 8 * 2);
    assert_eq!(plan.target_bytes, 24 * 4 + 8 * 4);
    // Both parts of the fused tensor are used in place; the half-precision tensor is converted.
    assert_eq!(plan.mapped_bytes, 24 * 4);
    assert_eq!(plan.peak_bytes, plan.target_bytes + 16);
    assert_eq!(plan.rows.iter().map(|row| row.is_mapped()).collect::<Vec<_>>(), [true, true, false]);
    let table = plan.to_string();
    for part in ["parameter", "q ", "mapped", "converted", "a.safetensors[", "warning: 1 tensor(s)", "on CPU (Flex)"] {
        assert!(table.contains(part), "{part:?} in\n{table}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["rows"][2]["stored"], "BF16");
    assert_eq!(json["device"], "CPU (Flex)");
}

#[test]
fn a_plan_for_twenty_thousand_tensors_is_cheap() {
    let header: String = (0..20_000)
        .map(|n| format!(r#""model.layers.{}.mlp.experts.{}.up_proj.weight":{{"dtype":"BF16","shape":[2],"data_offsets":[{},{}]}}"#, n / 64, n % 64, n * 4, n * 4 + 4))
        .collect::<Vec<_>>()
        .join(",");
    let header = format!("{{{header}}}");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + 80_000, 0);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let map = identity_map(&files);
    assert_eq!(plan(directory.path(), &map).unwrap().rows.len(), 20_000);

    // Nothing fits: the worst case for the search of similar names. Comparing all pairs of names would take minutes.
    let mut renamed = map.clone();
    for slot in &mut renamed.parameters {
        slot.pieces[0].tensor = slot.pieces[0].tensor.replace("up_proj", "w1");
    }
    let start = std::time::Instant::now();
    let error = plan(directory.path(), &renamed).unwrap_err();
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert!(error.to_string().contains("20000 tensor(s) missing"));
}
