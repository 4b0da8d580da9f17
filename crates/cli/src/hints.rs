//! Hints for errors, in terms of the command's options.

use crate::error::CliError;
use automodel::config::ConfigError;
use automodel::generation::GenerationError;
use automodel::hub::HubError;
use automodel::loader::{DtypePolicy, LoadError};
use automodel::models::ModelError;
use automodel::quant::QuantError;
use automodel::registry::RegistryError;
use automodel::{AutoModelError, DeviceMemory, SmallerLoad};

/// A hint for `error`, if the command has one.
pub fn hint(error: &CliError) -> Option<String> {
    match error {
        CliError::AutoModel(error) => of_library(error),
        CliError::UnreadablePrompt { .. } => {
            Some("give the prompt with --prompt TEXT, --prompt-file FILE or on standard input".to_owned())
        }
        _ => None,
    }
}

fn of_library(error: &AutoModelError) -> Option<String> {
    match error {
        AutoModelError::Hub(error) => of_hub(error),
        AutoModelError::Registry(RegistryError::Config { source, .. }) => of_config(source),
        AutoModelError::Config(error) => of_config(error),
        AutoModelError::Registry(RegistryError::UnsupportedArchitecture { similar, .. }) if !similar.is_empty() => {
            let hint = "`automodel architectures NAME` says what a family computes; --assume NAME computes it as that family, a guess";
            Some(hint.to_owned())
        }
        AutoModelError::Registry(
            RegistryError::UnsupportedArchitecture { .. } | RegistryError::UnknownAssumption { .. },
        ) => Some("`automodel architectures` lists the model types that this program supports".to_owned()),
        AutoModelError::Quant(QuantError::UnsupportedMethod { .. }) => {
            Some("--quantize nf4 quantises a 16-bit checkpoint while it is loaded".to_owned())
        }
        AutoModelError::Load(LoadError::OutputExists { reason, .. }) if reason.contains("allow overwriting") => {
            Some("--overwrite replaces a directory that holds a checkpoint".to_owned())
        }
        AutoModelError::Load(LoadError::MappedFileChanged { .. }) => {
            Some("--no-mmap copies the weights, so that the files may change".to_owned())
        }
        AutoModelError::Generation(error) => of_generation(error),
        AutoModelError::InsufficientMemory { memory, smaller, .. } => Some(of_memory(*memory, smaller)),
        AutoModelError::NoTokenizer => {
            Some("`automodel logits MODEL --tokens 1,2,3` works without a tokenizer".to_owned())
        }
        _ => None,
    }
}

fn of_memory(memory: DeviceMemory, smaller: &[SmallerLoad]) -> String {
    let flags = |fits: &dyn Fn(&SmallerLoad) -> bool| {
        smaller.iter().filter(|load| fits(load)).map(load_flags).collect::<Vec<_>>().join(" or ")
    };
    let resident = flags(&|load| load.needed_bytes.saturating_add(load.mapped_bytes) <= memory.available_bytes);
    let evicting = flags(&|load| load.needed_bytes <= memory.available_bytes);
    let mut hints = Vec::new();
    if !resident.is_empty() {
        hints.push(format!("{resident} fits"));
    } else if !evicting.is_empty() {
        hints.push(format!("{evicting} loads, but runs slowly: evicted pages are read from the files again"));
    }
    hints.push("`automodel plan MODEL` shows how much memory the model needs".to_owned());
    hints.push("--ignore-memory loads it anyway".to_owned());
    hints.join("; ")
}

/// The options for a load.
fn load_flags(load: &SmallerLoad) -> String {
    match &load.quantization {
        Some(config) if config.scheme.is_joint() => format!("`--quantize {} --double-quant`", config.scheme.name()),
        Some(config) => format!("`--quantize {}`", config.scheme.name()),
        None if load.dtype == DtypePolicy::Auto => "`--dtype auto` without --quantize".to_owned(),
        None => format!("`--dtype {}` without --quantize", load.name),
    }
}

