//! What to try next, in the words of the command's options.

use crate::error::CliError;
use automodel::AutoModelError;
use automodel::config::ConfigError;
use automodel::generation::GenerationError;
use automodel::hub::HubError;
use automodel::loader::LoadError;
use automodel::models::ModelError;
use automodel::registry::RegistryError;

/// What helps against `error`, where the command has something for it.
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
        AutoModelError::Registry(RegistryError::UnsupportedArchitecture { .. }) => {
            Some("`automodel architectures` lists what is supported".to_owned())
        }
        AutoModelError::Load(LoadError::OutputExists { .. }) => {
            Some("--overwrite replaces a directory that holds a checkpoint".to_owned())
        }
        AutoModelError::Generation(error) => of_generation(error),
        AutoModelError::NoTokenizer => {
            Some("`automodel logits MODEL --tokens 1,2,3` works without a tokenizer".to_owned())
        }
        _ => None,
    }
}

fn of_hub(error: &HubError) -> Option<String> {
    let hint = match error {
        HubError::InvalidRepoId { .. } | HubError::MissingPath { .. } | HubError::UncachedRepo { .. } => {
            "MODEL is a directory, a repo id in the local Hugging Face cache, or `demo`; nothing is downloaded"
        }
        HubError::UnknownCacheDir => "--cache-dir DIR names the cache as well",
        HubError::RevisionOfDirectory { .. } => "--revision is for repo ids",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_config(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::UnreadKeys { keys, .. } => {
            let options = keys.iter().take(3).map(|unread| format!("--allow-unread-key {}", unread.key));
            Some(format!("{} lets the model be loaded all the same", options.collect::<Vec<_>>().join(" ")))
        }
        ConfigError::UnknownOverride { .. } => {
            Some("`automodel inspect MODEL --config` lists the keys of this model".to_owned())
        }
        ConfigError::InvalidValue { key, .. } => Some(format!("--override {key}=VALUE changes it for this run")),
        _ => None,
    }
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
            "--max-new-tokens N asks for fewer; --allow-long-sequences goes beyond the model's positions"
        }
        GenerationError::NoRoomBelowMaxLength { .. } => "--max-new-tokens N says how many new tokens you want",
        GenerationError::UnsupportedOption { .. } => "--allow-unsupported goes on without it",
        GenerationError::Model { source, .. } if matches!(**source, ModelError::TooManyPositions { .. }) => {
            "--prompt-tokens and --new-tokens of `bench`, and --max-new-tokens, ask for fewer"
        }
        GenerationError::InvalidOption { option: "temperature", .. } => {
            "--greedy takes the most likely token each time"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
