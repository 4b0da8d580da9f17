//! Cutting a checkpoint into shards.

use super::{Dtype, layout::Tensor};
use crate::Result;

/// One safetensors file of the checkpoint.
#[derive(Debug)]
pub struct Shard<'a> {
    pub file: String,
    pub tensors: Vec<&'a Tensor>,
    /// Bytes of the tensors.
    pub bytes: u64,
}

/// Cuts greedily, as transformers does: a tensor that does not fit begins the next shard.
pub fn cut(tensors: &[Tensor], dtype: Dtype, max_bytes: u64) -> Result<Vec<Shard<'_>>> {
    let mut shards: Vec<Shard<'_>> = Vec::new();
    for tensor in tensors {
        let bytes =
            tensor.elements().checked_mul(dtype.bytes()).ok_or_else(|| format!("{} is too large", tensor.name))?;
        match shards.last_mut() {
            Some(shard) if shard.bytes.saturating_add(bytes) <= max_bytes => {
                shard.tensors.push(tensor);
                shard.bytes += bytes;
            }
            _ => shards.push(Shard { file: String::new(), tensors: vec![tensor], bytes }),
        }
    }
    let count = shards.len();
    for (index, shard) in shards.iter_mut().enumerate() {
        shard.file = file_name(index + 1, count);
    }
    Ok(shards)
}

fn file_name(number: usize, count: usize) -> String {
    if count == 1 { "model.safetensors".to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") }
}

/// `500MB` and the like in bytes; decimal units, as transformers reads them, or KiB, MiB, GiB.
pub fn parse_size(text: &str) -> std::result::Result<u64, String> {
    const UNITS: [(&str, u64); 6] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let (number, unit) =
        UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit))).unwrap_or((text, 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text} is not a size: write 500MB, 5GB or a number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(elements: u64) -> Tensor {
        Tensor { name: "a.weight".to_owned(), shape: vec![elements] }
    }

    #[test]
    fn shards_are_filled_to_the_limit() {
        let tensors = [tensor(10), tensor(10), tensor(1), tensor(100), tensor(1)];
        let shards = cut(&tensors, Dtype::Float32, 80).unwrap();
        let sizes: Vec<u64> = shards.iter().map(|shard| shard.bytes).collect();
        assert_eq!(sizes, [80, 4, 400, 4]);
        assert_eq!(shards[3].file, "model-00004-of-00004.safetensors");
        assert_eq!(cut(&tensors, Dtype::Float32, 1000).unwrap()[0].file, "model.safetensors");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("500MB"), Ok(500_000_000));
        assert_eq!(parse_size("48 KB"), Ok(48_000));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("7"), Ok(7));
        for wrong in ["", "MB", "0", "-1MB", "1.5GB", "99999999999GB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
