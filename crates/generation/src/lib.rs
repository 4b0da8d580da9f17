#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod chat;
mod error;
mod forward;
mod generator;
mod options;
mod plan;
mod raw_stop;
mod report;
mod row;
mod sampling;
mod spin;
mod stop;
mod stream;
mod tokenizer;
mod unsupported;

pub use chat::{ChatLimits, ChatMessage, ChatOptions, ChatTemplate};
pub use error::{BoxedError, GenerationError};
pub use generator::{Generator, Prompt};
pub use options::GenerationOptions;
pub use report::{FinishReason, GeneratedText, GenerationEvent, GenerationReport, GenerationTimings};
pub use sampling::{Candidates, DeviceSampler, Sampler, SamplingOptions};
pub use stop::StopStrings;
pub use stream::TextStream;
pub use tokenizer::{SpecialTokens, TextTokenizer};
