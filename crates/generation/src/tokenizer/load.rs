//! From the files of a checkpoint to its tokenizer, as its transformers class loads it.

use super::bounds::Bounds;
use super::class::{self, Declared, Rebuilt, TokenizerClass};
use super::rebuild;
use super::saved::{Saved, SavedToken, Vocabulary};
use super::settings::{FlaggedToken, SettingFiles, Settings, TokenValue};
use super::special::SpecialTokens;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use tokenizers::{AddedToken, AddedVocabulary, ModelWrapper, PreTokenizerWrapper, Tokenizer};

/// Tokens from which on Mistral's tokenizers were published with a wrong expression.
const MISTRAL_TOKENS: usize = 100_000;
/// The expression that they should have (`_patch_mistral_regex` of transformers 5.23).
const MISTRAL_SPLIT: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer with its bounds, special tokens and warning.
pub(super) struct Loaded {
    pub tokenizer: Tokenizer,
    pub bounds: Bounds,
    pub special_tokens: SpecialTokens,
    pub warning: Option<String>,
}

/// Loads `tokenizer_json` with the settings in `files`; `model` is `config.json`, empty without one.
pub(super) fn load(
    tokenizer_json: &[u8],
    files: SettingFiles,
    model: &Map<String, Value>,
) -> tokenizers::Result<Loaded> {
    let [of_tokenizer, of_model] =
        [&files.config, model].map(|config| config.get("tokenizer_class").and_then(Value::as_str));
    let names_llama = [of_tokenizer, of_model].into_iter().flatten().any(|name| name.starts_with("LlamaTokenizer"));
    let class = class::choose(Declared {
        model_type: model.get("model_type").and_then(Value::as_str),
        of_tokenizer,
        of_model,
        has_own_code: has_own_code(&files.config),
        // A long file is searched only if the result matters.
        is_byte_level: names_llama && mentions(tokenizer_json, b"\"ByteLevel\""),
    });
    let (mut tokenizer, settings, saved_tokens) = match &class {
        TokenizerClass::Rebuilt(class) => {
            let saved = Saved::<Vocabulary>::parse(tokenizer_json)?;
            let mut settings = Settings::new(files, &saved.added_tokens);
            rebuild::set_defaults(*class, &mut settings);
            // The other classes set their padding token themselves.
            if matches!(class, Rebuilt::CodeLlama | Rebuilt::Llama) {
                set_pad_token(&mut settings, saved.pad_token());
            }
            // Added tokens come from the settings, which have them where nothing newer speaks.
            (rebuild::rebuild(*class, saved, &settings)?, settings, Vec::new())
        }
        TokenizerClass::AsSaved | TokenizerClass::Foreign(_) => {
            let saved = Saved::<ModelWrapper>::parse(tokenizer_json)?;
            let mut settings = Settings::new(files, &saved.added_tokens);
            set_pad_token(&mut settings, saved.pad_token());
            let mut tokenizer = Tokenizer::new(saved.model);
            tokenizer.with_normalizer(saved.normalizer)?;
            tokenizer.with_pre_tokenizer(saved.pre_tokenizer);
            tokenizer.with_post_processor(saved.post_processor);
            tokenizer.with_decoder(saved.decoder);
            (tokenizer, settings, saved.added_tokens)
        }
    };
    let of_parts = Bounds::new(&tokenizer)?;
    let rebuilt = match class {
        TokenizerClass::Rebuilt(class) => Some(class),
        _ => None,
    };
    let vocabulary = added_vocabulary(&tokenizer, &of_parts, saved_tokens, &settings, rebuilt)?;
    tokenizer.with_added_vocabulary(vocabulary);
    if let Some(class) = rebuilt {
        rebuild::finish(class, &mut tokenizer, &settings)?;
    }
    if needs_mistral_split(&tokenizer, &settings, model) {
        let patched = with_mistral_split(tokenizer.get_pre_tokenizer())?;
        tokenizer.with_pre_tokenizer(patched);
    }
    let special_tokens = SpecialTokens::from_named(settings.named());
    let warning = match class {
        TokenizerClass::Foreign(name) => Some(format!(
            "transformers loads this tokenizer as a {name}, which builds its own from the vocabulary; here \
             tokenizer.json is taken as it is, so that token ids may differ"
        )),
        _ => None,
    };
    // Some steps may have been replaced.
    Ok(Loaded { bounds: Bounds::new(&tokenizer)?, tokenizer, special_tokens, warning })
}

fn set_pad_token(settings: &mut Settings, token: Option<&str>) {
    if let Some(token) = token {
        settings.set_default("pad_token", token);
    }
}

