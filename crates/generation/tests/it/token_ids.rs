//! Against the ids of `AutoTokenizer`; see `tests/fixtures/generate/token_ids.py`.

use automodel_generation::TextTokenizer;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn ids_are_those_of_auto_tokenizer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/cases.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 300);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        if let Err(difference) = check(case, &file) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn check(case: &Value, file: &Value) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let mut tokenizer: Map<String, Value> = file["bases"][case["base"].as_str().unwrap()].as_object().unwrap().clone();
    for (name, content) in case["files"].as_object().unwrap() {
        match name.as_str() {
            "tokenizer.json" => tokenizer.extend(content.as_object().unwrap().clone()),
            _ => fs::write(directory.path().join(name), content.to_string()).unwrap(),
        }
    }
    fs::write(directory.path().join("tokenizer.json"), Value::Object(tokenizer).to_string()).unwrap();
    let tokenizer = TextTokenizer::from_dir(directory.path()).map_err(|error| format!("{error:?}"))?;

    let expected = &file["results"][usize::try_from(case["result"].as_u64().unwrap()).unwrap()];
    equal("number of tokens", tokenizer.vocab_size() as u64, expected["tokens"].as_u64().unwrap())?;
    let special: Map<String, Value> =
        tokenizer.special_tokens().iter().map(|(name, token)| (name.to_owned(), token.into())).collect();
    equal("special tokens", &special, expected["special"].as_object().unwrap())?;
    for (text, expected) in file["texts"].as_array().unwrap().iter().zip(expected["texts"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        let encoded = |special| tokenizer.encode(text, special).map_err(|error| format!("{error:?}"));
        let with_special = ids(&expected["ids"]);
        equal(text, encoded(true)?, with_special.clone())?;
        equal(text, encoded(false)?, expected.get("plain").map_or(with_special.clone(), ids))?;
        let decoded = |skip| tokenizer.decode(&with_special, skip).map_err(|error| format!("{error:?}"));
        equal(text, decoded(false)?.as_str(), expected["decoded"].as_str().unwrap())?;
        let skipped = expected.get("skipped").unwrap_or(&expected["decoded"]);
        equal(text, decoded(true)?.as_str(), skipped.as_str().unwrap())?;
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what:?}: found {found:?}, expected {expected:?}")) }
}
