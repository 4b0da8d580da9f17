//! The command built for GPUs, on a machine that may have none.

use assert_cmd::Command;
use automodel_test_support::gpu::found_or_skipped;
use serde_json::Value;

fn automodel(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::cargo_bin("automodel").unwrap().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn without_cuda_the_error_says_what_is_missing_and_the_cpu_still_works() {
    let (code, _, errors) = automodel(&["inspect", "demo", "--device", "cuda:0"]);
    if code == Some(0) {
        eprintln!("SKIPPED: this machine has CUDA");
        return;
    }
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("`cuda:0`") && errors.contains("libcuda.so.1") && !errors.contains("panicked"), "{errors}");
    let (code, text, _) = automodel(&["generate", "demo", "--prompt", "27+48="]);
    assert_eq!((code, text.trim()), (Some(0), "75"));
}

#[test]
fn the_doctor_compares_each_device_with_the_cpu() {
    let (code, report, errors) = automodel(&["doctor", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let built = report["built"].as_array().unwrap();
    assert!(built[0] == "cpu" && built.len() > 1, "{report}");
    for device in report["devices"].as_array().unwrap() {
        let works = device["works"] == true;
        assert_eq!(works, device["problem"].is_null(), "{device}");
        match device["problem"].as_str() {
            Some(problem) if problem.contains("there is no device") => {
                eprintln!("SKIPPED: {problem}");
                continue;
            }
            _ => assert!(works, "{device}"),
        }
        let kernels = device["kernels"].as_array().unwrap();
        if device["device"] == "cpu" {
            assert!(kernels.is_empty() && device["hardware"].is_null(), "{device}");
            continue;
        }
        assert!(device["hardware"].is_string() && device["nf4_error"].is_number(), "{device}");
        // Five kernels in three dtypes; every device has float32.
        assert_eq!(kernels.len(), 15, "{device}");
        for kernel in kernels {
            let outcomes = if kernel["dtype"] == "float32" { &["works"][..] } else { &["works", "skipped"] };
            assert!(outcomes.iter().any(|outcome| kernel["outcome"] == *outcome), "{kernel}");
        }
    }
    // The CPU is what others are compared with; it has to answer.
    assert!(report["devices"][0]["works"] == true && report["devices"][0]["dense_error"].is_null(), "{report}");
}

#[test]
fn the_doctor_names_what_of_cuda_is_missing() {
    let (code, report, errors) = automodel(&["doctor", "--device", "cuda", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let cuda = &report["cuda"];
    if cuda.is_null() {
        assert!(report["devices"][0]["problem"].as_str().unwrap().contains("--features cuda"), "{report}");
        eprintln!("SKIPPED: this build has no CUDA");
        return;
    }
    assert!(!errors.contains("panicked"), "{errors}");
    let works = report["devices"][0]["works"] == true;
    assert_eq!(code, Some(i32::from(!works)), "{errors}");
    for part in ["driver", "nvrtc"] {
        let found = cuda[part]["found"] == true;
        assert!(found || cuda[part]["version"].is_null(), "{cuda}");
        assert!(found || !works, "{report}");
    }
    let problems = cuda["problems"].as_array().unwrap();
    let told = |name: &str| problems.iter().any(|problem| problem["what"].as_str().unwrap().contains(name));
    assert_eq!(cuda["devices"] == serde_json::json!([]), told("libcuda.so.1"), "{cuda}");
    assert_eq!(cuda["nvrtc"]["found"] == false, told("libnvrtc.so"), "{cuda}");
    assert_eq!(cuda["headers"]["folder"].is_null(), told("headers were not found"), "{cuda}");
    for gpu in cuda["devices"].as_array().unwrap() {
        assert!(gpu["name"].is_string() && gpu["total_bytes"].as_u64() >= gpu["free_bytes"].as_u64(), "{gpu}");
    }
}

#[test]
fn the_doctor_is_read_in_100_columns() {
    let (code, text, errors) = automodel(&["doctor"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("\ncpu: works (27+48=75)\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    eprintln!("{text}");
}

/// The command records a step and replays it, which the tests of the library, that share a device, do not.
#[test]
fn the_demo_answers_on_a_gpu() {
    let (code, text, errors) = automodel(&["generate", "demo", "--device", "wgpu", "--prompt", "27+48="]);
    let has_device = code != Some(1) || !errors.contains("there is no device");
    if found_or_skipped(has_device.then_some(()), "the command did not run on one").is_none() {
        return;
    }
    assert_eq!((code, text.trim()), (Some(0), "75"), "{errors}");
}
