//! Every key of every family with every kind of number: whatever is not refused must build and run.

use crate::support::{check_all, checkpoint};
use automodel::AutoModelForCausalLM;
use automodel::config::{Overrides, RawConfig};
use automodel::registry::{Lowered, Registry, ResolveOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Models of more elements than this are lowered, but not built: the test is about numbers, not about memory.
const MOST_ELEMENTS: usize = 200_000;

fn numbers() -> Vec<Value> {
    let integers = [
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(1023),
        json!(i32::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
    ];
    let floats = [-0.5, -0.0, 0.5, 1.0, 5e-324, 1e-40, 1e-7, 1e7, 3.5e38, 1e300, -1e300].map(Value::from);
    let literals = ["NaN", "Infinity", "-Infinity"].map(|literal| json!({"__float__": literal}));
    integers.into_iter().chain(floats).chain(literals).collect()
}

/// JSON pointers to everything in the config and below its objects, and to the defaults of the family's class.
fn places(family: &str, config: &Value) -> BTreeSet<String> {
    let own = config.as_object().unwrap().iter().flat_map(|(key, value)| {
        let inner = value.as_object().into_iter().flatten().map(move |(inner, _)| format!("/{key}/{inner}"));
        std::iter::once(format!("/{key}")).chain(inner)
    });
    let registry = Registry::builtin();
    let defaults = registry.families().find(|known| known.model_type == family).unwrap().defaults.values;
    own.chain(defaults.iter().map(|(key, _)| format!("/{key}"))).collect()
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    match config.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => config[&pointer[1..]] = value,
    }
}

fn lower(config: &Value) -> Option<Lowered> {
    let registry = Registry::builtin();
    let raw = RawConfig::from_value(config.clone()).ok()?;
    let config = raw.clone().resolve(registry.class_defaults(&raw).ok()?, &Overrides::new()).ok()?;
    let resolution = registry.resolve(&config, &ResolveOptions::default()).ok()?;
    let lowered = registry.lower(&config, &resolution).ok()?;
    config.check_all_read(&[]).ok()?;
    Some(lowered)
}

/// The config of the family's fixture; of text models that have none of their own, the one inside their larger model.
fn fixture(family: &str) -> Value {
    let read = |name: &str| -> Value {
        let text = fs::read(checkpoint(name).join("config.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::from_slice(&text).unwrap()
    };
    match family.strip_suffix("_text").filter(|_| !checkpoint(family).exists()) {
        Some(larger) => read(larger)["text_config"].take(),
        None => read(family),
    }
}

fn elements(lowered: &Lowered) -> usize {
    let of = |shape: &Vec<usize>| shape.iter().fold(1_usize, |product, &size| product.saturating_mul(size));
    lowered.weights.parameters.iter().map(|slot| of(&slot.shape)).fold(0, usize::saturating_add)
}

fn run(config: &Value) -> Result<(), String> {
    let build = || {
        let model = AutoModelForCausalLM::from_config(RawConfig::from_value(config.clone()).unwrap()).build()?;
        model.logits(&[5, 6, 7])
    };
    build().map(drop).map_err(|error| error.to_string())
}

#[test]
fn numbers_outside_every_range_never_panic() {
    let registry = Registry::builtin();
    let families: Vec<&str> = registry.families().map(|family| family.model_type).collect();
    check_all(&families, |family| {
        let config = fixture(family);
        let base = lower(&config).ok_or("the fixture itself is refused")?.spec;
        let (mut refused, mut built) = (0, 0);
        for place in places(family, &config) {
            for value in numbers() {
                let mut changed = config.clone();
                set(&mut changed, &place, value.clone());
                let outcome = catch_unwind(AssertUnwindSafe(|| match lower(&changed) {
                    None => refused += 1,
                    Some(lowered) if lowered.spec == base || elements(&lowered) > MOST_ELEMENTS => {}
                    // The layers of the model have checks of their own, so an error is as good as a result.
                    Some(_) => built += usize::from(run(&changed).is_ok()),
                }));
                outcome.map_err(|_| format!("panics where {place} is {value}"))?;
            }
        }
        // Were none refused, or none run, nothing would have been tried. Families with constants for epsilons and without rotary
        // embeddings have few numbers.
        if refused > 100 && built > 10 { Ok(()) } else { Err(format!("{refused} refused, {built} built")) }
    });
}
