//! `automodel chat`: a conversation, line by line.

use super::generate;
use crate::{error::CliError, failure, model_args::ModelArgs, output, prompts, sampling_args::SamplingArgs};
use automodel::generation::{
    ChatMessage, ChatOptions, ChatTemplate, GenerationOptions, GenerationReport, Prompt, TextTokenizer,
};
use automodel::{AutoModel, AutoModelError};
use serde_json::json;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;

/// Default maximum of tokens of an answer, within the model's positions.
const ANSWER_TOKENS: usize = 1024;

const AFTER_HELP: &str = "\
Each line of standard input is a message. Three are commands:
  /exit         end the conversation
  /reset        remove all messages but the system prompt
  /system TEXT  change the system prompt; without a text, remove it
Answers are streamed to standard output; with --json each is an object on one line.

Example: automodel chat Qwen/Qwen3-0.6B --system \"Answer in one sentence.\"";

/// Chat with a model, line by line.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Chat template: the name of one of the checkpoint's, or a file
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    look_for_template(args)?;
    let model = args.model.load(json)?.model;
    let tokenizer = model.tokenizer().ok_or(AutoModelError::NoTokenizer)?;
    let mut chat = Chat {
        model: &model,
        tokenizer,
        template: template(tokenizer, args.template.as_deref())?,
        options: args.sampling.options(),
        system: args.system.clone(),
        messages: Vec::new(),
        json,
    };
    let at_terminal = std::io::stdin().is_terminal();
    loop {
        if at_terminal && !json {
            output::print("> ")?;
        }
        let Some(line) = prompts::line_from_stdin()? else { return Ok(()) };
        match Input::read(&line) {
            Input::Nothing => {}
            Input::Exit => return Ok(()),
            Input::Reset => chat.messages.clear(),
            Input::System(text) => chat.system = text,
            Input::Message(text) => match chat.answer(text) {
                // A user at a terminal can continue after an error; in a pipe it ends the conversation.
                Err(error @ CliError::AutoModel(_)) if at_terminal => {
                    failure::report(&error, json);
                }
                result => result?,
            },
        }
    }
}

/// Checks for a chat template before anything large is loaded, if the files are on this machine.
fn look_for_template(args: &Args) -> Result<(), CliError> {
    let summary = args.model.builder(true)?.inspect()?;
    if summary.headers_only {
        return Ok(());
    }
    let tokenizer = TextTokenizer::from_dir(summary.directory).map_err(AutoModelError::from)?;
    template(&tokenizer, args.template.as_deref())?;
    Ok(())
}

/// The requested template: one of the checkpoint's, or else one in a file; by default the checkpoint's default.
fn template(tokenizer: &TextTokenizer, asked: Option<&str>) -> Result<ChatTemplate, CliError> {
    let file = asked.filter(|asked| !tokenizer.chat_template_names().any(|name| name == *asked));
    let template = match file {
        // Text that does not look like a path is the name of a missing template.
        Some(file) if Path::new(file).exists() || file.contains(['/', '.']) => tokenizer.chat_template_from_file(file),
        _ => tokenizer.chat_template(asked, false),
    };
    Ok(template.map_err(AutoModelError::from)?)
}

/// A parsed line of input.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Nothing,
    Exit,
    Reset,
    System(Option<String>),
    Message(String),
}

impl Input {
    fn read(line: &str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("", _) => Self::Nothing,
            ("/exit", "") => Self::Exit,
            ("/reset", "") => Self::Reset,
            ("/system", "") => Self::System(None),
            ("/system", text) => Self::System(Some(text.to_owned())),
            _ => Self::Message(line.to_owned()),
        }
    }
}

struct Chat<'m> {
    model: &'m AutoModel,
    tokenizer: &'m TextTokenizer,
    template: ChatTemplate,
    options: GenerationOptions,
    system: Option<String>,
    messages: Vec<ChatMessage>,
    json: bool,
}

impl Chat<'_> {
    /// Answers one message; both are added to the conversation only on success.
    fn answer(&mut self, text: String) -> Result<(), CliError> {
        self.messages.push(ChatMessage::user(text));
        match self.generate() {
            Ok(report) => {
                generate::log_timings(&report);
                let answer = report.texts.into_iter().next().map(|generated| generated.text).unwrap_or_default();
                self.messages.push(ChatMessage::assistant(answer));
                Ok(())
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    fn generate(&self) -> Result<GenerationReport, CliError> {
        let system = self.system.iter().map(|text| ChatMessage::system(text.as_str()));
        let messages: Vec<ChatMessage> = system.chain(self.messages.iter().cloned()).collect();
        let prompt = self.template.render(&messages, &ChatOptions::default()).map_err(AutoModelError::from)?;
        // The template writes the special tokens.
        let tokens = self.tokenizer.encode(&prompt, false).map_err(AutoModelError::from)?;
        let options = GenerationOptions { max_new_tokens: self.answer_tokens(tokens.len()), ..self.options.clone() };
        if !self.json {
            return generate::stream(self.model, Prompt::Tokens(tokens), &options);
        }
        let report = self.model.generate(&[Prompt::Tokens(tokens)], &options, &mut |_| ControlFlow::Continue(()))?;
        for generated in &report.texts {
            output::print_json_line(&json!({
                "role": "assistant",
                "content": generated.text,
                "finish_reason": generate::finish_reason(generated.finish_reason),
                "prompt_tokens": generated.prompt_tokens,
                "new_tokens": generated.token_ids.len(),
            }))?;
        }
        Ok(report)
    }

    /// The requested maximum, or else the checkpoint's (`None`), or else the default within the positions.
    fn answer_tokens(&self, prompt_tokens: usize) -> Option<usize> {
        let config = self.model.generation_config();
        if self.options.max_new_tokens.is_some() || config.max_new_tokens.or(config.max_length).is_some() {
            return self.options.max_new_tokens;
        }
        let limit = self.model.model().max_position_embeddings().filter(|_| !self.options.allow_long_sequences);
        let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(prompt_tokens));
        Some(ANSWER_TOKENS.min(room).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_are_commands_and_all_else_is_a_message() {
        let message = |text: &str| Input::Message(text.to_owned());
        let cases = [
            ("  ", Input::Nothing),
            ("/exit ", Input::Exit),
            ("/reset", Input::Reset),
            ("/system", Input::System(None)),
            ("/system  Be brief. ", Input::System(Some("Be brief.".to_owned()))),
            ("/exit now", message("/exit now")),
            ("/etc/passwd is what?", message("/etc/passwd is what?")),
            (" 27+48= ", message("27+48=")),
        ];
        for (line, expected) in cases {
            assert_eq!(Input::read(line), expected, "{line:?}");
        }
    }
}
