//! Conversions that are killed and run again.

use crate::{
    common::{bf16s, sharded, slot},
    convert::{convert, json},
};
use automodel_loader::{
    CheckpointFiles, LoadError, QuantizationConfig, RequantizeOptions, RequantizeProgress, SaveFiles,
    quantize_checkpoint,
};
use automodel_registry::weights::{SourcePiece, WeightMap};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const MATRICES: usize = 12;
const SOURCE: &str = "AUTOMODEL_TEST_CONVERT_SOURCE";
const OUT: &str = "AUTOMODEL_TEST_CONVERT_OUT";

fn source() -> tempfile::TempDir {
    let matrix = |number: usize| {
        let values: Vec<f32> = (0..128 * 96).map(|at| ((at * (number + 3)) as f32).sin()).collect();
        bf16s(&format!("layers.{number}.weight"), &[128, 96], &values)
    };
    let directory = sharded(&[
        ("a.safetensors", (0..MATRICES / 2).map(matrix).collect()),
        ("b.safetensors", (MATRICES / 2..MATRICES).map(matrix).collect()),
    ]);
    fs::write(directory.path().join("config.json"), r#"{"dtype": "bfloat16"}"#).unwrap();
    directory
}

fn map() -> WeightMap {
    let mut map = WeightMap::default();
    for number in 0..MATRICES {
        let name = format!("layers.{number}.weight");
        map.parameters.push(slot(&name, &[128, 96], vec![SourcePiece::whole(name.as_str(), &[128, 96])]));
    }
    map
}

fn options() -> RequantizeOptions {
    let mut options = RequantizeOptions::default();
    options.max_shard_bytes = 10_000;
    options
}

fn config() -> QuantizationConfig {
    QuantizationConfig::nf4().with_double_quant(true)
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap())).collect()
}

/// Not a test: the process that `killed_runs_are_continued` starts and kills.
#[test]
#[ignore = "started by another test"]
fn worker() {
    if let (Some(source), Some(out)) = (std::env::var_os(SOURCE), std::env::var_os(OUT)) {
        let files = CheckpointFiles::open(Path::new(&source)).unwrap();
        // Slow enough to be killed on the way.
        let mut progress = |_: RequantizeProgress<'_>| thread::sleep(Duration::from_millis(5));
        let (out, beside) = (Path::new(&out), SaveFiles::default());
        quantize_checkpoint(&files, &map(), &config(), out, &options(), &beside, &mut progress).unwrap();
    }
}

fn start(source: &Path, out: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "interrupted::worker", "--ignored"])
        .env(SOURCE, source)
        .env(OUT, out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_runs_are_continued() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let whole = parent.path().join("whole");
    let begin = Instant::now();
    assert!(start(source.path(), &whole).wait().unwrap().success());
    let duration = begin.elapsed().max(Duration::from_millis(20));
    let expected = contents(&whole);
    assert_eq!(expected.len(), MATRICES + 2);

    let (mut halfway, mut state) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    for round in 0..12 {
        let out = parent.path().join(format!("out-{round}"));
        let partial = parent.path().join(format!(".out-{round}.partial"));
        // Killed up to three times on the way.
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut child = start(source.path(), &out);
            thread::sleep(duration.mul_f64((state >> 40) as f64 / (1 << 24) as f64));
            child.kill().unwrap();
            child.wait().unwrap();
            halfway += usize::from(partial.join("checkpoint/model-00001-of-00012.safetensors").exists());
            // Either everything is there under its name, or nothing.
            if out.exists() {
                assert_eq!(contents(&out), expected);
                break;
            }
        }
        if partial.join("journal.json").exists() || !out.exists() {
            convert(source.path(), &map(), &config(), &out, &options()).unwrap();
        }
        assert_eq!(contents(&out), expected);
    }
    assert!(halfway > 0, "no run was killed between its first shard and its end");
}

/// Starts a run that stops at a given tensor by a panic, as a crash would.
fn crash_after(source: &Path, out: &Path, tensors: usize) {
    let files = CheckpointFiles::open(source).unwrap();
    let mut left = tensors;
    let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut progress = |_: RequantizeProgress<'_>| {
            left -= 1;
            if left == 0 {
                std::panic::resume_unwind(Box::new("crash"));
            }
        };
        quantize_checkpoint(&files, &map(), &config(), out, &options(), &SaveFiles::default(), &mut progress)
    }));
    assert!(crashed.is_err());
}

