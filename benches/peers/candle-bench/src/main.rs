//! What candle takes for the same checkpoint: load, first token, prefill, decode, peak memory.
//!
//! `candle-bench DIR [--dtype bf16|f32] [--prompt-tokens 512] [--new-tokens 16] [--warmup 0]` prints one JSON object with the keys
//! of `automodel bench --json`. Threads: `RAYON_NUM_THREADS`.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use serde_json::{Value, json};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let start = Instant::now();
    let config = config(&arguments.model, arguments.prompt_tokens as usize + arguments.new_tokens)?;
    // SAFETY: nothing writes the files of the checkpoint while a benchmark reads them.
    let weights =
        unsafe { VarBuilder::from_mmaped_safetensors(&shards(&arguments.model)?, arguments.dtype, &Device::Cpu)? };
    let llama = Llama::load(weights, &config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    for _ in 0..arguments.warmup {
        generate(&llama, &config, &arguments)?;
    }
    let mut report = generate(&llama, &config, &arguments)?;
    report["load_seconds"] = json!(load_seconds);
    report["peak_resident_bytes"] = json!(peak_resident_bytes());
    println!("{report}");
    Ok(())
}

struct Arguments {
    model: PathBuf,
    dtype: DType,
    prompt_tokens: u32,
    new_tokens: usize,
    warmup: usize,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut arguments = std::env::args().skip(1);
        let model = arguments.next().ok_or("the directory of a checkpoint is missing")?.into();
        let mut read = Self { model, dtype: DType::BF16, prompt_tokens: 512, new_tokens: 16, warmup: 0 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
            match (name.as_str(), value.as_str()) {
                ("--dtype", "bf16") => read.dtype = DType::BF16,
                ("--dtype", "f32") => read.dtype = DType::F32,
                ("--prompt-tokens", count) => read.prompt_tokens = count.parse()?,
                ("--new-tokens", count) => read.new_tokens = count.parse()?,
                ("--warmup", count) => read.warmup = count.parse()?,
                _ => return Err(format!("{name} {value} is not known").into()),
            }
        }
        Ok(read)
    }
}

/// A greedy generation: what it took, and the tokens.
fn generate(llama: &Llama, config: &Config, arguments: &Arguments) -> Result<Value> {
    let mut cache = Cache::new(true, arguments.dtype, config, &Device::Cpu)?;
    let mut past = 0;
    let mut step = |tokens: &[u32]| -> Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = llama.forward(&input, past, &mut cache)?;
        past += tokens.len();
        Ok(logits.squeeze(0)?.argmax(0)?.to_scalar::<u32>()?)
    };
    let vocab_size = u32::try_from(config.vocab_size)?;
    let prompt: Vec<u32> = (0..arguments.prompt_tokens).map(|index| token(index, vocab_size)).collect();

    let began = Instant::now();
    let mut last = step(&prompt)?;
    let first_token_seconds = began.elapsed().as_secs_f64();
    let mut generated = vec![last];
    let decoding = Instant::now();
    while generated.len() < arguments.new_tokens {
        last = step(&[last])?;
        generated.push(last);
    }
    let decoded = generated.len() - 1;
    Ok(json!({
        "first_token_seconds": first_token_seconds,
        "prefill_tokens_per_second": f64::from(arguments.prompt_tokens) / first_token_seconds,
        "decode_tokens_per_second": (decoded > 0).then(|| decoded as f64 / decoding.elapsed().as_secs_f64()),
        "tokens": generated,
    }))
}

/// The prompt of `automodel bench`.
fn token(index: u32, vocab_size: u32) -> u32 {
    ((u64::from(index) * 7919 + 13) % u64::from(vocab_size)) as u32
}

/// The model's config with room for `length` positions.
fn config(model: &Path, length: usize) -> Result<Config> {
    let mut json: Value = serde_json::from_slice(&fs::read(model.join("config.json"))?)?;
    if json["model_type"] != "llama" {
        return Err(format!("model_type {}: only llama is known here", json["model_type"]).into());
    }
    // candle knows the older place of this key.
    if let Some(theta) = json.pointer("/rope_parameters/rope_theta").cloned() {
        json["rope_theta"] = theta;
    }
    let mut config = serde_json::from_value::<LlamaConfig>(json)?.into_config(false);
    config.max_position_embeddings = config.max_position_embeddings.max(length);
    Ok(config)
}

fn shards(model: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(model)?.collect::<std::io::Result<Vec<_>>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect())
}

/// `VmHWM` of this process, which Linux counts in KiB.
fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
