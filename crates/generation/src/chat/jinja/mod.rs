//! Jinja as transformers renders it: an `ImmutableSandboxedEnvironment` with `trim_blocks`, `lstrip_blocks`, loop controls
//! and Python's values, whose methods, operators and string forms templates rely on.
//!
//! It is written here, and not taken from a library, because templates are not trusted: everything that a template does is
//! charged before it is done ([`meter`]), so memory and time have a bound that no operator, filter or method can evade. Engines
//! for trusted templates lack some of that, and have their own values, not Python's.

mod args;
mod ast;
mod error;
mod eval;
mod expressions;
mod fields;
mod filters;
mod functions;
mod interpreter;
mod json;
mod lexer;
mod meter;
mod methods;
mod ops;
mod parser;
mod percent;
mod predicates;
mod spec;
mod string_methods;
mod text;
mod value;

pub(super) use error::{Cause, Error};

use super::date::Clock;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use value::Value;

/// The limits of a template.
pub(super) struct Limits {
    pub(super) steps: u64,
    pub(super) output_bytes: usize,
    pub(super) time: Duration,
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template {
    block: ast::Block,
}

impl Template {
    /// Parses `source`.
    pub(super) fn new(source: &str) -> Result<Self, Error> {
        Ok(Self { block: parser::parse(source)? })
    }

    /// Renders with `variables`.
    pub(super) fn render(
        &self,
        variables: &serde_json::Map<String, serde_json::Value>,
        clock: Clock,
        limits: &Limits,
    ) -> Result<String, Error> {
        let meter = Rc::new(meter::Meter::new(limits.steps, limits.time));
        let mut values = HashMap::new();
        for (name, json) in variables {
            values.insert(Arc::from(name.as_str()), Value::from_json(json)?);
        }
        interpreter::run(&self.block, meter, values, clock, limits)
    }
}