/// All added tokens, in the order in which `TokenizersBackend.__init__` adds them: those of `tokenizer.json`, those of the
/// settings, those with a role, the extra ones, and what the class adds once more.
fn added_vocabulary(
    tokenizer: &Tokenizer,
    bounds: &Bounds,
    saved: Vec<SavedToken>,
    settings: &Settings,
    class: Option<Rebuilt>,
) -> tokenizers::Result<AddedVocabulary> {
    let mut vocabulary = AddedVocabulary::new();
    vocabulary.set_encode_special_tokens(settings.is_set("split_special_tokens"));
    let mut add = |tokens: Vec<AddedToken>| {
        let bytes = tokens.iter().map(|token| token.content.len()).sum();
        let normalizer = bounds.normalizer(bytes);
        let normalizer = tokenizer.get_normalizer().map(|_| &normalizer);
        if !tokens.is_empty() {
            vocabulary.add_tokens(tokens, tokenizer.get_model(), normalizer)?;
        }
        tokenizers::Result::Ok(vocabulary.get_added_tokens_decoder().values().cloned().collect::<HashSet<_>>())
    };
    let known = add(saved.into_iter().map(|saved| saved.token).collect())?;
    let (named, extra) = (settings.named(), settings.extra());
    add(missing(&known, settings, &named, &extra))?;
    let all = || named.iter().map(|(_, token)| token).chain(&extra);
    let special = |token: &TokenValue| AddedToken::from(token.content(), true);
    match class {
        Some(Rebuilt::Qwen2) => add(all().map(special).collect())?,
        Some(Rebuilt::Cohere) => add(all()
            .map(|token| match token {
                TokenValue::Plain(_) => special(token),
                TokenValue::Flagged(token) => token.clone().into_special().into(),
            })
            .collect())?,
        _ => known,
    };
    Ok(vocabulary)
}

/// The tokens to add to `known`: all of the settings, with their flags, and those with a role or extra ones that are in neither.
fn missing(
    known: &HashSet<AddedToken>,
    settings: &Settings,
    named: &[(String, TokenValue)],
    extra: &[TokenValue],
) -> Vec<AddedToken> {
    let mut tokens: Vec<TokenValue> = settings.added.values().cloned().map(TokenValue::Flagged).collect();
    let mut contents: HashSet<&str> = known.iter().map(|token| token.content.as_str()).collect();
    contents.extend(settings.added.values().map(FlaggedToken::content));
    let mut seen: HashSet<&TokenValue> = HashSet::new();
    for token in named.iter().map(|(_, token)| token).chain(extra) {
        if !contents.contains(token.content()) && seen.insert(token) {
            tokens.push(token.clone());
        }
    }
    let roles: HashSet<&str> = named.iter().map(|(_, token)| token.content()).collect();
    let finished = tokens.into_iter().map(|token| match token {
        TokenValue::Plain(content) => AddedToken::from(content, true),
        TokenValue::Flagged(token) if roles.contains(token.content()) => token.into_special().into(),
        TokenValue::Flagged(token) => token.into(),
    });
    finished.collect()
}

fn has_own_code(config: &Map<String, Value>) -> bool {
    match config.get("auto_map") {
        Some(Value::Array(_)) => true,
        Some(map) => map.get("AutoTokenizer").is_some_and(|class| !class.is_null()),
        None => false,
    }
}

fn mentions(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// Whether the files request the fix of Mistral's expression, and belong to such a model.
fn needs_mistral_split(tokenizer: &Tokenizer, settings: &Settings, model: &Map<String, Value>) -> bool {
    let text = |key: &str| model.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let is_old = text("transformers_version").is_none_or(|version| {
        let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
        // Before its release, 5.0.0 was called 5.0.0.dev0 and 5.0.0rc1.
        major.is_some_and(|major| major < 5) || version.strip_prefix("5.0.0").is_some_and(|rest| !rest.is_empty())
    });
    let is_mistral = text("model_type")
        .is_none_or(|name| ["mistral", "mistral3", "voxtral", "ministral", "pixtral"].contains(&name));
    settings.get("fix_mistral_regex") == Some(&Value::Bool(true))
        && !model.is_empty()
        && is_old
        && is_mistral
        && tokenizer.get_pre_tokenizer().is_some()
        && tokenizer.get_vocab_size(true) > MISTRAL_TOKENS
}

fn with_mistral_split(current: Option<&PreTokenizerWrapper>) -> tokenizers::Result<Option<PreTokenizerWrapper>> {
    let split = json!({"type": "Split", "pattern": {"Regex": MISTRAL_SPLIT}, "behavior": "Isolated", "invert": false});
    let mut steps = match current {
        None => return Ok(None),
        Some(PreTokenizerWrapper::Sequence(sequence)) => {
            sequence.as_ref().iter().skip(1).map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?
        }
        Some(PreTokenizerWrapper::Metaspace(_)) => {
            vec![json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})]
        }
        Some(other) => vec![serde_json::to_value(other)?],
    };
    steps.insert(0, split);
    Ok(Some(serde_json::from_value(json!({"type": "Sequence", "pretokenizers": steps}))?))
}
