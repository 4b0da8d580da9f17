//! One prompt on its way to a text.

use crate::plan::GenerationPlan;
use crate::{
    FinishReason, GeneratedText, GenerationError, GenerationEvent, GenerationOptions, StopStrings, TextStream,
    TextTokenizer,
};

/// The state of one row of a batch.
pub(crate) struct Row<'t> {
    index: usize,
    prompt_tokens: usize,
    stream: Option<TextStream<'t>>,
    stop: StopStrings,
    skip_special_tokens: bool,
    token_ids: Vec<u32>,
    text: String,
    finish_reason: Option<FinishReason>,
}

impl<'t> Row<'t> {
    pub(crate) fn new(
        index: usize,
        prompt: &[u32],
        tokenizer: Option<&'t TextTokenizer>,
        options: &GenerationOptions,
        plan: &GenerationPlan,
    ) -> Self {
        Self {
            index,
            prompt_tokens: prompt.len(),
            stream: tokenizer.map(|tokenizer| TextStream::new(tokenizer, options.skip_special_tokens)),
            stop: StopStrings::new(plan.stop_strings.iter().cloned()),
            skip_special_tokens: options.skip_special_tokens,
            token_ids: Vec::new(),
            text: String::new(),
            finish_reason: None,
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    pub(crate) fn generated_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Takes the next token and says what it added.
    pub(crate) fn accept(&mut self, token: u32, plan: &GenerationPlan) -> Result<GenerationEvent<'_>, GenerationError> {
        self.token_ids.push(token);
        let known = self.text.len();
        let is_eos = plan.eos_token_ids.contains(&token);
        // Not every tokenizer calls its end-of-sequence token special.
        if !(is_eos && self.skip_special_tokens) {
            self.read(token)?;
        }
        if self.stop.matched() {
            self.finish_reason = Some(FinishReason::StopString);
        } else if is_eos {
            self.finish(FinishReason::Eos)?;
        } else if self.token_ids.len() >= plan.max_new_tokens {
            self.finish(FinishReason::MaxNewTokens)?;
        }
        Ok(GenerationEvent { row: self.index, token, text: &self.text[known..], finish_reason: self.finish_reason })
    }

    /// Ends the text with all that was held back, which may still complete a stop string.
    pub(crate) fn finish(&mut self, reason: FinishReason) -> Result<(), GenerationError> {
        if let Some(stream) = &mut self.stream {
            let piece = stream.finish()?;
            self.text += &self.stop.push(&piece);
            self.text += &self.stop.finish();
        }
        self.finish_reason = Some(if self.stop.matched() { FinishReason::StopString } else { reason });
        Ok(())
    }

    pub(crate) fn into_generated(self) -> GeneratedText {
        GeneratedText {
            token_ids: self.token_ids,
            text: self.text,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Cancelled),
            prompt_tokens: self.prompt_tokens,
        }
    }

    fn read(&mut self, token: u32) -> Result<(), GenerationError> {
        if let Some(stream) = &mut self.stream {
            let piece = stream.push(token)?;
            self.text += &self.stop.push(&piece);
        }
        Ok(())
    }
}
