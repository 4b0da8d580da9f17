//! Where checkpoints are written: what is in the way, what is not deleted, and names that always lead to something whole.

use crate::{
    common::{Stored, bf16s, checkpoint, counting, f32s, load, message, options, plain_map, sharded, values},
    convert::convert,
};
use automodel_loader::{
    CheckpointFiles, CheckpointWriter, LoadError, QuantizationConfig, RequantizeOptions, RequantizeProgress, SaveFiles,
    SaveOptions, check_output, quantize_checkpoint, save_pretrained,
};
use automodel_registry::weights::WeightMap;
use burn::tensor::TensorData;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

fn matrix() -> (tempfile::TempDir, WeightMap) {
    let source = checkpoint(&[bf16s("w.weight", &[8, 64], &counting(512))]);
    fs::write(source.path().join("config.json"), "{}").unwrap();
    (source, plain_map(&[("w.weight", &[8, 64])]))
}

fn quantize(source: &Path, map: &WeightMap, out: &Path) -> Result<(), LoadError> {
    convert(source, map, &QuantizationConfig::nf4(), out, &RequantizeOptions::default()).map(drop)
}

fn save(out: &Path, value: f32, overwrite: bool) -> Result<(), LoadError> {
    let mut options = SaveOptions::default();
    options.overwrite = overwrite;
    let values = [("w".to_owned(), TensorData::new(vec![value], [1]))];
    save_pretrained(out, values, &plain_map(&[("w", &[1])]), &options, &SaveFiles::default()).map(drop)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below a directory with its text.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() { found.extend(contents(&path)) } else { found.push((path.clone(), fs::read(path).unwrap())) }
    }
    found
}

#[cfg(unix)]
#[test]
fn nothing_is_written_or_deleted_through_links() {
    use std::os::unix::fs::symlink;
    let (source, map) = matrix();
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 5] = [
        ("the whole place", |partial, victim| symlink(victim, partial).unwrap()),
        ("the checkpoint", |partial, victim| {
            fs::create_dir(partial).unwrap();
            symlink(victim.join("checkpoint"), partial.join("checkpoint")).unwrap();
        }),
        ("the lock", |partial, victim| {
            fs::create_dir(partial).unwrap();
            symlink(victim.join("lock"), partial.join("lock")).unwrap();
        }),
        ("a lock that would be made", |partial, victim| {
            fs::create_dir(partial).unwrap();
            symlink(victim.join("absent"), partial.join("lock")).unwrap();
        }),
        ("the journal", |partial, victim| {
            fs::create_dir(partial).unwrap();
            symlink(victim.join("lock"), partial.join("journal.json.new")).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let parent = tempfile::tempdir().unwrap();
        let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
        let victim = parent.path().join("victim");
        fs::create_dir_all(victim.join("checkpoint")).unwrap();
        fs::create_dir_all(victim.join("old")).unwrap();
        for name in ["checkpoint/weights.bin", "old/weights.bin", "lock"] {
            fs::write(victim.join(name), "precious").unwrap();
        }
        let before = contents(&victim);
        plant(&partial, &victim);
        for outcome in [quantize(source.path(), &map, &out), save(&out, 1.0, false), save(&out, 1.0, true)] {
            let error = outcome.unwrap_err();
            assert!(message(&error).contains("is a link"), "{what}: {}", message(&error));
            assert_eq!(contents(&victim), before, "{what}");
            assert!(!out.exists(), "{what}");
        }
    }
}

/// The files of a run that is continued are written anew: whatever stands in their places is not followed.
#[cfg(unix)]
#[test]
fn links_among_the_files_of_an_interrupted_run_begin_it_anew() {
    use std::os::unix::fs::symlink;
    let (source, map) = matrix();
    let parent = tempfile::tempdir().unwrap();
    let (out, victim) = (parent.path().join("out"), parent.path().join("precious"));
    fs::write(&victim, "precious").unwrap();
    let files = CheckpointFiles::open(source.path()).unwrap();
    let (config, options) = (QuantizationConfig::nf4(), RequantizeOptions::default());
    let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut crash = |_: RequantizeProgress<'_>| std::panic::resume_unwind(Box::new("crash"));
        quantize_checkpoint(&files, &map, &config, &out, &options, &SaveFiles::default(), &mut crash)
    }));
    assert!(crashed.is_err());
    let staging = parent.path().join(".out.partial/checkpoint");
    for name in ["model.safetensors", "model.safetensors.partial", "config.json"] {
        let _ = fs::remove_file(staging.join(name));
        symlink(&victim, staging.join(name)).unwrap();
    }
    quantize(source.path(), &map, &out).unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(out.join("config.json")).unwrap().is_file());
    assert_eq!(names(parent.path()), ["out", "precious"]);
}

