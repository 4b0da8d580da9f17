//! Bytes of weights that a token reads, for contenders that do not say: from the shapes in the headers of the checkpoint.

use super::contenders::Storage;
use crate::Result;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// Largest header that the safetensors library reads.
const HEADER: u64 = 100_000_000;

/// Numbers of elements, by how formats treat them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Matrices of the layers.
    pub matrices: u64,
    /// Norms and biases.
    pub vectors: u64,
    /// The table of tokens, of which a token reads one row.
    pub embedding: u64,
    /// The output head; 0 where it is the table of tokens.
    pub head: u64,
    pub tensors: u64,
}

impl Sizes {
    pub fn parameters(&self) -> u64 {
        self.matrices + self.vectors + self.embedding + self.head
    }

    /// Bytes of weights that decoding a token reads; `None` where only the contender can say.
    pub fn bytes_per_token(&self, storage: Storage) -> Option<f64> {
        let head = if self.head == 0 { self.embedding } else { self.head } as f64;
        let (matrices, vectors) = (self.matrices as f64, self.vectors as f64);
        match storage {
            Storage::Reported => None,
            Storage::Bfloat16 => Some(2.0 * (matrices + vectors + head)),
            Storage::Float32 => Some(4.0 * (matrices + vectors + head)),
            Storage::Nf4 => Some(matrices * (0.5 + 4.0 / 64.0) + 2.0 * (vectors + head)),
            Storage::GgufBf16 => Some(2.0 * (matrices + head) + 4.0 * vectors),
            // Q6_K has 210 bytes for 256 weights.
            Storage::GgufQ4_0 => Some(matrices * 18.0 / 32.0 + head * 210.0 / 256.0 + 4.0 * vectors),
        }
    }

    fn add(&mut self, name: &str, shape: &[Value]) -> Result<()> {
        let mut sizes = shape.iter().map(|size| size.as_u64());
        let elements = sizes.try_fold(1_u64, |elements, size| elements.checked_mul(size?));
        let elements = elements.filter(|elements| *elements < 1 << 50).ok_or_else(|| format!("{name} has no shape"))?;
        let of = match name {
            _ if shape.len() < 2 => &mut self.vectors,
            _ if name.contains("embed_tokens") => &mut self.embedding,
            _ if name.contains("lm_head") => &mut self.head,
            _ => &mut self.matrices,
        };
        *of += elements;
        self.tensors += 1;
        Ok(())
    }
}

/// Reads the headers of all safetensors files in `model`.
pub fn read(model: &Path) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    for path in super::checkpoint::shards(model)? {
        read_shard(&path, &mut sizes).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    }
    Ok(sizes)
}

fn read_shard(path: &Path, sizes: &mut Sizes) -> Result<()> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER.min(fs::metadata(path)?.len()) {
        return Err(format!("its header has {length} bytes").into());
    }
    let mut header = vec![0; usize::try_from(length)?];
    file.read_exact(&mut header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let entries = header.as_object().ok_or("its header is not an object")?;
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        sizes.add(name, entry["shape"].as_array().ok_or_else(|| format!("{name} has no shape"))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::make_checkpoint;

    #[test]
    fn every_element_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        make_checkpoint::run(&make_checkpoint::Arguments::preset("llama-tiny", out.clone())).unwrap();
        let sizes = read(&out).unwrap();
        let bytes: u64 = crate::checkpoint::shards(&out)
            .unwrap()
            .iter()
            .map(|path| {
                let bytes = fs::read(path).unwrap();
                bytes.len() as u64 - 8 - u64::from_le_bytes(bytes[..8].try_into().unwrap())
            })
            .sum();
        assert_eq!(sizes.parameters() * 2, bytes);
        assert!(sizes.matrices > 0 && sizes.vectors > 0 && sizes.embedding > 0 && sizes.tensors > 12);

        fs::write(out.join("wrong.safetensors"), u64::MAX.to_le_bytes()).unwrap();
        assert!(read(&out).is_err());
    }

    #[test]
    fn formats_have_their_bytes() {
        let sizes = Sizes { matrices: 6400, vectors: 10, embedding: 512, head: 256, tensors: 9 };
        assert_eq!(sizes.bytes_per_token(Storage::Bfloat16), Some(2.0 * 6666.0));
        assert_eq!(sizes.bytes_per_token(Storage::Float32), Some(4.0 * 6666.0));
        assert_eq!(sizes.bytes_per_token(Storage::Nf4), Some(3200.0 + 400.0 + 532.0));
        assert_eq!(sizes.bytes_per_token(Storage::GgufBf16), Some(2.0 * 6656.0 + 40.0));
        assert_eq!(sizes.bytes_per_token(Storage::GgufQ4_0), Some(3600.0 + 210.0 + 40.0));
        assert_eq!(sizes.bytes_per_token(Storage::Reported), None);
        let tied = Sizes { head: 0, ..sizes };
        assert_eq!(tied.bytes_per_token(Storage::Bfloat16), Some(2.0 * 6922.0));
    }
}
