//! A tokenizer's pipeline with bounded output.

use super::decode::DecoderStep;
use super::growth::{Growth, STEPS_LIMIT, TOKEN_LIMIT, TooMuch, allowed};
use super::normalize::{BoundedNormalizer, NormalizerStep};
use serde_json::Value;
use tokenizers::{
    Encoding, Model, ModelWrapper, OffsetReferential, OffsetType, PostProcessorWrapper, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

/// Maximum of copies of a text that a post-processor makes; those in use make one.
const COPIES_LIMIT: usize = 8;
/// Maximum of tokens that a post-processor adds, and of their bytes.
const ADDED_LIMIT: usize = 1024;
const ADDED_BYTES_LIMIT: usize = 64 << 10;

/// Bounds on the output of each step of a tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    normalizers: Vec<NormalizerStep>,
    pre_tokenizers: Vec<PreTokenizerStep>,
    decoders: Vec<DecoderStep>,
    /// Whether the output is always within the limit, so that no step needs to be measured.
    encodes_little: bool,
    decodes_little: bool,
}

#[derive(Clone, Debug)]
struct PreTokenizerStep {
    run: PreTokenizerWrapper,
    growth: Growth,
}

impl Bounds {
    /// Checks all parts of a tokenizer except its added tokens.
    ///
    /// # Errors
    /// The part that could exceed the limit for any text.
    pub(super) fn new(tokenizer: &Tokenizer) -> tokenizers::Result<Self> {
        check_model(tokenizer.get_model())?;
        check_post_processor(tokenizer.get_post_processor())?;
        let normalizers = NormalizerStep::all(tokenizer.get_normalizer())?;
        let pre_tokenizers = PreTokenizerStep::all(tokenizer.get_pre_tokenizer())?;
        let decoders = DecoderStep::all(tokenizer.get_decoder())?;
        let pre_tokenized = pre_tokenizers.iter().fold(Growth::NONE, |growth, step| growth.then(step.growth));
        Ok(Self {
            encodes_little: NormalizerStep::growth(&normalizers).then(pre_tokenized).is_small(),
            decodes_little: DecoderStep::growth(&decoders).is_small(),
            normalizers,
            pre_tokenizers,
            decoders,
        })
    }

    /// A normalizer for texts of `bytes` together.
    pub(super) fn normalizer(&self, bytes: usize) -> BoundedNormalizer<'_> {
        BoundedNormalizer::new(&self.normalizers, bytes)
    }

    /// Encodes a text with `tokenizer`.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str, special: bool) -> tokenizers::Result<Encoding> {
        if self.encodes_little {
            return tokenizer.encode_fast(text, special);
        }
        // As `encode_single_sequence` of the library, with a check before each step.
        let normalizer = self.normalizer(text.len());
        let mut pieces = tokenizer.get_added_vocabulary().extract_and_normalize(Some(&normalizer), text);
        normalizer.finish()?;
        for step in &self.pre_tokenizers {
            if step.growth != Growth::NONE && step.measure(&pieces) > allowed(text.len()) {
                return Err(TooMuch { bytes: text.len() }.into());
            }
            step.run.pre_tokenize(&mut pieces)?;
        }
        tokenizer.get_model().tokenize_in_pretokenized(&mut pieces, None)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
        tokenizer.post_process(encoding, None, special)
    }

    /// The text of `ids`, as `Tokenizer::decode` of the library.
    pub(super) fn decode(&self, tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> tokenizers::Result<String> {
        let added = tokenizer.get_added_vocabulary();
        let limit = ids.len().saturating_mul(TOKEN_LIMIT).saturating_add(allowed(0));
        let (mut tokens, mut bytes) = (Vec::new(), 0usize);
        for token in ids.iter().filter_map(|id| tokenizer.id_to_token(*id)) {
            if skip_special && added.is_special_token(&token) {
                continue;
            }
            bytes = bytes.saturating_add(token.len());
            if bytes > limit {
                return Err(format!("{} tokens have more than {limit} bytes of text", ids.len()).into());
            }
            tokens.push(token);
        }
        match tokenizer.get_decoder() {
            None => Ok(tokens.join(" ")),
            Some(decoder) if self.decodes_little => tokenizers::Decoder::decode(decoder, tokens),
            Some(_) => DecoderStep::run_all(&self.decoders, tokens),
        }
    }
}

impl PreTokenizerStep {
    fn all(pre_tokenizer: Option<&PreTokenizerWrapper>) -> tokenizers::Result<Vec<Self>> {
        let mut pending: Vec<&PreTokenizerWrapper> = pre_tokenizer.into_iter().collect();
        let mut steps = Vec::new();
        while let Some(next) = pending.pop() {
            match next {
                PreTokenizerWrapper::Sequence(sequence) => pending.extend(sequence.as_ref().iter().rev()),
                step => steps.push(Self { run: step.clone(), growth: pre_tokenizer_growth(step) }),
            }
            if steps.len() + pending.len() > STEPS_LIMIT {
                return Err(format!("its pre-tokenizer has more than {STEPS_LIMIT} steps").into());
            }
        }
        Ok(steps)
    }