#[test]
fn output_paths_are_checked_before_the_work() {
    let (source, map) = matrix();
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    fs::write(at("file"), "a file").unwrap();
    fs::create_dir_all(at("holder")).unwrap();
    let inner = at("holder").join("model");
    fs::create_dir(&inner).unwrap();
    for name in names(source.path()) {
        fs::copy(source.path().join(&name), inner.join(&name)).unwrap();
    }
    let before = contents(parent.path());
    let mut cases = vec![
        (at("file"), false, "is not a directory"),
        (at("file"), true, "is not a directory"),
        (at("file").join("below"), true, "is not a directory"),
        (inner.clone(), false, "is the checkpoint that is read"),
        (inner.clone(), true, "is the checkpoint that is read"),
        (inner.join("."), true, "is the checkpoint that is read"),
        (inner.join("../model"), true, "is the checkpoint that is read"),
        (at("holder"), false, "holds the checkpoint that is read"),
        (at("holder"), true, "holds the checkpoint that is read"),
        (PathBuf::from("/"), true, "has no name"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&inner, at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        cases.push((at("link"), true, "is a link"));
        cases.push((at("dangling"), false, "is a link"));
    }
    if cfg!(target_os = "linux") {
        cases.push(("/proc/version/out".into(), false, "/proc/version exists and is not a directory"));
        cases.push(("/proc/out".into(), false, "/proc"));
    }
    for (out, overwrite, said) in cases {
        let mut options = RequantizeOptions::default();
        options.overwrite = overwrite;
        let checked = check_output(&out, overwrite, &inner).unwrap_err();
        assert!(message(&checked).contains(said), "{}: {}", out.display(), message(&checked));
        let error = convert(&inner, &map, &QuantizationConfig::nf4(), &out, &options).unwrap_err();
        assert!(message(&error).contains(said), "{}: {}", out.display(), message(&error));
    }
    #[cfg(unix)]
    for link in ["link", "dangling"] {
        fs::remove_file(at(link)).unwrap();
    }
    assert_eq!(contents(parent.path()), before, "nothing was changed or left behind");
    for fine in [at("new"), at("new/deep/model"), inner.join("quantised")] {
        check_output(&fine, false, &inner).unwrap();
    }
    assert_eq!(contents(parent.path()), before);
}

#[test]
fn a_shard_that_is_overwritten_meanwhile() {
    let matrix = |name: &str| bf16s(name, &[64, 64], &counting(4096));
    let shards =
        [("a.safetensors", vec![matrix("a.weight"), matrix("b.weight")]), ("b.safetensors", vec![matrix("c.weight")])];
    let names = ["a.weight", "b.weight", "c.weight"];
    let map = plain_map(&names.map(|name| (name, &[64, 64][..])));
    // The file that is read, one that was read, one that was not yet; written in place, replaced, or gone.
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("in place", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.iter_mut().rev().take(100).for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).unwrap();
        }),
        ("by renaming", |path| {
            let other = path.with_extension("new");
            fs::copy(path, &other).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    for (file, after) in [("a.safetensors", "a.weight"), ("a.safetensors", "c.weight"), ("b.safetensors", "a.weight")] {
        for (how, change) in changes {
            let source = sharded(&shards.each_ref().map(|(name, tensors)| {
                let copy = |t: &Stored| crate::common::stored(&t.name, t.dtype, &t.shape, t.bytes.clone());
                (*name, tensors.iter().map(copy).collect::<Vec<_>>())
            }));
            fs::write(source.path().join("config.json"), "{}").unwrap();
            let parent = tempfile::tempdir().unwrap();
            let out = parent.path().join("out");
            let files = CheckpointFiles::open(source.path()).unwrap();
            // Another moment than that of the headers, for file systems with slow clocks.
            thread::sleep(Duration::from_millis(20));
            let mut meanwhile = |progress: RequantizeProgress<'_>| {
                if progress.tensor == after {
                    change(&source.path().join(file));
                }
            };
            let (config, options) = (QuantizationConfig::nf4(), RequantizeOptions::default());
            let outcome =
                quantize_checkpoint(&files, &map, &config, &out, &options, &SaveFiles::default(), &mut meanwhile);
            let error = outcome.unwrap_err();
            let known = matches!(&error, LoadError::ShardChanged { .. }) || how == "removed";
            assert!(known && message(&error).contains(file), "{file} {how} after {after}: {}", message(&error));
            assert!(!out.exists());
        }
    }
}

#[test]
fn what_a_check_refuses_at_the_end_does_not_appear() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let mut writer = CheckpointWriter::new(&out, &plain_map(&[("w", &[1])]), &SaveOptions::default()).unwrap();
    writer.write("w", &TensorData::new(vec![1.0f32], [1])).unwrap();
    let staged = parent.path().join(".out.partial/checkpoint/model.safetensors");
    let refuse = || {
        assert!(staged.exists(), "everything was written");
        Err(LoadError::StalePlan { planned: "this".into(), given: "that".into() })
    };
    writer.finish_if(&SaveFiles::default(), refuse).unwrap_err();
    assert!(names(parent.path()).is_empty());
}

