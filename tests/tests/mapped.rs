//! Checkpoints that change while a model uses them.

use crate::support::copy_of;
use automodel::generation::GenerationOptions;
use automodel::loader::{FileChange, LoadError};
use automodel::{AutoModel, AutoModelError, AutoModelForCausalLM};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

const TOKENS: [u32; 3] = [3, 1, 2];

fn load(directory: &Path, zero_copy: bool) -> AutoModel {
    let model = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap());
    model.zero_copy(zero_copy).load().unwrap()
}

fn generate(model: &AutoModel) -> Result<Vec<u32>, AutoModelError> {
    let options = GenerationOptions { max_new_tokens: Some(3), ignore_eos: true, ..GenerationOptions::default() };
    let report = model.generate(&[TOKENS.to_vec().into()], &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(report.texts[0].token_ids.clone())
}

#[test]
fn weights_that_change_in_their_file_are_not_used() {
    let directory = copy_of("llama");
    let path = directory.path().join("model.safetensors");
    // Written a while ago, so that a clock tick does not matter.
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let length = fs::metadata(&path).unwrap().len();

    let (mapped, copied) = (load(directory.path(), true), load(directory.path(), false));
    assert!(mapped.report().unwrap().mapped_bytes > 0 && copied.report().unwrap().mapped_bytes == 0);
    let expected = generate(&mapped).unwrap();

    // Another file in its place is none of the model's business.
    let bytes = fs::read(&path).unwrap();
    let other = directory.path().join("other");
    fs::write(&other, &bytes[..bytes.len() / 2]).unwrap();
    let held = directory.path().join("held");
    fs::rename(&path, &held).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(generate(&mapped).unwrap(), expected);

    OpenOptions::new().append(true).open(&held).unwrap().write_all(b"more").unwrap();
    let now = length + 4;
    let out = directory.path().join("out");
    let errors = [
        generate(&mapped).unwrap_err(),
        mapped.logits(&TOKENS).unwrap_err(),
        mapped.save_pretrained(&out, &Default::default()).unwrap_err(),
        mapped.check_files().unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        let AutoModelError::Load(LoadError::MappedFileChanged { change, .. }) = error else { panic!("{text}") };
        assert_eq!(change, FileChange::Length { before: length, now });
        assert!(text.contains("model.safetensors") && text.contains("zero_copy(false)"), "{text}");
    }
    assert!(!out.exists());
    assert_eq!(generate(&copied).unwrap(), expected, "copied weights need no file");
}
