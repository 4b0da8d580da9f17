//! Tensors of the source, window by window.

use super::{layout::weight_dtype, selection::Target};
use crate::{CheckpointFiles, LoadError, QuantizationConfig, Shard, StoredDtype, TensorInfo, files::FileStamp};
use automodel_quant::{Element, Elements, QuantError, Quantized4bit, table16::Quantizer};
use bytemuck::Pod;
use half::{bf16, f16};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 8 << 20;

/// The files, of which one is open at a time.
pub(super) struct Source<'a> {
    files: &'a CheckpointFiles,
    open: Option<(usize, File)>,
}

/// Elements that quantisation takes.
trait Weight: Element + Pod {
    fn elements(values: &[Self]) -> Elements<'_>;
}

macro_rules! weight {
    ($($type:ty: $variant:ident),*) => {$(
        impl Weight for $type {
            fn elements(values: &[Self]) -> Elements<'_> {
                Elements::$variant(values)
            }
        }
    )*};
}

weight!(f32: F32, f16: F16, bf16: BF16);

impl<'a> Source<'a> {
    pub fn new(files: &'a CheckpointFiles) -> Self {
        Self { files, open: None }
    }

    /// Checks that every file is still what it was when its header was read: a tensor that was read while another process wrote
    /// to its file may be a mixture of old and new.
    pub fn check_unchanged(&self) -> Result<(), LoadError> {
        if let Some((shard, file)) = &self.open {
            self.check_open(*shard, file)?;
        }
        self.files.shards().iter().try_for_each(|described| {
            let stamp =
                FileStamp::at(&described.path).map_err(|source| LoadError::io("inspect", &described.path, source))?;
            compare(described, stamp)
        })
    }

    fn check_open(&self, shard: usize, file: &File) -> Result<(), LoadError> {
        let Some(described) = self.files.shards().get(shard) else { return Ok(()) };
        let stamp = FileStamp::of(file).map_err(|source| LoadError::io("inspect", &described.path, source))?;
        compare(described, stamp)
    }

    /// Copies a tensor as it is.
    pub fn copy(
        &mut self,
        info: &TensorInfo,
        mut write: impl FnMut(&[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut window =
            vec![0; WINDOW_BYTES.min(usize::try_from(info.range.end - info.range.start).unwrap_or(usize::MAX))];
        let mut at = info.range.start;
        while at < info.range.end {
            let length = window.len().min(usize::try_from(info.range.end - at).unwrap_or(usize::MAX));
            let part = &mut window[..length];
            self.read(info.shard, at, part)?;
            write(part)?;
            at += length as u64;
        }
        Ok(())
    }

    /// Reads and quantises a matrix.
    pub fn quantize(
        &mut self,
        name: &str,
        info: &TensorInfo,
        target: Target,
        config: &QuantizationConfig,
    ) -> Result<Quantized4bit, LoadError> {
        let refused = |source: QuantError| LoadError::Unquantizable { tensor: name.to_owned(), source: source.into() };
        let dtype = weight_dtype(info.dtype);
        let mut quantizer =
            Quantizer::new(config.quant_type, config.blocksize, target.shape, dtype).map_err(refused)?;
        let fill = &mut |at, window: Elements<'_>| quantizer.fill(at, window).map_err(refused);
        match info.dtype {
            StoredDtype::F64 => self.stream::<f64, f32>(info, target, |value| value as f32, fill)?,
            StoredDtype::F16 => self.stream::<f16, f16>(info, target, |value| value, fill)?,
            StoredDtype::BF16 => self.stream::<bf16, bf16>(info, target, |value| value, fill)?,
            _ => self.stream::<f32, f32>(info, target, |value| value, fill)?,
        }
        let quantized = quantizer.finish().map_err(refused)?;
        Ok(if config.double_quant { quantized.nested() } else { quantized })
    }

    /// Calls `fill` with windows of a matrix as it is to be quantised.
    fn stream<S: Pod, T: Weight>(
        &mut self,
        info: &TensorInfo,
        target: Target,
        convert: impl Fn(S) -> T,
        fill: &mut dyn FnMut(usize, Elements<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let elements = target.shape[0].saturating_mul(target.shape[1]);
        // The number was checked against the size of the file when the header was read.
        let per_window = if target.transposed { elements } else { (WINDOW_BYTES / size_of::<S>()).min(elements) };
        let mut window = vec![S::zeroed(); per_window];
        let mut converted = Vec::new();
        for first in (0..elements).step_by(per_window.max(1)) {
            let part = &mut window[..per_window.min(elements - first)];
            self.read(info.shard, info.range.start + (first * size_of::<S>()) as u64, bytemuck::cast_slice_mut(part))?;
            if !target.transposed {
                converted.clear();
                converted.extend(part.iter().map(|value| convert(*value)));
                fill(first, T::elements(&converted))?;
            }
        }
        if target.transposed { transposed(&window, target.shape, convert, fill) } else { Ok(()) }
    }

    /// Fills `target` from byte `at` of a shard.
    fn read(&mut self, shard: usize, at: u64, target: &mut [u8]) -> Result<(), LoadError> {
        let Some(described) = self.files.shards().get(shard) else { return Ok(()) };
        let failed = |action: &'static str| move |source| LoadError::io(action, &described.path, source);
        let file = match self.open.take() {
            Some((open, file)) if open == shard => file,
            before => {
                // The file may have another name by now, or none.
                if let Some((shard, file)) = before {
                    self.check_open(shard, &file)?;
                }
                let file = automodel_config::files::open(&described.path).map_err(failed("open"))?;
                self.check_open(shard, &file)?;
                file
            }
        };
        let (_, file) = self.open.insert((shard, file));
        file.seek(SeekFrom::Start(at)).map_err(failed("read"))?;
        file.read_exact(target).map_err(failed("read"))
    }
}

fn compare(described: &Shard, now: FileStamp) -> Result<(), LoadError> {
    match described.stamp.change_to(now) {
        Some(change) => Err(LoadError::ShardChanged { file: described.path.clone(), change }),
        None => Ok(()),
    }
}

/// Calls `fill` with the rows of the transposed of `matrix`, which is `[columns, rows]` for `[rows, columns]` of the result.
fn transposed<S: Pod, T: Weight>(
    matrix: &[S],
    [rows, columns]: [usize; 2],
    convert: impl Fn(S) -> T,
    fill: &mut dyn FnMut(usize, Elements<'_>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let per_window = (WINDOW_BYTES / size_of::<S>() / columns.max(1)).clamp(1, 64);
    let mut window = vec![T::default(); per_window * columns];
    for first in (0..rows).step_by(per_window) {
        let count = per_window.min(rows - first);
        for (column, line) in matrix.chunks_exact(rows).enumerate() {
            for (row, value) in line[first..first + count].iter().enumerate() {
                window[row * columns + column] = convert(*value);
            }
        }
        fill(first * columns, T::elements(&window[..count * columns]))?;
    }
    Ok(())
}