#[test]
fn templates_keep_their_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("additional_chat_templates");
    fs::create_dir(&folder).unwrap();
    let files = ["tool_use.jinja", "rag.jinja"].map(|name| folder.join(name));
    files.iter().for_each(|file| fs::write(file, file.display().to_string()).unwrap());
    let out = parent.path().join("out");
    let values = [("w".to_owned(), TensorData::new(vec![1.0f32], [1]))];
    let save_files = SaveFiles { copies: files.to_vec(), ..SaveFiles::default() };
    save_pretrained(&out, values, &plain_map(&[("w", &[1])]), &SaveOptions::default(), &save_files).unwrap();
    assert_eq!(names(&out), ["additional_chat_templates", "model.safetensors"]);
    for file in &files {
        let copy = out.join("additional_chat_templates").join(file.file_name().unwrap());
        assert_eq!(fs::read(copy).unwrap(), fs::read(file).unwrap());
    }
}

#[test]
fn one_process_at_a_time_and_what_others_left_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
    let map = plain_map(&[("w", &[1])]);
    let writer = CheckpointWriter::new(&out, &map, &SaveOptions::default()).unwrap();
    assert!(matches!(save(&out, 1.0, false), Err(LoadError::OutputBusy { .. })));
    assert!(partial.join("checkpoint").is_dir(), "the other one's place stays");
    // As if it had been killed: nothing is tidied up, and the lock is gone.
    let copy = parent.path().join("copy");
    fs::create_dir_all(copy.join("checkpoint")).unwrap();
    fs::write(copy.join("lock"), "").unwrap();
    fs::write(copy.join("checkpoint/shard-0.partial"), "half").unwrap();
    drop(writer);
    fs::rename(&copy, &partial).unwrap();
    save(&out, 2.0, false).unwrap();
    assert_eq!(names(parent.path()), ["out"]);
    // What is not ours stays, and so does the checkpoint.
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("diary.txt"), "mine").unwrap();
    assert!(message(&save(&out, 3.0, true).unwrap_err()).contains("automodel did not write"));
    assert_eq!(names(&partial), ["diary.txt"]);
    assert_eq!(values(&load(&out, &map, &options()).unwrap().0, "w"), [2.0]);
}

const OUT: &str = "AUTOMODEL_TEST_SAVE_OUT";
const TENSORS: usize = 40;

fn generation_map() -> WeightMap {
    let names: Vec<String> = (0..TENSORS).map(|number| format!("w{number}")).collect();
    plain_map(&names.iter().map(|name| (name.as_str(), &[64][..])).collect::<Vec<_>>())
}

/// Saves a checkpoint all of whose values are `generation`, in several shards, over another one.
fn save_generation(out: &Path, generation: u32) {
    let map = generation_map();
    let parameters =
        map.parameters.iter().map(|slot| (slot.path.clone(), TensorData::new(vec![generation as f32; 64], [64])));
    let mut options = SaveOptions::default();
    (options.overwrite, options.max_shard_bytes) = (true, 2000);
    let config = serde_json::json!({ "generation": generation });
    let files = SaveFiles { config: Some(config), ..SaveFiles::default() };
    save_pretrained(out, parameters, &map, &options, &files).unwrap();
}

