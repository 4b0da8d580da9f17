//! `automodel inspect`, `plan`, `architectures` and `bench`, help and version.

use crate::run::{automodel, copy_of_demo, fixture};
use serde_json::{Value, json};

#[test]
fn inspect_tells_what_and_why() {
    let text = automodel(&["inspect", "demo"]).stdout();
    for part in [
        "LlamaForCausalLM, model type llama",
        "generic decoder, family llama",
        "no custom implementation",
        "445,312",
        "F32 1.7 MiB",
        "weights in bfloat16         869.8 KiB",
        "KV cache, 128k tokens       192.0 MiB",
        "0-2  attention 4/2 heads of 32",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn inspect_counts_memory() {
    let report = automodel(&["inspect", "demo", "--json"]).json();
    assert_eq!(report["parameters"], 445_312);
    assert_eq!(report["stored_bytes"], json!({ "F32": 445_312 * 4 }));
    assert_eq!(report["resolution"]["model_type"], "llama");
    let memory = &report["memory"];
    assert_eq!(memory["weights_float32_bytes"], 445_312 * 4);
    assert_eq!(memory["weights_bfloat16_bytes"], 445_312 * 2);
    assert_eq!(memory["weights_on_device_bytes"], 445_312 * 4);
    assert_eq!(memory["cache_bytes_per_token"], 3 * 2 * 2 * 32 * 4);
    assert_eq!(memory["cache_bytes"]["4k"], 4096 * 1536);
    assert_eq!(report["layers"].as_array().unwrap().len(), 1);
    assert!(report.get("config").is_none());

    // Half the width of the activations is half the cache.
    let half = automodel(&["inspect", "demo", "--dtype", "bfloat16", "--json"]).json();
    assert_eq!(half["memory"]["cache_bytes_per_token"], 1536, "the demo is stored in float32, which is not narrowed");
    let half = automodel(&["inspect", &fixture("llama-bf16"), "--dtype", "bfloat16", "--json"]).json();
    let full = automodel(&["inspect", &fixture("llama-bf16"), "--json"]).json();
    let bytes = |report: &Value| report["memory"]["cache_bytes_per_token"].as_u64().unwrap();
    assert_eq!(bytes(&half) * 2, bytes(&full));
    let reasons = full["dtype_reasons"].to_string();
    assert!(reasons.contains("BF16 to F32") && reasons.contains("an explicit dtype overrides"), "{reasons}");
}

#[test]
fn the_part_of_a_larger_model_is_named_and_what_is_not_loaded() {
    let text = automodel(&["inspect", &fixture("llava")]).stdout();
    for part in ["text part of llava", "multi_modal_projector (4 tensors of 6.2 KiB), vision_tower ("] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let larger = &automodel(&["inspect", &fixture("gemma4"), "--json"]).json()["larger_model"];
    assert_eq!(*larger, json!({ "model_type": "gemma4", "loaded": "text_config", "not_loaded": [] }));
    assert!(!automodel(&["inspect", "demo"]).stdout().contains("not loaded"));
}

#[test]
fn windows_bound_the_cache() {
    let cache = |model: &str| automodel(&["inspect", &fixture(model), "--json"]).json()["memory"].clone();
    let sliding = cache("mistral");
    assert_eq!(sliding["cache_bytes_per_token"], 0);
    assert_eq!(sliding["cache_bytes"]["4k"], sliding["cache_bytes"]["128k"]);
    assert_eq!(sliding["cache_bytes_at_most"], sliding["cache_bytes"]["128k"]);
    // 2 layers, keys and values, 2 heads of 16, float32.
    assert_eq!(sliding["cache_bytes_per_token_within_windows"], 2 * 2 * 2 * 16 * 4);
    let text = automodel(&["inspect", &fixture("mistral")]).stdout();
    for part in [
        "KV cache per token, within the window of 8      512 B\n",
        "KV cache per token, beyond                       none\n",
        "KV cache, maximum                            11.5 KiB\n",
    ] {
        assert!(text.contains(part) && !text.contains(" 0 B\n"), "{part}: {text}");
    }
    // One layer of four has full attention, so the cache is unbounded.
    let text = automodel(&["inspect", &fixture("gemma3_text")]).stdout();
    assert!(
        text.contains("KV cache per token, beyond                      256 B\n") && !text.contains("KV cache, maximum"),
        "{text}"
    );
    let full = cache("mistral-full");
    assert!(full["cache_bytes_at_most"].is_null());
    assert_eq!(
        full["cache_bytes"]["32k"].as_u64().unwrap(),
        full["cache_bytes_per_token"].as_u64().unwrap() * (32 << 10)
    );
}

#[test]
fn layers_are_told_in_words_of_the_field() {
    // Names of Rust, as `Debug` writes them.
    let is_name = |word: &str| {
        let letters = word.trim_matches(|c: char| !c.is_alphanumeric());
        ["RmsOneOffset", "Rms", "Sandwich", "Pre", "Post", "ParallelShared", "ParallelSplit", "gelutanh", "relu2"]
            .contains(&letters)
            || word.contains(['{', '}', '_'])
    };
    let mut models = 0;
    for entry in std::fs::read_dir(fixture(".")).unwrap() {
        let model = entry.unwrap().path();
        if !model.join("config.json").is_file() || model.to_str().unwrap().contains('-') {
            continue;
        }
        let report = automodel(&["inspect", model.to_str().unwrap(), "--json"]).json();
        for layer in report["layers"].as_array().unwrap() {
            for part in ["mixer", "mlp", "norms"] {
                let words = layer[part].as_str().unwrap();
                assert!(!words.split_whitespace().any(is_name), "{}: {words}", model.display());
            }
        }
        models += 1;
    }
    assert!(models >= 29, "only {models} families were looked at");
    let text = automodel(&["inspect", &fixture("gemma2")]).stdout();
    assert!(text.contains("GELU (tanh)  RMSNorm (1 + weight), before and after each block"), "{text}");
}

#[test]
fn inspect_tells_where_values_come_from() {
    let arguments = ["inspect", &fixture("llama-v4"), "--config", "--override", "rms_norm_eps=0.5", "--json"];
    let report = automodel(&arguments).json();
    let origin = |key: &str| {
        let rows = report["config"].as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).map(|row| row["origin"].clone()).unwrap_or_default()
    };
    assert_eq!(origin("hidden_size"), "from the file");
    assert_eq!(origin("rms_norm_eps"), "from an override");
    let text = automodel(&["inspect", &fixture("llama-v4"), "--config", "--override", "rms_norm_eps=0.5"]).stdout();
    let line = text.lines().find(|line| line.contains("rms_norm_eps")).unwrap();
    assert!(line.contains("0.5") && line.ends_with("override"), "{line}");
}

#[test]
fn plan_shows_all_rows_or_some() {
    // The rows come after the forecast, which does not depend on them.
    let shown = |rows: &[&str]| {
        let text = automodel(&[&["plan", "demo", "--memory", "1GiB"], rows].concat()).stdout();
        let (forecast, rows) = text.split_once("tokens, without activations\n\n").unwrap();
        (forecast.to_owned(), rows.to_owned())
    };
    let (forecast, none) = shown(&[]);
    assert!(forecast.starts_with("Memory on the CPU, one sequence: 1.0 GiB assumed\n"), "{forecast}");
    assert!(none.starts_with("30 parameters on CPU (Flex)") && none.contains("--rows all"), "{none}");
    let (same, all) = shown(&["--rows", "all"]);
    assert_eq!(same, forecast);
    assert!(all.starts_with("parameter ") && all.contains("model.layers.2.mlp.down_proj.weight"), "{all}");
    let (_, some) = shown(&["--rows", "2"]);
    assert_eq!(some.lines().nth(3), Some("... 28 more"));
    assert_eq!(some.lines().filter(|line| line.starts_with("model.")).count(), 2);
    assert_eq!(some.lines().last(), all.lines().last());
    assert_eq!(shown(&["--rows", "30"]).1, all);
    assert!(shown(&["--rows", "0"]).1.starts_with("30 parameters"));

    let plan = automodel(&["plan", &fixture("llama-sharded"), "--json"]).json();
    assert_eq!(plan["shards"].as_array().unwrap().len(), 3);
    assert_eq!(plan["rows"][0]["parameter"], "model.embed_tokens.weight");
    assert_eq!(plan["rows"].as_array().unwrap().len(), 21);
    assert!(plan["peak_bytes"].is_u64());
    let plan = automodel(&["plan", &fixture("llama-sharded"), "--rows", "4", "--json"]).json();
    assert_eq!(plan["rows"].as_array().unwrap().len(), 4);
}

#[test]
fn plan_forecasts_memory() {
    let arguments = ["plan", "demo", "--memory", "600KiB", "--context", "64,1k", "--batch", "2"];
    let text = automodel(&arguments).stdout();
    let table = "\
Memory on the CPU, 2 sequences: 600.0 KiB assumed

load as       weights      4-bit    mapped       peak        at 64      at 1k    fits
float32 *     1.7 MiB        0 B   1.7 MiB    1.7 MiB ~    1.9 MiB ~  4.7 MiB !  evicting
nf4         254.5 KiB  243.0 KiB  11.5 KiB  510.5 KiB    446.5 KiB    3.2 MiB !  up to 64 tokens
nf4 double  234.4 KiB  222.9 KiB  11.5 KiB  490.4 KiB    426.4 KiB    3.2 MiB !  up to 64 tokens
fp4         254.5 KiB  243.0 KiB  11.5 KiB  510.5 KiB    446.5 KiB    3.2 MiB !  up to 64 tokens

*        the load with these options
";
    assert!(text.starts_with(table), "{text}");
    assert!(text.contains("\nThe model has 64 positions.\n"), "{text}");

    let plan = automodel(&[&arguments[..], &["--json"]].concat()).json();
    let forecast = &plan["forecast"];
    assert_eq!(forecast["memory"], json!({ "total_bytes": 614_400, "available_bytes": 614_400, "bound": "given" }));
    let names: Vec<&Value> = forecast["loads"].as_array().unwrap().iter().map(|load| &load["name"]).collect();
    assert_eq!(names, ["float32", "nf4", "nf4 double", "fp4"]);
    let float32 = &forecast["loads"][0];
    assert_eq!((&float32["weight_bytes"], &float32["selected"]), (&plan["target_bytes"], &json!(true)));
    assert_eq!(float32["loading"]["fit"], "evicting");
    let context = json!({
        "positions": 1024, "cache_bytes": 2 * 1024 * 1536, "total_bytes": 445_312 * 4 + 2 * 1024 * 1536,
        "fit": "too_large", "excess_bytes": 2 * 1024 * 1536 - 614_400,
    });
    assert_eq!(float32["contexts"][1], context);
    assert_eq!(forecast["loads"][1]["quantization"]["blocksize"], 64);

    // The memory that the machine reports, if it does.
    let plan = automodel(&["plan", "demo", "--json"]).json();
    let known = plan["forecast"]["memory"]["available_bytes"].is_u64();
    assert_eq!(known, cfg!(target_os = "linux"), "{}", plan["forecast"]["memory"]);
    assert_eq!(plan["forecast"]["loads"][0]["loading"]["fit"] == "unknown", !known);
}

#[test]
fn plan_forecasts_what_a_checkpoint_is_made_for() {
    let loads = |arguments: &[&str]| automodel(arguments).json()["forecast"]["loads"].clone();
    let quantised = fixture("../bitsandbytes/llama-fp4");
    let only = loads(&["plan", &quantised, "--json"]);
    assert_eq!((only.as_array().unwrap().len(), &only[0]["name"]), (1, &json!("fp4")));
    // A window bounds what is cached, and so any context fits.
    let sliding = loads(&["plan", &fixture("mistral"), "--context", "1k,1M", "--json"]);
    assert_eq!(sliding[0]["contexts"][0]["cache_bytes"], sliding[0]["contexts"][1]["cache_bytes"]);
    // Experts are quantised too.
    let experts = loads(&["plan", &fixture("mixtral"), "--quantize", "fp4", "--block-size", "32", "--json"]);
    assert_eq!(experts[3]["selected"], true);
    assert!(experts[3]["quantized_bytes"].as_u64() > experts[3]["dense_bytes"].as_u64().map(|bytes| bytes / 4));
    assert!(
        experts[1]["weight_bytes"].as_u64()
            > loads(&["plan", &fixture("mixtral"), "--json"])[1]["weight_bytes"].as_u64()
    );
}

#[test]
fn architectures_lists_families_and_rules() {
    let report = automodel(&["architectures", "--json"]).json();
    let families = report["families"].as_array().unwrap();
    for model_type in ["llama", "gemma3_text", "gpt2", "qwen3_moe", "olmo3"] {
        let family = families.iter().find(|family| family["model_type"] == model_type);
        let family = family.unwrap_or_else(|| panic!("{model_type} is not listed"));
        assert!(!family["architectures"].as_array().unwrap().is_empty());
        assert!(family["defaults"]["vocab_size"].is_u64(), "{family}");
    }
    assert_eq!(report["rules"][0]["architecture"], "NemotronHForCausalLM");
    assert!(report["custom_implementations"].is_array());
    let text = automodel(&["architectures"]).stdout();
    for family in families {
        let model_type = family["model_type"].as_str().unwrap();
        let is_row = |line: &str| line.split(' ').next() == Some(model_type);
        assert!(text.lines().any(is_row), "{model_type}: {text}");
    }
    assert!(text.contains("NemotronHForCausalLM"), "{text}");
}

#[test]
fn architectures_shows_what_one_computes() {
    let text = automodel(&["architectures", "Gemma2ForCausalLM"]).stdout();
    for part in [
        "gemma2",
        "scaled by 48",
        "before and after each block",
        "softcap 50",
        "soft-capped at 30",
        "0, 2, 4, ... (13 layers)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let report = automodel(&["architectures", "llama", "--json"]).json();
    assert_eq!(report["layers"][0]["mlp"], "gated MLP of 11008, SiLU");
    let ran = automodel(&["architectures", "lama"]);
    assert!(ran.code == 1 && ran.stderr.contains("misspelling of llama"), "{ran:?}");
}

#[test]
fn an_assumed_model_type_is_marked_in_each_report() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let config = model.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"llama\"", "\"novel\"")).unwrap();
    let name = model.to_str().unwrap();
    let ran = automodel(&["inspect", name]);
    assert!(
        ran.code == 1
            && ran.stderr.contains("--assume NAME computes")
            && ran.stderr.contains("`llama`")
            && ran.stderr.contains("(all"),
        "{ran:?}"
    );
    for command in ["inspect", "plan"] {
        let text = automodel(&[command, name, "--assume", "llama"]).stdout();
        assert!(text.contains("ASSUMED: model type `novel`"), "{command}: {text}");
    }
    for arguments in [&["generate", name, "--prompt", "27+48="][..], &["logits", name, "--tokens", "1,2"]] {
        let ran = automodel(&[arguments, &["--assume", "llama"]].concat());
        assert!(ran.code == 0 && ran.stderr.contains("warning: ASSUMED: model type `novel`"), "{ran:?}");
    }
}