#[test]
fn only_the_same_run_is_continued() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let out = parent.path().join("out");
    let partial = parent.path().join(".out.partial");
    crash_after(source.path(), &out, 5);
    assert!(!out.exists() && partial.join("checkpoint").exists());
    let report = convert(source.path(), &map(), &config(), &out, &options()).unwrap();
    assert_eq!((report.resumed_shards, report.shards.len()), (4, MATRICES));
    assert!(!partial.exists());
    let expected = contents(&out);

    // A damaged shard is written again, another setting or another source begins anew, and so does whoever asks for it.
    let again = |change: &dyn Fn(), config: &QuantizationConfig, options: &RequantizeOptions| {
        fs::remove_dir_all(&out).unwrap();
        crash_after(source.path(), &out, 5);
        change();
        convert(source.path(), &map(), config, &out, options).unwrap().resumed_shards
    };
    let unchanged = &|| ();
    let mut restart = options();
    restart.restart = true;
    assert_eq!(again(unchanged, &config(), &restart), 0);
    assert_eq!(contents(&out), expected);
    let mut larger = options();
    larger.max_shard_bytes = 20_000;
    assert_eq!(again(unchanged, &config(), &larger), 0);
    assert_eq!(again(unchanged, &QuantizationConfig::fp4(), &options()), 0);
    assert_eq!(json(&out.join("config.json"))["quantization_config"]["bnb_4bit_quant_type"], "fp4");
    let touched = || {
        let path = source.path().join("a.safetensors");
        let bytes = fs::read(&path).unwrap();
        thread::sleep(Duration::from_millis(20));
        fs::write(&path, bytes).unwrap();
    };
    assert_eq!(again(&touched, &config(), &options()), 0);
    assert_eq!(contents(&out), expected);
    let damaged = || {
        let shard = partial.join("checkpoint/model-00002-of-00012.safetensors");
        fs::File::options().write(true).open(shard).unwrap().set_len(5000).unwrap();
    };
    assert_eq!(again(&damaged, &config(), &options()), 3);
    assert_eq!(contents(&out), expected);
}

#[test]
fn an_interrupted_replacement_loses_nothing() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
    convert(source.path(), &map(), &QuantizationConfig::fp4(), &out, &options()).unwrap();
    let mut overwrite = options();
    overwrite.overwrite = true;
    let first = contents(&out);
    let journal = |committing: bool| {
        let path = partial.join("journal.json");
        let mut journal = json(&path);
        journal["committing"] = committing.into();
        fs::write(path, journal.to_string()).unwrap();
    };
    // The old checkpoint was set aside, the new one has not appeared: another run gives the old one back.
    let crash = || {
        let files = CheckpointFiles::open(source.path()).unwrap();
        let stop = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut progress = |progress: RequantizeProgress<'_>| {
                if progress.bytes_done == progress.bytes_total {
                    std::panic::resume_unwind(Box::new("crash"));
                }
            };
            let (map, config, files_beside) = (map(), config(), SaveFiles::default());
            quantize_checkpoint(&files, &map, &config, &out, &overwrite, &files_beside, &mut progress)
        }));
        assert!(stop.is_err());
    };
    crash();
    journal(true);
    fs::rename(&out, partial.join("old")).unwrap();
    let error = convert(source.path(), &map(), &QuantizationConfig::fp4(), &out, &options()).unwrap_err();
    assert!(matches!(error, LoadError::OutputExists { .. }), "{error}");
    assert_eq!(contents(&out), first);
    assert!(!partial.exists());

    // The same run goes on and replaces it.
    crash();
    journal(true);
    fs::rename(&out, partial.join("old")).unwrap();
    convert(source.path(), &map(), &config(), &out, &overwrite).unwrap();
    assert_ne!(contents(&out), first);
    assert!(!partial.exists());

    // The new one had appeared, and only the tidying up was left.
    let second = contents(&out);
    crash();
    journal(true);
    fs::remove_dir_all(partial.join("checkpoint")).unwrap();
    let report = convert(source.path(), &map(), &config(), &out, &options()).unwrap();
    assert_eq!(report.resumed_shards, report.shards.len());
    assert_eq!(contents(&out), second);
    assert!(!partial.exists());
}

#[test]
fn a_place_that_is_taken() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
    fs::create_dir(&partial).unwrap();
    let lock = fs::File::create(partial.join("lock")).unwrap();
    lock.lock().unwrap();
    let error = convert(source.path(), &map(), &config(), &out, &options()).unwrap_err();
    assert!(matches!(error, LoadError::OutputBusy { .. }), "{error}");
    drop(lock);
    fs::write(partial.join("diary.txt"), "mine").unwrap();
    let error = convert(source.path(), &map(), &config(), &out, &options()).unwrap_err();
    assert!(error.to_string().contains("automodel did not write"), "{error}");
    fs::remove_file(partial.join("diary.txt")).unwrap();
    convert(source.path(), &map(), &config(), &out, &options()).unwrap();
    assert!(!partial.exists());
}
