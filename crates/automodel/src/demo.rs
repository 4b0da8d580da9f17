//! The checkpoint that is part of this crate.

use crate::{AutoModelError, refusal::adapter_or};
use automodel_hub::{Checkpoint, HubError, HubOptions};
use std::{fs, io};
use tempfile::TempDir;

/// Name of the checkpoint that is part of this crate, and of programs made with it: a small Llama that adds two numbers below 100.
///
/// The name always means this checkpoint. A directory that is called so too is `./demo`.
pub const DEMO: &str = "demo";

/// What a load needs, as it lies in the directory `demo` of this crate.
const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../demo/config.json")),
    ("generation_config.json", include_bytes!("../demo/generation_config.json")),
    ("model.safetensors", include_bytes!("../demo/model.safetensors")),
    ("tokenizer.json", include_bytes!("../demo/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../demo/tokenizer_config.json")),
];

/// [`automodel_hub::resolve_headers`], which knows the demo too.
pub(crate) fn resolve_headers(model: &str, options: &HubOptions) -> Result<Checkpoint, AutoModelError> {
    find(model, options, automodel_hub::resolve_headers)
}

/// [`automodel_hub::resolve()`], which knows the demo too.
pub(crate) fn resolve(model: &str, options: &HubOptions) -> Result<Checkpoint, AutoModelError> {
    find(model, options, automodel_hub::resolve)
}

type Find = fn(&str, &HubOptions) -> Result<Checkpoint, HubError>;

fn find(model: &str, options: &HubOptions, find: Find) -> Result<Checkpoint, AutoModelError> {
    if model != DEMO {
        return find(model, options).map_err(adapter_or);
    }
    let unwritable = |source| AutoModelError::UnwritableDemo { directory: std::env::temp_dir(), source };
    let directory = unpack().map_err(unwritable)?;
    let path = directory.path().to_str().ok_or_else(|| unwritable(io::Error::other("its name is not UTF-8")))?;
    Ok(find(path, options)?.with_owner(directory))
}

/// Writes the files to a new directory that is the user's alone: where others write too, nothing that was there before is trusted.
fn unpack() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("automodel-demo-");
    #[cfg(unix)]
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    #[cfg(unix)]
    builder.permissions(mode);
    let directory = builder.tempdir()?;
    for (name, bytes) in FILES {
        fs::write(directory.path().join(name), bytes)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AutoModelForCausalLM;

    #[test]
    fn the_demo_is_unpacked_for_as_long_as_it_is_used() {
        let checkpoint = resolve_headers(DEMO, &HubOptions::default()).unwrap();
        let (directory, copy) = (checkpoint.dir.clone(), checkpoint.clone());
        drop(checkpoint);
        assert_eq!(copy.list().unwrap().len(), FILES.len());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&directory).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "nobody else writes or reads there");
        }
        drop(copy);
        assert!(!directory.exists());
    }

    #[test]
    fn the_model_outlives_its_builder() {
        let demo = AutoModelForCausalLM::from_pretrained(DEMO).load().unwrap();
        assert_eq!(demo.generate_text("27+48=").unwrap(), "75");
        let copy = tempfile::tempdir().unwrap();
        demo.save_pretrained(copy.path(), &Default::default()).unwrap();
        let copy = AutoModelForCausalLM::from_pretrained(copy.path().to_str().unwrap()).load().unwrap();
        assert_eq!(copy.generate_text("27+48=").unwrap(), "75");
    }
}