/// Bytes of weights for each token, and the rows of the plan that it must come from.
fn weight_bytes(model: &str) -> (u64, Vec<(String, String, u64)>) {
    let bench = ["bench", model, "--prompt-tokens", "4", "--new-tokens", "2", "--json"];
    let bytes = automodel(&bench).json()["weight_bytes_per_token"].as_u64().unwrap();
    let plan = automodel(&["plan", model, "--json"]).json();
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("parameter"), text("role"), row["bytes"].as_u64().unwrap())
    };
    (bytes, plan["rows"].as_array().unwrap().iter().map(row).collect())
}

#[test]
fn bench_counts_the_weights_that_a_token_reads() {
    let sum = |rows: &[(String, String, u64)], part: &dyn Fn(&str) -> u64| -> u64 {
        rows.iter().map(|(name, _, bytes)| bytes * part(name) / 100).sum()
    };
    // Tied: the head reads the table of tokens.
    assert_eq!(weight_bytes("demo").0, 445_312 * 4);
    let (bytes, rows) = weight_bytes(&fixture("llama"));
    assert_eq!(bytes, sum(&rows, &|name| if name.contains("embed_tokens") { 0 } else { 100 }));
    let (bytes, rows) = weight_bytes(&fixture("gpt2"));
    assert_eq!(bytes, sum(&rows, &|name| if name.contains("embed_positions") { 0 } else { 100 }));
    // Two of four experts.
    let (bytes, rows) = weight_bytes(&fixture("mixtral"));
    let part = |name: &str| match name {
        "model.embed_tokens.weight" => 0,
        name if name.contains(".experts.") => 50,
        _ => 100,
    };
    assert_eq!(bytes, sum(&rows, &part));
}

