//! The files that all contenders read.

use crate::Result;
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};
use xtask::make_checkpoint;

/// The random model of 1.1 billion parameters.
const PRESET: &str = "llama-1b";

/// The checkpoint to measure with: `model`, or the random one below `work`, which is made if it is not there.
pub fn ensure(model: Option<&Path>, work: &Path) -> Result<PathBuf> {
    if let Some(model) = model {
        return model.canonicalize().map_err(|error| format!("--model {}: {error}", model.display()).into());
    }
    let (whole, partial) = (work.join(PRESET), work.join(format!("{PRESET}.partial")));
    if !whole.exists() {
        // Left by an earlier run that was interrupted.
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        make_checkpoint::run(&make_checkpoint::Arguments::preset(PRESET, partial.clone()))?;
        fs::rename(&partial, &whole)?;
    }
    Ok(whole)
}

/// The safetensors files in `model`, sorted.
pub fn shards(model: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(model).map_err(|error| format!("{} cannot be read: {error}", model.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{} has no safetensors files", model.display()).into());
    }
    Ok(paths)
}

/// Reads files once, so that they are in the page cache.
pub fn warm(files: &[PathBuf]) -> Result<()> {
    let mut block = vec![0; 1 << 23];
    for path in files {
        let mut file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        while file.read(&mut block)? > 0 {}
    }
    Ok(())
}
