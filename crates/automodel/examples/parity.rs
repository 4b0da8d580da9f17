//! Parity of directories with their reference.safetensors.
use automodel::AutoModelForCausalLM;
use std::path::Path;

fn one(dir: &Path) -> Result<String, String> {
    let bytes = std::fs::read(dir.join("reference.safetensors")).map_err(|e| e.to_string())?;
    let st = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
    let ids: Vec<u32> = st.tensor("input_ids").map_err(|e| e.to_string())?.data().chunks(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
    let want: Vec<f32> = st.tensor("logits").map_err(|e| e.to_string())?.data().chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let chain = |e: &dyn std::error::Error| {
        let mut s = e.to_string();
        let mut c = e.source();
        while let Some(e) = c { s += " <- "; s += &e.to_string(); c = e.source(); }
        s.replace('\n', " | ")
    };
    let model = AutoModelForCausalLM::from_pretrained(dir.to_string_lossy()).load().map_err(|e| chain(&e))?;
    let got: Vec<f32> = model.logits(&ids).map_err(|e| chain(&e))?.into_data().to_vec::<f32>().map_err(|e| format!("{e:?}"))?;
    if got.len() != want.len() { return Err(format!("len {} vs {}", got.len(), want.len())); }
    let n = want.len() as f64;
    let mean = want.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (want.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut diff = 0f64;
    for (a, b) in got.iter().zip(&want) {
        let d = (f64::from(*a) - f64::from(*b)).abs();
        if d.is_nan() || d > diff { diff = if d.is_nan() { f64::INFINITY } else { d }; }
    }
    Ok(format!("{:.2e} warnings={}", diff / std, model.prepared().config.warnings().len()))
}

fn main() {
    let mut dirs: Vec<String> = std::env::args().skip(1).collect();
    if dirs.is_empty() {
        dirs = std::io::stdin().lines().map_while(Result::ok).collect();
    }
    for dir in dirs {
        let path = Path::new(&dir).to_path_buf();
        let result = std::panic::catch_unwind(|| one(&path)).unwrap_or_else(|_| Err("PANIC".into()));
        match result {
            Ok(text) => println!("{dir}\tOK\t{text}"),
            Err(text) => println!("{dir}\tERR\t{text}"),
        }
    }
}