#[test]
fn bench_has_the_documented_keys() {
    let arguments = ["bench", "demo", "--prompt-tokens", "16", "--new-tokens", "4", "--warmup", "1", "--rounds", "3"];
    let report = automodel(&[&arguments[..], &["--json"]].concat()).json();
    for key in ["load_seconds", "first_token_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    if cfg!(target_os = "linux") {
        assert!(report["peak_resident_bytes"].as_u64().unwrap() > 445_312 * 4, "{report}");
    }
    let text = automodel(&arguments).stdout();
    assert!(text.starts_with("16 prompt tokens, 4 new ones, 1 warm-up(s), median of 3 round(s)\n"), "{text}");
    assert!(text.contains("tokens/s") && text.contains("weights read per token"), "{text}");

    let report = automodel(&["bench", "demo", "--prompt-tokens", "16", "--new-tokens", "1", "--json"]).json();
    assert_eq!(report["decode_tokens_per_second"], Value::Null);
}

#[test]
fn bench_goes_beyond_the_positions_and_says_so() {
    let report = automodel(&["bench", "demo", "--prompt-tokens", "80", "--new-tokens", "2", "--json"]).json();
    assert!(report["warnings"].to_string().contains("64 positions"), "{report}");
    let ran = automodel(&["bench", "demo", "--prompt-tokens", "80", "--new-tokens", "2"]);
    assert!(ran.code == 0 && ran.stderr.starts_with("warning: 82 tokens"), "{ran:?}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    assert_eq!(automodel(&["--version"]).stdout(), concat!("automodel ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = automodel(&["--help"]).stdout();
    for command in ["generate", "chat", "inspect", "plan", "architectures", "bench", "save", "logits"] {
        assert!(help.contains(command), "{help}");
        let help = automodel(&[command, "--help"]).stdout();
        assert!(help.contains(&format!("Example: automodel {command}")), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
