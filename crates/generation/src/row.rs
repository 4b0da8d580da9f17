//! The state of one row of a batch.

use crate::plan::GenerationPlan;
use crate::raw_stop::RawStops;
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
    raw_stops: Option<RawStops<'t>>,
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
    ) -> Result<Self, GenerationError> {
        let tokenizer_for_stops = tokenizer.filter(|_| !plan.stop_strings.is_empty());
        let raw_stops = tokenizer_for_stops
            .map(|tokenizer| RawStops::new(tokenizer, &plan.stop_strings, prompt, options.skip_special_tokens));
        Ok(Self {
            index,
            prompt_tokens: prompt.len(),
            stream: tokenizer.map(|tokenizer| TextStream::new(tokenizer, options.skip_special_tokens)),
            stop: StopStrings::new(plan.stop_strings.iter().cloned()),
            raw_stops: raw_stops.transpose()?,
            skip_special_tokens: options.skip_special_tokens,
            token_ids: Vec::new(),
            text: String::new(),
            finish_reason: None,
        })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    pub(crate) fn generated_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Adds the next token and returns its event.
    pub(crate) fn accept(&mut self, token: u32, plan: &GenerationPlan) -> Result<GenerationEvent<'_>, GenerationError> {
        self.token_ids.push(token);
        let known = self.text.len();
        let is_eos = plan.eos_token_ids.contains(&token);
        let stopped = match &mut self.raw_stops {
            Some(raw_stops) => raw_stops.push(token, is_eos && self.skip_special_tokens)?,
            None => None,
        };
        // Some tokenizers do not mark their end-of-sequence token as special.
        if !(is_eos && self.skip_special_tokens) {
            self.read(token, stopped.is_some())?;
        }
        if self.stop.matched() {
            self.finish_reason = Some(FinishReason::StopString);
        } else if let Some(surplus) = stopped.filter(|surplus| !is_eos || *surplus > 0) {
            self.stop_before(surplus)?;
        } else if is_eos {
            self.finish(FinishReason::Eos)?;
        } else if self.token_ids.len() >= plan.max_new_tokens {
            self.finish(FinishReason::MaxNewTokens)?;
        }
        Ok(GenerationEvent { row: self.index, token, text: &self.text[known..], finish_reason: self.finish_reason })
    }

    /// Finishes the row with the text that was held back, which may still complete a stop string.
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

    /// Finishes the row and cuts the last `surplus` bytes of its text.
    fn stop_before(&mut self, surplus: usize) -> Result<(), GenerationError> {
        let mut rest = self.stop.finish();
        if let Some(stream) = &mut self.stream {
            rest += &stream.finish()?;
        }
        rest.truncate(rest.floor_char_boundary(rest.len().saturating_sub(surplus)));
        self.text += &rest;
        self.finish_reason = Some(FinishReason::StopString);
        Ok(())
    }

    /// Decodes a token into the text; with `hold` all text that was not reported yet is held back.
    fn read(&mut self, token: u32, hold: bool) -> Result<(), GenerationError> {
        if let Some(stream) = &mut self.stream {
            let piece = stream.push(token)?;
            let held = match &self.raw_stops {
                Some(_) if hold => usize::MAX,
                Some(raw_stops) => raw_stops.held(),
                None => 0,
            };
            self.text += &self.stop.push_holding(&piece, held);
        }
        Ok(())
    }
}
