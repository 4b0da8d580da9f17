//! Who runs: names, groups, and their choice by `--only` and `--skip`.

/// The contenders that one is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Weights as they are, compared with `automodel-dense`.
    Dense,
    /// Weights in 4 bits, compared with `automodel-nf4`.
    FourBit,
}

/// How the weights that a token reads are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As the contender says.
    Reported,
    Bfloat16,
    Float32,
    /// bitsandbytes: 4 bits and a float32 scale for 64 weights; the rest in bfloat16.
    Nf4,
    /// llama.cpp's bfloat16 files: matrices in bfloat16, vectors in float32.
    GgufBf16,
    /// llama.cpp: blocks of 32 weights in 18 bytes, the head in Q6_K, vectors in float32.
    GgufQ4_0,
}

/// The program behind a contender; the text is its name for the dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ours, with these options.
    Automodel(&'static [&'static str]),
    Transformers(&'static str),
    Llama(&'static str),
    Candle(&'static str),
    /// Ours to call, with these options.
    Mistral(&'static [&'static str]),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Contender {
    /// `PEER-FORMAT`.
    pub name: &'static str,
    /// As the table calls it.
    pub label: &'static str,
    pub group: Group,
    pub program: Program,
    pub storage: Storage,
}

/// Activations rounded to 15 bits and a quantised head, beside a peer that rounds them to 8 and has one.
const FAST: &[&str] = &["--quantize", "nf4", "--quantize-head", "--fast-products"];

pub const ALL: [Contender; 13] = {
    use {Group::*, Program::*, Storage::*};
    const fn new(
        name: &'static str,
        label: &'static str,
        group: Group,
        program: Program,
        storage: Storage,
    ) -> Contender {
        Contender { name, label, group, program, storage }
    }
    [
        new("automodel-dense", "automodel", Dense, Automodel(&[]), Reported),
        new("automodel-f32", "automodel, float32", Dense, Automodel(&["--dtype", "float32"]), Reported),
        new("transformers-bf16", "transformers bfloat16", Dense, Transformers("bfloat16"), Bfloat16),
        new("transformers-f32", "transformers float32", Dense, Transformers("float32"), Float32),
        new("llama-bf16", "llama.cpp bf16", Dense, Llama("bf16"), GgufBf16),
        new("candle-bf16", "candle bf16", Dense, Candle("bf16"), Bfloat16),
        new("candle-f32", "candle f32", Dense, Candle("f32"), Float32),
        new("mistralrs-bf16", "mistral.rs bf16", Dense, Mistral(&["--dtype", "bf16"]), Bfloat16),
        new("automodel-nf4", "automodel nf4", FourBit, Automodel(&["--quantize", "nf4"]), Reported),
        new("automodel-nf4-fast", "automodel nf4, fast products, nf4 head", FourBit, Automodel(FAST), Reported),
        new("transformers-nf4", "transformers + bitsandbytes nf4", FourBit, Transformers("nf4"), Nf4),
        new("llama-q4_0", "llama.cpp Q4_0", FourBit, Llama("q4_0"), GgufQ4_0),
        new(
            "mistralrs-q4_0",
            "mistral.rs in-situ Q4_0",
            FourBit,
            Mistral(&["--dtype", "bf16", "--isq", "q4_0"]),
            Reported,
        ),
    ]
};

impl Group {
    /// The contender that the others of the group are compared with.
    pub fn ours(self) -> &'static str {
        match self {
            Self::Dense => "automodel-dense",
            Self::FourBit => "automodel-nf4",
        }
    }
}

impl Contender {
    /// Whether `name` is this contender's, or the word before its dash.
    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.name.split('-').next() == Some(name)
    }
}

/// A name for `--only` and `--skip`.
pub fn parse_name(name: &str) -> Result<String, String> {
    if ALL.iter().any(|contender| contender.is_named(name)) {
        return Ok(name.to_owned());
    }
    let names = ALL.map(|contender| contender.name).join(", ");
    Err(format!("no contender is called {name}: there are {names}, or the word before the dash for all of a kind"))
}

/// The contenders in `only` (all if it is empty), less those in `skip`.
pub fn choose(only: &[String], skip: &[String]) -> Vec<&'static Contender> {
    static CONTENDERS: [Contender; ALL.len()] = ALL;
    let is_in = |names: &[String], contender: &Contender| names.iter().any(|name| contender.is_named(name));
    let chosen = |contender: &&Contender| (only.is_empty() || is_in(only, contender)) && !is_in(skip, contender);
    CONTENDERS.iter().filter(chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        choose(&owned(only), &owned(skip)).into_iter().map(|contender| contender.name).collect()
    }

    #[test]
    fn names_and_kinds_choose() {
        assert_eq!(chosen(&[], &[]).len(), ALL.len());
        assert_eq!(chosen(&["llama"], &[]), ["llama-bf16", "llama-q4_0"]);
        assert_eq!(chosen(&["llama", "automodel-nf4"], &["llama-bf16"]), ["automodel-nf4", "llama-q4_0"]);
        assert_eq!(chosen(&["candle"], &["candle"]), [""; 0]);
        assert!(parse_name("mistralrs").is_ok() && parse_name("automodel-f32").is_ok());
        assert!(parse_name("vllm").unwrap_err().contains("llama-q4_0") && parse_name("").is_err());
    }

    #[test]
    fn names_are_distinct_and_every_group_has_ours() {
        for (index, contender) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != contender.name && other.label != contender.label));
            assert!(ALL.iter().any(|ours| ours.name == contender.group.ours() && ours.group == contender.group));
        }
    }
}