fn of_hub(error: &HubError) -> Option<String> {
    let hint = match error {
        HubError::UncachedRepo { offline: true, .. }
        | HubError::UncachedRevision { offline: true, .. }
        | HubError::IncompleteSnapshot { offline: true, .. } => {
            "leave out --offline, or fill the cache with `automodel pull` on a machine with a network"
        }
        HubError::MalformedLockFile { .. } | HubError::NotLocked { .. } => {
            "`automodel pull REPO --lock FILE` records a repo in a lock file"
        }
        HubError::InvalidRepoId { .. } | HubError::MissingPath { .. } | HubError::UncachedRepo { .. } => {
            "MODEL is a directory, a repo id of the Hugging Face Hub, or `demo`"
        }
        HubError::UnknownRepo { .. } | HubError::Gated { .. } | HubError::Forbidden { .. } => {
            "the token is read from --token, HF_TOKEN, or the file of `hf auth login`"
        }
        HubError::Unreachable { .. } => "--offline uses what is in the cache",
        HubError::UnknownCacheDir => "--cache-dir DIR sets the cache",
        HubError::RevisionOfDirectory { .. } => "--revision is for repo ids",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_config(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::UnreadKeys { keys, .. } => {
            Some(of_unread_keys(&keys.iter().map(|unread| unread.key.as_str()).collect::<Vec<_>>()))
        }
        ConfigError::UnknownOverride { .. } => {
            Some("`automodel inspect MODEL --config` lists the keys of this model".to_owned())
        }
        ConfigError::InvalidValue { key, .. } => Some(format!("--override {key}=VALUE changes it for this run")),
        _ => None,
    }
}

/// Maximum of keys that a hint lists; of more it has only the number.
const UNREAD_KEYS: usize = 3;

fn of_unread_keys(keys: &[&str]) -> String {
    let is_plain = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let options = if keys.len() <= UNREAD_KEYS && keys.iter().all(is_plain) {
        keys.iter().map(|key| format!("--allow-unread-key {key}")).collect::<Vec<_>>().join(" ")
    } else {
        match keys.len() {
            1 => "--allow-unread-key KEY with that key".to_owned(),
            number => format!("--allow-unread-key KEY, once for each of the {number} keys,"),
        }
    };
    format!("{options} loads the model anyway, with different results if a key matters")
}

fn of_generation(error: &GenerationError) -> Option<String> {
    let hint = match error {
        GenerationError::MissingChatTemplate { .. } => {
            "`automodel generate MODEL --prompt TEXT` continues plain text without a chat template"
        }
        GenerationError::MissingTokenizerFile { .. } | GenerationError::MissingTokenizer { .. } => {
            "`automodel logits MODEL --tokens 1,2,3` works without a tokenizer"
        }
        GenerationError::SequenceTooLong { .. } => {
            "--max-new-tokens N requests fewer; --allow-long-sequences allows more than the model's positions"
        }
        GenerationError::NoRoomBelowMaxLength { .. } => "--max-new-tokens N sets the number of new tokens",
        GenerationError::UnsupportedOption { .. } => "--allow-unsupported ignores it; --greedy selects greedy decoding",
        GenerationError::InvalidSetting { option, .. } => {
            return Some(match option.as_str() {
                "temperature" | "top_k" | "top_p" | "min_p" => {
                    format!("--{} overrides it; --greedy does not sample", option.replace('_', "-"))
                }
                "max_new_tokens" | "max_length" => "--max-new-tokens N sets the number of new tokens".to_owned(),
                _ => "--allow-unsupported ignores it".to_owned(),
            });
        }
        GenerationError::UnconvertedTokenizer { .. } => {
            "`automodel logits MODEL --tokens 1,2,3` works without a tokenizer"
        }
        GenerationError::Model { source, .. } if matches!(**source, ModelError::TooManyPositions { .. }) => {
            "--prompt-tokens and --new-tokens of `bench`, and --max-new-tokens, reduce the number"
        }
        GenerationError::InvalidOption { option: "temperature", .. } => "--greedy selects greedy decoding",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_unread_keys_are_counted() {
        assert_eq!(
            of_unread_keys(&["a", "b.c"]),
            "--allow-unread-key a --allow-unread-key b.c loads the model anyway, with different results if a key matters"
        );
        assert!(of_unread_keys(&["a", "b", "c", "d"]).contains("once for each of the 4 keys, loads the model"));
    }

    #[test]
    fn keys_with_shell_syntax_are_not_listed() {
        for key in ["a; rm -rf ~", "$(id)", "a b", "\u{1b}[2J", "`x`"] {
            let hint = of_unread_keys(&[key]);
            assert!(hint.starts_with("--allow-unread-key KEY with that key loads"), "{hint}");
        }
    }
}
