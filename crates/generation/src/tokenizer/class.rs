//! The transformers class that loads a tokenizer.
//!
//! A class need not use `tokenizer.json` as it is: most classes of a model keep its vocabulary and rebuild the rest. So the class
//! decides the ids. The choice is that of `AutoTokenizer.from_pretrained`
//! (`models/auto/tokenization_auto.py` of transformers 5.23, without mistral-common).

/// The declarations of a checkpoint about its tokenizer class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declared<'a> {
    /// `model_type` of `config.json`.
    pub model_type: Option<&'a str>,
    /// `tokenizer_class` of `tokenizer_config.json`.
    pub of_tokenizer: Option<&'a str>,
    /// `tokenizer_class` of `config.json`.
    pub of_model: Option<&'a str>,
    /// Whether `tokenizer_config.json` names a tokenizer with custom code.
    pub has_own_code: bool,
    /// Whether `tokenizer.json` mentions `"ByteLevel"`.
    pub is_byte_level: bool,
}

/// How a class of transformers treats `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenizerClass {
    /// As it is.
    AsSaved,
    /// It keeps the vocabulary, and rebuilds the rest as in [`super::rebuild`].
    Rebuilt(Rebuilt),
    /// It rebuilds the tokenizer in a way that is not implemented here.
    Foreign(String),
}

/// Classes that rebuild their tokenizer from the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebuilt {
    CodeGen,
    CodeLlama,
    Cohere,
    Gemma,
    Gpt2,
    GptNeoX,
    Llama,
    Qwen2,
    Qwen3_5,
}

/// The class that transformers loads the tokenizer with.
pub(super) fn choose(declared: Declared<'_>) -> TokenizerClass {
    let named = |name: Option<&'static str>| name.map_or(TokenizerClass::AsSaved, by_name);
    let own = declared.of_tokenizer.filter(|name| !name.is_empty());
    let of_model = declared.of_model.filter(|name| !name.is_empty());
    let registered = declared.model_type.and_then(registered);
    let distrusted = declared.model_type.is_some_and(|name| lists(DISTRUSTED, name));
    if let Some(declared_name) = own.or(of_model).filter(|_| !declared.has_own_code) {
        let short = without_fast(declared_name);
        if short == "LlamaTokenizer" && !distrusted && declared.is_byte_level {
            return TokenizerClass::AsSaved;
        }
        if let Some(registered) = registered.filter(|registered| *registered != short) {
            return match registered {
                AS_SAVED => TokenizerClass::AsSaved,
                _ if distrusted => by_name(registered),
                _ => by_name(declared_name),
            };
        }
    }
    match (own, of_model) {
        (Some(name), _) | (None, Some(name)) => by_name(without_fast(name)),
        (None, None) => named(registered),
    }
}

fn without_fast(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

/// A class by its name; names unknown to transformers load `tokenizer.json` as it is.
fn by_name(name: &str) -> TokenizerClass {
    let short = without_fast(name);
    let rebuilt = match short {
        "CodeGenTokenizer" => Rebuilt::CodeGen,
        "CodeLlamaTokenizer" => Rebuilt::CodeLlama,
        "CohereTokenizer" => Rebuilt::Cohere,
        "GemmaTokenizer" => Rebuilt::Gemma,
        "GPT2Tokenizer" => Rebuilt::Gpt2,
        "GPTNeoXTokenizer" => Rebuilt::GptNeoX,
        "LlamaTokenizer" => Rebuilt::Llama,
        "Qwen2Tokenizer" => Rebuilt::Qwen2,
        "Qwen3_5Tokenizer" => Rebuilt::Qwen3_5,
        _ if lists(FOREIGN, short) => return TokenizerClass::Foreign(short.to_owned()),
        _ => return TokenizerClass::AsSaved,
    };
    TokenizerClass::Rebuilt(rebuilt)
}

/// Whether `words`, separated by spaces, have `word`.
fn lists(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|other| other == word)
}

const AS_SAVED: &str = "TokenizersBackend";

/// The class that is registered for a type of model (`TOKENIZER_MAPPING_NAMES`), as far as language models go. A type without a
/// config class of transformers counts as no type.
fn registered(model_type: &str) -> Option<&'static str> {
    REGISTERED.iter().find(|(_, types)| lists(types, model_type)).map(|(class, _)| *class)
}

