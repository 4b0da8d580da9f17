//! Logits and greedy tokens of every fixture against transformers.

use automodel::AutoModelForCausalLM;
use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints");
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().filter_map(|e| { let e=e.unwrap(); e.path().join("config.json").exists().then(|| e.file_name().into_string().unwrap()) }).collect();
    names.sort();
    for name in names {
        let dir = root.join(&name);
        let result = std::panic::catch_unwind(|| run(&dir));
        match result { Ok(Ok(s)) => println!("{name}: {s}"), Ok(Err(e)) => println!("{name}: ERROR {e}"), Err(_) => println!("{name}: PANIC") }
    }
}
fn chain(e: &dyn std::error::Error) -> String { let mut s = e.to_string(); let mut c = e.source(); while let Some(x) = c { s += ": "; s += &x.to_string(); c = x.source(); } s }
fn run(dir: &Path) -> Result<String, String> {
    let bytes = std::fs::read(dir.join("reference.safetensors")).unwrap();
    let st = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u32> = st.tensor("input_ids").unwrap().data().chunks(8).map(|c| i64::from_le_bytes(c.try_into().unwrap()) as u32).collect();
    let want: Vec<f32> = st.tensor("logits").unwrap().data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    let model = AutoModelForCausalLM::from_pretrained(dir.to_str().unwrap()).load().map_err(|e| chain(&e))?;
    let got = model.logits(&ids).map_err(|e| chain(&e))?.into_data().try_into_vec::<f32>().unwrap();
    let mean = want.iter().sum::<f32>() / want.len() as f32;
    let std = (want.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / want.len() as f32).sqrt();
    let diff = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    Ok(format!("{:.2e}{}", diff / std, if diff / std > 1e-3 { "  <<<<<<<" } else { "" }))
}
