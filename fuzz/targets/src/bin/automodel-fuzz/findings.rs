//! Where inputs that show a fault are kept, and where the input that is run now is.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Bytes in front of the current input: its number and its length.
const PREFIX: usize = 16;

/// The folder of a target's findings.
pub struct Findings {
    target: String,
    directory: PathBuf,
}

impl Findings {
    pub fn of(folder: &Path, target: &str) -> io::Result<Self> {
        let directory = folder.join(target);
        fs::create_dir_all(&directory)?;
        Ok(Self { target: target.to_owned(), directory })
    }

    /// Keeps an input, and prints the failure and how to reproduce it.
    pub fn keep(&self, kind: &str, what: &str, input: &[u8]) -> io::Result<()> {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = self.directory.join(format!("{kind}-{:016x}", hasher.finish()));
        fs::write(&path, input)?;
        let (target, path) = (&self.target, path.display());
        eprintln!("{target}: {kind}: {what}\n    reproduce it: cargo xtask fuzz --target {target} --input {path}");
        Ok(())
    }

    /// The file that holds the input that is run now, for when the process ends with it.
    pub fn current(&self) -> io::Result<Current> {
        let path = self.directory.join("current");
        Ok(Current(File::options().read(true).write(true).create(true).truncate(false).open(path)?))
    }
}

/// The input that is run now, kept where it outlives the process.
pub struct Current(File);

impl Current {
    pub fn set(&self, number: u64, input: &[u8]) -> io::Result<()> {
        let prefix = [number.to_le_bytes(), (input.len() as u64).to_le_bytes()].concat();
        let mut file = &self.0;
        file.rewind()?;
        file.write_all(&[&prefix, input].concat())
    }

    /// Number and input; none if nothing was set.
    pub fn get(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut prefix = [0u8; PREFIX];
        if self.0.metadata()?.len() < PREFIX as u64 {
            return Ok(None);
        }
        let mut file = &self.0;
        file.rewind()?;
        file.read_exact(&mut prefix)?;
        let half = |at: usize| prefix[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let mut input = vec![0; usize::try_from(half(8)).unwrap_or_default().min(1 << 30)];
        file.read_exact(&mut input)?;
        Ok(Some((half(0), input)))
    }

    pub fn clear(&self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

/// The files of a target's corpus, in the order of their names.
pub fn corpus(folder: &Path, target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join(target))? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}
