//! An input that stands for several files.

use serde_json::{Map, Value};
use std::{
    fs,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

const MARK: &[u8] = b"=== ";
/// Longest file of holes: they cost nothing, but file systems have limits.
const LONGEST: u64 = 1 << 32;

/// The files of an input: each begins with a line `=== NAME`, and text before the first such line is the file "".
///
/// ```
/// use automodel_fuzz::Files;
/// let files = Files::split(b"{}\n=== a.json\n[1]\n=== b.json\n[2]");
/// assert_eq!((files.get(""), files.get("a.json"), files.get("b.json")), (Some(&b"{}"[..]), Some(&b"[1]"[..]), Some(&b"[2]"[..])));
/// assert_eq!(files.joined(), b"{}\n=== a.json\n[1]\n=== b.json\n[2]");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Names and contents, in the order of the input.
    pub entries: Vec<(String, Vec<u8>)>,
}

impl Files {
    /// Takes an input apart.
    pub fn split(input: &[u8]) -> Self {
        let mut entries: Vec<(String, Vec<u8>)> = vec![(String::new(), Vec::new())];
        for line in input.split_inclusive(|&byte| byte == b'\n') {
            match (line.strip_prefix(MARK), entries.last_mut()) {
                (Some(name), last) => {
                    if let Some((_, before)) = last
                        && before.last() == Some(&b'\n')
                    {
                        before.pop();
                    }
                    entries.push((String::from_utf8_lossy(name).trim().to_owned(), Vec::new()));
                }
                (None, Some((_, contents))) => contents.extend_from_slice(line),
                (None, None) => {}
            }
        }
        if entries.len() > 1 && entries[0].1.is_empty() {
            entries.remove(0);
        }
        Self { entries }
    }

    /// The input again.
    pub fn joined(&self) -> Vec<u8> {
        let mut input = Vec::new();
        for (index, (name, contents)) in self.entries.iter().enumerate() {
            if index > 0 {
                input.push(b'\n');
            }
            if index > 0 || !name.is_empty() {
                input.extend_from_slice(MARK);
                input.extend_from_slice(name.as_bytes());
                input.push(b'\n');
            }
            input.extend_from_slice(contents);
        }
        input
    }

    /// The contents of the first file of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, contents)| contents.as_slice())
    }

    /// The contents of the first file of this name as text, with invalid UTF-8 replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|contents| String::from_utf8_lossy(contents).into_owned())
    }

    /// Writes the files that have plain names into `directory`. `NAME#header` becomes the safetensors file NAME with this header, of
    /// the length that its offsets ask for and full of holes, but for the tensors whose names end as a file `data ENDING` says.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        for (name, contents) in &self.entries {
            let (name, is_header) = match name.strip_suffix("#header") {
                Some(name) => (name, true),
                None => (name.as_str(), false),
            };
            if !is_plain(name) {
                continue;
            }
            let path = directory.join(name);
            if is_header { self.write_shard(&path, contents)? } else { fs::write(path, contents)? }
        }
        Ok(())
    }

    fn write_shard(&self, path: &Path, header: &[u8]) -> io::Result<()> {
        let mut file = fs::File::create(path)?;
        file.write_all(&[&(header.len() as u64).to_le_bytes(), header].concat())?;
        let start = 8 + header.len() as u64;
        let parsed: Map<String, Value> = serde_json::from_slice(header).unwrap_or_default();
        let offset = |tensor: &Value, index: usize| tensor.get("data_offsets")?.get(index)?.as_u64();
        let end = parsed.values().filter_map(|tensor| offset(tensor, 1)).max().unwrap_or(0);
        file.set_len(start + end.min(LONGEST))?;
        for (name, tensor) in &parsed {
            let data = self
                .entries
                .iter()
                .find(|(known, _)| known.strip_prefix("data ").is_some_and(|ending| name.ends_with(ending)));
            if let (Some((_, data)), Some(begin), Some(end)) = (data, offset(tensor, 0), offset(tensor, 1))
                && end <= LONGEST
            {
                file.seek(SeekFrom::Start(start.saturating_add(begin)))?;
                file.write_all(&data[..data.len().min(usize::try_from(end.saturating_sub(begin)).unwrap_or(0))])?;
            }
        }
        Ok(())
    }
}

/// Nothing is written outside the directory: inputs choose names, and the fuzzer must not harm its machine.
fn is_plain(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(is_usual)
}
