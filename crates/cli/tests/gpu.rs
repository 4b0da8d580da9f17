//! The command built for GPUs, on a machine that may have none.

use assert_cmd::Command;
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
    assert_eq!(report["built"], serde_json::json!(["cpu", "cuda[:N]", "wgpu"]));
    for device in report["devices"].as_array().unwrap() {
        let works = device["works"] == true;
        assert_eq!(works, device["problem"].is_null(), "{device}");
        match device["problem"].as_str() {
            Some(problem) if problem.contains("there is no device") => eprintln!("SKIPPED: {problem}"),
            _ => assert!(works, "{device}"),
        }
    }
    // The CPU is what others are compared with; it has to answer.
    assert!(report["devices"][0]["works"] == true && report["devices"][0]["dense_error"].is_null(), "{report}");
}