/// The generation of a whole checkpoint.
fn generation_of(out: &Path) -> u32 {
    let (parameters, _) = load(out, &generation_map(), &options()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    let generation = config["generation"].as_u64().unwrap() as u32;
    for number in 0..TENSORS {
        assert_eq!(values(&parameters, &format!("w{number}")), [generation as f32; 64]);
    }
    generation
}

/// Not a test: the process that `a_name_always_leads_to_a_whole_checkpoint` starts and kills.
#[test]
#[ignore = "started by another test"]
fn worker() {
    if let Some(out) = std::env::var_os(OUT) {
        let out = Path::new(&out);
        let first = generation_of(out);
        for generation in first + 1.. {
            save_generation(out, generation);
        }
    }
}

fn start(out: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "output::worker", "--ignored"])
        .env(OUT, out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[test]
fn a_name_always_leads_to_a_whole_checkpoint() {
    use std::os::unix::fs::MetadataExt;
    let parent = tempfile::tempdir().unwrap();
    let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
    save_generation(&out, 1);
    let (mut left, mut state) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..60 {
        let before = generation_of(&out);
        let mut child = start(&out);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // It has replaced the checkpoint at least once, and the name is never absent.
        let inode = || fs::symlink_metadata(&out).expect("the name leads nowhere").ino();
        let first = inode();
        while inode() == first && child.try_wait().unwrap().is_none() {}
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_micros((state >> 40) % 50_000) {
            inode();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let after = generation_of(&out);
        assert!(after > before);
        left += usize::from(partial.exists());
    }
    assert!(left > 0, "no process was killed on the way");
    save_generation(&out, 0);
    assert_eq!((generation_of(&out), names(parent.path())), (0, vec!["out".to_owned()]));
}

/// A process that was killed between the exchange of names and the tidying up has replaced the checkpoint.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[test]
fn a_conversion_killed_right_after_it_appeared_is_finished() {
    use std::os::unix::fs::MetadataExt;
    let (source, map) = matrix();
    let parent = tempfile::tempdir().unwrap();
    let (out, partial) = (parent.path().join("out"), parent.path().join(".out.partial"));
    let mut overwrite = RequantizeOptions::default();
    overwrite.overwrite = true;
    let nf4 = QuantizationConfig::nf4();
    convert(source.path(), &map, &QuantizationConfig::fp4(), &out, &overwrite).unwrap();
    let files = CheckpointFiles::open(source.path()).unwrap();
    let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut crash = |_: RequantizeProgress<'_>| std::panic::resume_unwind(Box::new("crash"));
        quantize_checkpoint(&files, &map, &nf4, &out, &overwrite, &SaveFiles::default(), &mut crash)
    }));
    assert!(crashed.is_err());
    let whole = parent.path().join("whole");
    convert(source.path(), &map, &nf4, &whole, &overwrite).unwrap();
    let expected = fs::read(whole.join("model.safetensors")).unwrap();
    fs::remove_dir_all(partial.join("checkpoint")).unwrap();
    let identity = fs::metadata(&whole).map(|metadata| format!("{}:{}", metadata.dev(), metadata.ino())).unwrap();
    let journal = partial.join("journal.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&journal).unwrap()).unwrap();
    text["committing"] = identity.into();
    fs::write(&journal, text.to_string()).unwrap();
    // The old one has the name of the new one now.
    fs::rename(&out, partial.join("checkpoint")).unwrap();
    fs::rename(&whole, &out).unwrap();
    let report = convert(source.path(), &map, &nf4, &out, &RequantizeOptions::default()).unwrap();
    assert_eq!(report.resumed_shards, 1);
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), expected);
    assert_eq!(names(parent.path()), ["out"]);
}

#[test]
fn values_beyond_the_range_of_the_file_are_counted() {
    let parent = tempfile::tempdir().unwrap();
    let mut map = plain_map(&[("whole", &[4]), ("fine", &[2])]);
    for (number, path) in ["first", "second"].into_iter().enumerate() {
        let rows = automodel_registry::weights::ViewOp::Narrow { axis: 0, start: number * 2, length: 2 };
        let piece = automodel_registry::weights::SourcePiece::view("joined", &[4], vec![rows]);
        map.parameters.push(crate::common::slot(path, &[2], vec![piece]));
    }
    let values = [
        ("whole", vec![1.0f32, 65504.0, 65520.0, f32::INFINITY]),
        ("fine", vec![65519.0, f32::NAN]),
        ("first", vec![0.0, 1.0]),
        ("second", vec![-1e20, 1e20]),
    ];
    let given =
        || values.iter().map(|(path, values)| ((*path).to_owned(), TensorData::new(values.clone(), [values.len()])));
    let mut options = SaveOptions::default();
    options.dtype = Some(burn::tensor::FloatDType::F16);
    let report = save_pretrained(&parent.path().join("half"), given(), &map, &options, &SaveFiles::default()).unwrap();
    let found: Vec<_> = report.overflowed.iter().map(|o| (o.parameter.as_str(), o.count, o.first_index)).collect();
    assert_eq!(found, [("whole", 1, 2), ("second", 2, 0)]);
    assert!(report.warnings[0].contains("1 value(s) of `whole`") && report.warnings[0].contains("1 more parameter"));
    options.dtype = Some(burn::tensor::FloatDType::BF16);
    let report = save_pretrained(&parent.path().join("wide"), given(), &map, &options, &SaveFiles::default()).unwrap();
    assert!(report.overflowed.is_empty() && report.warnings.is_empty(), "{report:?}");

    // And on loading.
    let source = checkpoint(&[f32s("w", &[4], &[1.0, f32::NAN, 1e5, 1e6])]);
    let half = crate::common::options().with_dtype(automodel_loader::DtypePolicy::Cast(burn::tensor::FloatDType::F16));
    let (_, report) = load(source.path(), &plain_map(&[("w", &[4])]), &half).unwrap();
    let [found] = report.non_finite.as_slice() else { panic!("{report:?}") };
    assert_eq!((found.count, found.first_index, found.overflowed), (3, 1, 2));
}
