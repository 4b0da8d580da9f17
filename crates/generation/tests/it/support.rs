//! Small tokenizers and a small model.

use automodel_generation::{SpecialTokens, TextTokenizer};
use automodel_models::parameters::ParameterTensor;
use automodel_models::{
    CacheOptions, CausalLm, CustomState, DecodeCache, LogitsFor, MixerState, Model, ModelError, TokenBatch,
};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use std::any::Any;
use std::sync::{Arc, Mutex};

/// `tokenizer.json` of a byte-level BPE without merges: one token for each of the 256 bytes, then `<s>` and `</s>`.
pub fn byte_level() -> Value {
    // `bytes_to_unicode` of GPT-2: printable bytes stand for themselves, the others for what follows U+00FF.
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut vocab = serde_json::Map::new();
    let mut shifted = 0x100;
    for byte in 0..256u32 {
        let letter = if printable(&byte) {
            byte
        } else {
            shifted += 1;
            shifted - 1
        };
        vocab.insert(char::from_u32(letter).unwrap().to_string(), json!(byte));
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(256, "<s>"), special(257, "</s>")],
        "pre_tokenizer": level, "decoder": level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
        },
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": false},
    })
}

/// `tokenizer.json` as sentencepiece models are converted: `▁` for spaces, byte tokens for what is not in the vocabulary.
pub fn byte_fallback() -> Value {
    let mut vocab = serde_json::Map::new();
    for token in ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "é", "▁▁"] {
        vocab.insert(token.to_owned(), json!(vocab.len()));
    }
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(vocab.len()));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["▁", "a"]], "byte_fallback": true, "unk_token": "<unk>",
            "fuse_unk": true},
    })
}

/// `tokenizer.json` of whole words without a decoder, which joins them with spaces.
pub fn word_level(words: &[&str]) -> Value {
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": words[0]},
    })
}

pub fn special(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false})
}

pub fn tokenizer(file: &Value) -> TextTokenizer {
    TextTokenizer::new(tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap(), SpecialTokens::default())
}

/// A model that computes its logits from all tokens of a row that it has seen, by a rule that a test gives.
pub struct RuleModel {
    pub vocab_size: usize,
    pub max_position_embeddings: Option<usize>,
    pub rule: fn(&[u32], &mut [f32]),
    /// The batches that were run: their lengths and tokens.
    pub batches: Arc<Mutex<Vec<TokenBatch>>>,
    pub capacities: Arc<Mutex<Vec<Option<usize>>>>,
    pub takes_parts: bool,
}

impl RuleModel {
    pub fn new(vocab_size: usize, rule: fn(&[u32], &mut [f32])) -> Self {
        let (batches, capacities) = (Arc::default(), Arc::default());
        Self { vocab_size, max_position_embeddings: None, rule, batches, capacities, takes_parts: true }
    }

    /// Continues with the letter after the last one, byte by byte, then `</s>` after `z`.
    pub fn alphabet() -> Self {
        Self::new(258, |seen, logits| {
            let last = *seen.last().unwrap();
            logits[if last == u32::from(b'z') { 257 } else { last as usize + 1 }] = 9.0;
        })
    }
}

impl std::fmt::Debug for RuleModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleModel").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Seen(Vec<Vec<u32>>);

impl CustomState for Seen {
    fn bytes(&self) -> usize {
        self.0.iter().map(|row| row.len() * size_of::<u32>()).sum()
    }
}

impl Model for RuleModel {
    fn device(&self) -> Device {
        Device::default()
    }

    fn visit_parameters(&self, _: &mut dyn FnMut(&str, &[usize])) {}

    fn assign_parameters(&mut self, _: &mut dyn FnMut(&str) -> Option<ParameterTensor>) -> Result<(), ModelError> {
        Ok(())
    }

    fn read_parameters(&self, _: &mut dyn FnMut(&str, ParameterTensor)) {}
}

impl CausalLm for RuleModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        self.max_position_embeddings
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        self.capacities.lock().unwrap().push(options.capacity);
        let seen = Seen(vec![Vec::new(); options.batch_size]);
        DecodeCache::new(options.batch_size, vec![MixerState::Custom(Box::new(seen))])
    }

    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        assert_eq!(logits, LogitsFor::Last);
        cache.advance(batch)?;
        self.batches.lock().unwrap().push(batch.clone());
        let mut values = vec![0.0f32; batch.batch_size() * self.vocab_size];
        let before = cache.length() - batch.length();
        let padding = cache.padding().to_vec();
        let MixerState::Custom(state) = &mut cache.states[0] else { panic!("not our cache") };
        let state: &mut dyn Any = &mut **state;
        let Seen(seen) = state.downcast_mut().unwrap();
        let rows = batch.ids().chunks(batch.length()).zip(padding);
        for (((ids, padding), seen), logits) in rows.zip(seen).zip(values.chunks_mut(self.vocab_size)) {
            seen.extend(&ids[padding.saturating_sub(before).min(ids.len())..]);
            if !seen.is_empty() {
                (self.rule)(seen, logits);
            }
        }
        let shape = [batch.batch_size(), 1, self.vocab_size];
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device()))
    }

    fn supports_chunked_prefill(&self) -> bool {
        self.takes_parts
    }
}