const REGISTERED: [(&str, &str); 8] = [
    ("CohereTokenizer", "aya_vision cohere cohere2"),
    (
        "GemmaTokenizer",
        "diffusion_gemma gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma shieldgemma2 \
         t5gemma zaya",
    ),
    (
        "GPT2Tokenizer",
        "blip-2 codegen dbrx emu3 gpt2 gpt_neo gptj hyperclovax_vision_v2 instructblip instructblipvideo \
         jais2 opt phi starcoder2",
    ),
    ("GPTNeoXTokenizer", "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm"),
    ("LlamaTokenizer", "idefics idefics2"),
    (
        "Qwen2Tokenizer",
        "audioflamingo3 colqwen2 cosmos3_omni dots3_note fun_asr_nano hunyuan_vl internvl lighton_ocr \
         moss_transcribe_diarize ovis2 qianfan_ocr qwen2 qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_moe \
         qwen2_vl qwen3 qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe vibevoice",
    ),
    ("Qwen3_5Tokenizer", "qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen4_exp"),
    (
        AS_SAVED,
        "EvollaModel aria beam bigbird_pegasus canary cohere_asr ernie4_5 \
         ernie4_5_moe flex_olmo fuyu glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm_image glmasr \
         got_ocr2 gpt_bigcode gradium_phonon_tts granite granitemoe granitemoehybrid granitemoeshared \
         hyperclovax internlm3 iquestcoder jamba kimi_k25 kimi_linear \
         kosmos-2 llava llava_next mimo_v2_flash minicpm3 minicpm_ocr minicpmv4_6 minicpmv4_7 \
         minimax_m2 ministral ministral3 mistral mistral3 mistral_large4 mixtral modernbert \
         modernbert-decoder molmo2 nemo_speechlm nemotron nystromformer olmo2 olmo3 olmo_hybrid \
         paddleocr_vl pegasus_x persimmon phi3 phimoe pix2struct pixtral pocket_tts \
         smolvlm stablelm umt5 vipllava voxtral voxtral_realtime xlm-roberta-xl",
    ),
];

/// Model types whose checkpoints often name the wrong class, so that the registered one is used
/// (`MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS`); of those that are registered as they are saved only what else it changes.
const DISTRUSTED: &str = "hyperclovax_vision_v2 qwen2 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen4_exp";

/// Other classes with a constructor that does not use `tokenizer.json` as it is.
const FOREIGN: &str = "\
    AlbertTokenizer BartTokenizer BarthezTokenizer BertTokenizer BigBirdTokenizer BlenderbotTokenizer \
    CLIPTokenizer CamembertTokenizer ConvBertTokenizer CpmTokenizer DPRContextEncoderTokenizer \
    DPRQuestionEncoderTokenizer DPRReaderTokenizer DebertaTokenizer DebertaV2Tokenizer \
    DistilBertTokenizer EsmcTokenizer FNetTokenizer FunnelTokenizer HerbertTokenizer LEDTokenizer \
    LasrTokenizer LayoutLMv2Tokenizer LayoutLMv3Tokenizer LayoutXLMTokenizer LukeTokenizer \
    LxmertTokenizer MBart50Tokenizer MBartTokenizer MLukeTokenizer MPNetTokenizer MarkupLMTokenizer \
    MobileBertTokenizer MvpTokenizer NllbTokenizer NougatTokenizer OpenAIGPTTokenizer PegasusTokenizer \
    ReformerTokenizer RemBertTokenizer RoFormerTokenizer RobertaTokenizer SeamlessM4TTokenizer \
    Siglip2Tokenizer SplinterTokenizer SqueezeBertTokenizer T5Tokenizer Tipsv2Tokenizer UdopTokenizer \
    VideoPrismTokenizer WhisperTokenizer XGLMTokenizer XLMRobertaTokenizer XLNetTokenizer \
    GPTSw3Tokenizer CTRLTokenizer";

#[cfg(test)]
mod tests {
    use super::*;

    fn class(model_type: &str, name: &str) -> TokenizerClass {
        let name = Some(name).filter(|name| !name.is_empty());
        choose(Declared { model_type: Some(model_type), of_tokenizer: name, ..Declared::default() })
    }

    #[test]
    fn the_class_is_that_of_auto_tokenizer() {
        use TokenizerClass::{AsSaved, Foreign};
        let cases = [
            ("llama", "LlamaTokenizerFast", TokenizerClass::Rebuilt(Rebuilt::Llama)),
            ("llama", "PreTrainedTokenizerFast", AsSaved),
            ("llama", "SomebodysTokenizer", AsSaved),
            ("llama", "", AsSaved),
            // The registered class of a model type overrides the one that a file names.
            ("olmo2", "GPT2Tokenizer", AsSaved),
            ("qwen2", "PreTrainedTokenizerFast", TokenizerClass::Rebuilt(Rebuilt::Qwen2)),
            ("qwen2", "LlamaTokenizerFast", TokenizerClass::Rebuilt(Rebuilt::Qwen2)),
            ("gpt2", "", TokenizerClass::Rebuilt(Rebuilt::Gpt2)),
            // Unless the type is not in the list.
            ("qwen3", "PreTrainedTokenizerFast", AsSaved),
            ("gpt2", "LlamaTokenizer", TokenizerClass::Rebuilt(Rebuilt::Llama)),
            ("phi", "CodeGenTokenizer", TokenizerClass::Rebuilt(Rebuilt::CodeGen)),
            ("llama", "BertTokenizerFast", Foreign("BertTokenizer".to_owned())),
        ];
        for (model_type, name, expected) in cases {
            assert_eq!(class(model_type, name), expected, "{model_type} {name}");
        }
        let llama = Declared { of_tokenizer: Some("LlamaTokenizer"), ..Declared::default() };
        assert_eq!(choose(Declared { is_byte_level: true, ..llama }), AsSaved);
        assert_eq!(
            choose(Declared { model_type: Some("gpt2"), of_tokenizer: None, of_model: llama.of_tokenizer, ..llama }),
            TokenizerClass::Rebuilt(Rebuilt::Llama)
        );
    }
}