    /// Maximum of bytes that the step makes of `pieces`; each piece may get a prefix.
    fn measure(&self, pieces: &PreTokenizedString) -> usize {
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        let open = splits.iter().filter(|(_, _, tokens)| tokens.is_none());
        let measure = |text: &str| match &self.run {
            PreTokenizerWrapper::ByteLevel(_) => {
                2 + text.bytes().map(|byte| if byte.is_ascii_graphic() { 1 } else { 2 }).sum::<usize>()
            }
            PreTokenizerWrapper::Metaspace(space) => {
                let added = space.get_replacement().len_utf8();
                added + text.len() + text.bytes().filter(|byte| *byte == b' ').count() * (added - 1)
            }
            _ => text.len(),
        };
        open.map(|(text, _, _)| measure(text)).fold(0, usize::saturating_add)
    }
}

/// Only two kinds of pre-tokenizers add bytes: GPT-2's, two for one and a space before each piece, and sentencepiece's, its space
/// for each space and before each piece.
fn pre_tokenizer_growth(step: &PreTokenizerWrapper) -> Growth {
    match step {
        PreTokenizerWrapper::ByteLevel(_) => Growth::by(4),
        PreTokenizerWrapper::Metaspace(space) => Growth::by(2 * space.get_replacement().len_utf8()),
        _ => Growth::NONE,
    }
}

/// Strings that a model repeats by itself must be short.
fn check_model(model: &ModelWrapper) -> tokenizers::Result<()> {
    let repeated = match model {
        ModelWrapper::BPE(bpe) => [&bpe.unk_token, &bpe.continuing_subword_prefix, &bpe.end_of_word_suffix]
            .into_iter()
            .flatten()
            .map(String::len)
            .max(),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.len().max(model.continuing_subword_prefix.len())),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.len()),
        ModelWrapper::Unigram(_) => None,
    };
    match repeated {
        Some(length) if length > TOKEN_LIMIT => {
            Err(format!("its unknown token, prefix or suffix has more than {TOKEN_LIMIT} bytes").into())
        }
        _ => Ok(()),
    }
}

/// The tokens that a post-processor adds do not depend on the text, so they can be counted.
fn check_post_processor(processor: Option<&PostProcessorWrapper>) -> tokenizers::Result<()> {
    let mut pending: Vec<&PostProcessorWrapper> = processor.into_iter().collect();
    let (mut steps, mut copies, mut added, mut bytes) = (0usize, 1usize, 0usize, 0usize);
    while let Some(next) = pending.pop() {
        steps += 1;
        match next {
            PostProcessorWrapper::Sequence(sequence) => pending.extend(sequence.as_ref().iter().rev()),
            PostProcessorWrapper::Template(template) => {
                let template = Template::new(&serde_json::to_value(template)?);
                copies = copies.saturating_mul(template.copies);
                added = added.saturating_add(template.tokens);
                bytes = bytes.saturating_add(template.bytes);
            }
            other => {
                // `[CLS]`, `[SEP]` and similar tokens.
                added = added.saturating_add(4);
                bytes = bytes.saturating_add(serde_json::to_string(other)?.len());
            }
        }
        if steps + pending.len() > STEPS_LIMIT
            || copies > COPIES_LIMIT
            || added > ADDED_LIMIT
            || bytes > ADDED_BYTES_LIMIT
        {
            return Err(format!(
                "its post-processor has more than {STEPS_LIMIT} steps, copies a text more than {COPIES_LIMIT} times, or adds \
                 more than {ADDED_LIMIT} tokens or {ADDED_BYTES_LIMIT} bytes"
            )
            .into());
        }
    }
    Ok(())
}

/// The maximum output of a template of a post-processor, of one text or of two.
#[derive(Clone, Copy, Default)]
struct Template {
    copies: usize,
    tokens: usize,
    bytes: usize,
}

impl Template {
    fn new(saved: &Value) -> Self {
        let [one, two] = ["single", "pair"].map(|kind| {
            let pieces = saved.get(kind).and_then(Value::as_array).into_iter().flatten();
            pieces.fold(Self::default(), |sum, piece| sum.with(piece, saved))
        });
        Self {
            copies: one.copies.max(two.copies).max(1),
            tokens: one.tokens.max(two.tokens),
            bytes: one.bytes.max(two.bytes),
        }
    }

    fn with(self, piece: &Value, saved: &Value) -> Self {
        let Some(id) = piece.get("SpecialToken").and_then(|token| token.get("id")?.as_str()) else {
            return Self { copies: self.copies.saturating_add(1), ..self };
        };
        let list = |name: &str| saved.get("special_tokens")?.get(id)?.get(name)?.as_array();
        let bytes: usize = list("tokens").into_iter().flatten().filter_map(Value::as_str).map(str::len).sum();
        let tokens = list("ids").map_or(0, Vec::len);
        Self {
            copies: self.copies,
            tokens: self.tokens.saturating_add(tokens.max(1)),
            bytes: self.bytes.saturating_add(bytes),
        }
    }
}
