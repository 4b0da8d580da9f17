//! `automodel logits`: the logits of a sequence of token ids.

use crate::{
    error::CliError,
    failure,
    model_args::{Loaded, ModelArgs},
    output,
    values::{self, Tokens},
};
use automodel::generation::TextTokenizer;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Most likely tokens that are printed for each position.
const TOP: usize = 5;

/// Compute the logits of a sequence of token ids.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the five highest logits of each position.\n\nExample: automodel logits demo --tokens 1,6,11,14 --dtype float32 --out logits.safetensors"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", value_parser = values::tokens, allow_hyphen_values = true)]
    tokens: Tokens,
    /// Write the tensor `logits`, float32 `[len, vocab]`, to this safetensors file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    args.out.as_deref().map_or(Ok(()), check_out)?;
    let mut loaded = args.model.load(json)?;
    let tokens = args.tokens.0.as_slice();
    if let Some(warning) = beyond_positions(&loaded, tokens.len()) {
        if !json {
            failure::warn(&warning);
        }
        loaded.warnings.push(warning);
    }
    let logits = Logits::compute(&loaded, tokens)?;
    if let Some(path) = &args.out {
        logits.write(path).map_err(|source| CliError::OutputFile { path: path.clone(), source })?;
    }
    let tokenizer = loaded.model.tokenizer();
    if json {
        output::print_json(&logits.as_json(tokens, tokenizer, args.out.as_deref(), &loaded.warnings))
    } else {
        output::print(&logits.as_text(tokens, tokenizer))
    }
}

/// Checks that the file can be written before anything is loaded.
fn check_out(path: &Path) -> Result<(), CliError> {
    if path.is_dir() {
        return Err(CliError::OutputIsDirectory { path: path.to_owned() });
    }
    let directory = directory_of(path);
    if !directory.is_dir() {
        return Err(CliError::MissingOutputDirectory { path: path.to_owned(), directory: directory.to_owned() });
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beyond_positions(loaded: &Loaded, length: usize) -> Option<String> {
    let limit = loaded.model.model().max_position_embeddings().filter(|&limit| length > limit)?;
    Some(format!("{length} tokens exceed the {limit} positions of the model"))
}

/// Logits `[length, vocab_size]`, row by row.
struct Logits {
    values: Vec<f32>,
    length: usize,
    vocab_size: usize,
}

impl Logits {
    fn compute(loaded: &Loaded, tokens: &[u32]) -> Result<Self, CliError> {
        let logits = loaded.model.logits(tokens)?;
        let [length, vocab_size] = logits.dims();
        let data = logits.try_into_data().map_err(|source| CliError::UnreadableLogits { source: Box::new(source) })?;
        let values = data.try_into_vec::<f32>().map_err(|source| {
            // The error of this conversion is not a `std::error::Error`.
            CliError::UnreadableLogits { source: format!("{source:?}").into() }
        })?;
        Ok(Self { values, length, vocab_size })
    }

    /// Writes a temporary file beside `path` and renames it to `path` at the end.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".logits-").suffix(".partial");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory_of(path))?.into_temp_path();
        let permissions = std::fs::metadata(&file)?.permissions();
        // The format is little-endian; the loader supports no other machines.
        let bytes: &[u8] = bytemuck::cast_slice(&self.values);
        let view = TensorView::new(Dtype::F32, vec![self.length, self.vocab_size], bytes).map_err(io::Error::other)?;
        safetensors::serialize_to_file([("logits", view)], None, &file).map_err(io::Error::other)?;
        // The library creates a new file with permissions for its owner alone.
        std::fs::set_permissions(&file, permissions)?;
        file.persist(path).map_err(|error| error.error)
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size.max(1))
    }

    fn as_text(&self, tokens: &[u32], tokenizer: Option<&TextTokenizer>) -> String {
        let header = ["position", "token", "top five: id, token, logit"].map(str::to_owned).to_vec();
        let named = |token: u32| match text_of(token, tokenizer) {
            Some(text) => format!("{token} {text:?}"),
            None => token.to_string(),
        };
        let rows = self.rows().zip(tokens).enumerate().map(|(position, (row, &token))| {
            let best = top(row).into_iter().map(|(token, logit)| format!("{} {logit:.4}", named(token)));
            [position.to_string(), named(token)].into_iter().chain(best).collect()
        });
        output::table(&std::iter::once(header).chain(rows).collect::<Vec<Vec<String>>>(), &[0])
    }

    fn as_json(
        &self,
        tokens: &[u32],
        tokenizer: Option<&TextTokenizer>,
        out: Option<&Path>,
        warnings: &[String],
    ) -> Value {
        let entry =
            |(token, logit): (u32, f32)| json!({ "token": token, "text": text_of(token, tokenizer), "logit": logit });
        let positions = self.rows().zip(tokens).enumerate().map(|(position, (row, &token))| {
            let best: Vec<Value> = top(row).into_iter().map(entry).collect();
            json!({ "position": position, "token": token, "text": text_of(token, tokenizer), "top": best })
        });
        json!({
            "shape": [self.length, self.vocab_size],
            "out": out,
            "positions": positions.collect::<Vec<_>>(),
            "warnings": warnings,
        })
    }
}

/// The token as the vocabulary writes it: unlike text, that also shows parts of characters.
fn text_of(token: u32, tokenizer: Option<&TextTokenizer>) -> Option<String> {
    tokenizer?.token(token)
}

/// The highest logits with their tokens, highest first; of equal ones the lowest id first, NaN last.
fn top(row: &[f32]) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(TOP + 1);
    for (token, &logit) in (0..).zip(row) {
        let before = |known: f32| !(known < logit || (known.is_nan() && !logit.is_nan()));
        let place = best.partition_point(|&(_, known)| before(known));
        if place < TOP {
            best.insert(place, (token, logit));
            best.truncate(TOP);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_come_first_and_nan_last() {
        let row = [f32::NAN, 1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0];
        let tokens: Vec<u32> = top(&row).into_iter().map(|(token, _)| token).collect();
        assert_eq!(tokens, [2, 4, 5, 1, 3]);
        let tokens: Vec<u32> = top(&[f32::NAN, 0.0]).into_iter().map(|(token, _)| token).collect();
        assert_eq!(tokens, [1, 0]);
    }
}
