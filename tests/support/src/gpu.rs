//! Tests of GPU kernels: they run on any GPU, also on a software driver, and are skipped loudly without one, unless one is required.

use std::ffi::OsStr;

/// Set to 1 where a GPU or a software driver is installed: a test that finds none then fails. `cargo xtask ci` sets it.
pub const REQUIRED: &str = "AUTOMODEL_REQUIRE_GPU";

/// The first device of a kind that the calling crate is built for (its features `cuda` and `wgpu`), software drivers included:
/// `Option<burn::tensor::Device>`. The argument ends the sentence "no GPU ..., so", and names the tests that did not run.
#[macro_export]
macro_rules! first_gpu {
    ($consequence:expr) => {{
        let kinds = [
            #[cfg(feature = "cuda")]
            ::burn::tensor::DeviceType::Cuda,
            #[cfg(feature = "wgpu")]
            ::burn::tensor::DeviceType::Wgpu,
        ];
        let found = kinds.into_iter().find_map(|kind| ::burn::tensor::Device::enumerate(kind).into_iter().next());
        $crate::gpu::found_or_skipped(found, $consequence)
    }};
}

/// Returns the argument; prints SKIPPED if it is `None`.
///
/// # Panics
///
/// If it is `None` and a GPU is [`REQUIRED`].
#[track_caller]
pub fn found_or_skipped<T>(found: Option<T>, consequence: &str) -> Option<T> {
    if found.is_none() {
        let reason = format!("no GPU and no software Vulkan driver, so {consequence}");
        assert!(!is_set(std::env::var_os(REQUIRED).as_deref()), "{REQUIRED} is set, but there is {reason}");
        eprintln!("SKIPPED: {reason}");
    }
    found
}

fn is_set(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_a_switch() {
        assert!(!is_set(None) && !is_set(Some(OsStr::new(""))) && !is_set(Some(OsStr::new("0"))));
        assert!(is_set(Some(OsStr::new("1"))));
    }

    /// In a process of its own, because variables are those of the whole process.
    #[test]
    fn a_missing_gpu_fails_only_where_one_is_required() {
        const CHILD: &str = "AUTOMODEL_TEST_OF_A_MISSING_GPU";
        if std::env::var_os(CHILD).is_some() {
            found_or_skipped(None::<()>, "nothing was computed");
            return;
        }
        let run = |value: &str| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "--nocapture", "gpu::tests::a_missing_gpu_fails_only_where_one_is_required"]);
            let output = child.env(CHILD, "1").env(REQUIRED, value).output().unwrap();
            (
                output.status.success(),
                String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout),
            )
        };
        let (passed, text) = run("0");
        assert!(passed && text.contains("SKIPPED: no GPU") && text.contains("nothing was computed"), "{text}");
        let (passed, text) = run("1");
        assert!(
            !passed && text.contains("AUTOMODEL_REQUIRE_GPU is set") && text.contains("nothing was computed"),
            "{text}"
        );
    }
}
