//! Writing a safetensors file: 8 bytes with the length of the header, the header, the tensors.
//! Source: <https://github.com/huggingface/safetensors#format>

use super::{Dtype, layout::Tensor, shards::Shard, values::Values};
use crate::Result;
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

/// Most bytes of a tensor in memory.
const BLOCK: u64 = 1 << 23;

pub fn write(directory: &Path, shard: &Shard<'_>, dtype: Dtype, seed: u64) -> Result<()> {
    let path = directory.join(&shard.file);
    let attempt = || -> Result<()> {
        let mut file = BufWriter::new(File::create_new(&path)?);
        let header = header(shard, dtype)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut block = Vec::new();
        for tensor in &shard.tensors {
            write_tensor(&mut file, tensor, dtype, seed, &mut block)?;
        }
        Ok(file.flush()?)
    };
    attempt().map_err(|error| format!("{} cannot be written: {error}", path.display()).into())
}

fn header(shard: &Shard<'_>, dtype: Dtype) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in &shard.tensors {
        let end = start + tensor.elements() * dtype.bytes();
        let entry = json!({"dtype": dtype.header_name(), "shape": tensor.shape, "data_offsets": [start, end]});
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = serde_json::to_vec(&Value::Object(entries))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Writes a tensor block by block; `block` is the memory for one.
fn write_tensor(
    file: &mut impl Write,
    tensor: &Tensor,
    dtype: Dtype,
    seed: u64,
    block: &mut Vec<u8>,
) -> std::io::Result<()> {
    let values = if tensor.is_norm() { Values::Ones } else { Values::normal(seed, &tensor.name) };
    let bytes = tensor.elements() * dtype.bytes();
    for start in (0..bytes).step_by(BLOCK as usize) {
        block.resize(BLOCK.min(bytes - start) as usize, 0);
        values.fill(block, start / dtype.bytes(), dtype);
        file.write_all(block)?;
    }
    Ok(())
}
