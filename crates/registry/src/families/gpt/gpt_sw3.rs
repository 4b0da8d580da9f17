//! GPT-SW3: GPT-2 by another name.

use super::super::prelude::*;
use super::gpt2;

pub static FAMILY: Family = Family {
    model_type: "gpt-sw3",
    architectures: gpt2::FAMILY.architectures,
    defaults: gpt2::FAMILY.defaults,
    lower: gpt2::FAMILY.lower,
    ignored_keys: gpt2::FAMILY.ignored_keys,
    layout: gpt2::FAMILY.layout,
};
