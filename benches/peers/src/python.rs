//! Interpreters for the peers in Python, and which packages they have.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    Arguments, Setup,
    contenders::{Contender, Program},
};
use crate::Result;
use xtask::{python_environment, workspace_root};

/// Prints the versions of packages, as JSON, without importing them.
const VERSIONS: &str =
    "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))";

/// The interpreters to look for packages in: the installed environment first, then those given.
pub fn interpreters(arguments: &Arguments, chosen: &[&Contender], setup: &Setup) -> Result<Vec<PathBuf>> {
    // Links are not resolved: the target of a link in an environment does not know the environment.
    let absolute =
        |path: &PathBuf| if path.components().count() > 1 { std::path::absolute(path) } else { Ok(path.clone()) };
    let mut interpreters = arguments.python.iter().map(absolute).collect::<std::io::Result<Vec<PathBuf>>>()?;
    if arguments.install {
        let first = interpreters.first().cloned().unwrap_or_else(|| "python3".into());
        match install(&first, &requirements(chosen), &setup.work.join("venv")) {
            Ok(python) => interpreters.insert(0, python),
            Err(reason) => eprintln!("no environment was made: {reason}"),
        }
    }
    Ok(interpreters)
}

/// The files of pinned packages that the contenders need.
fn requirements(chosen: &[&Contender]) -> BTreeSet<&'static str> {
    let file = |contender: &&Contender| match contender.program {
        Program::Transformers(_) => Some("requirements.txt"),
        Program::Llama(_) => Some("requirements-llama.txt"),
        Program::Automodel(_) | Program::Candle(_) | Program::Mistral(_) => None,
    };
    chosen.iter().filter_map(file).collect()
}

/// Makes an environment with pinned packages, one file of them after the other: one that cannot be installed is reported, and
/// does not prevent the others.
fn install(python: &Path, files: &BTreeSet<&str>, environment: &Path) -> Result<PathBuf, String> {
    let python = python_environment::create(python, environment)?;
    for file in files {
        let path = directory().join(file);
        if let Err(reason) = python_environment::install(&python, &["-r", &path.to_string_lossy()]) {
            eprintln!("{file} could not be installed: {reason}");
        }
    }
    Ok(python)
}

/// Where the scripts are.
pub fn directory() -> PathBuf {
    workspace_root().join("benches/peers")
}

/// The first interpreter that has all `packages`, and their versions in one line.
pub fn with_packages<'a>(pythons: &'a [PathBuf], packages: &[&str]) -> Result<(&'a Path, String), String> {
    for python in pythons {
        let output = Command::new(python).args(["-c", VERSIONS]).args(packages).output();
        let versions = output.ok().filter(|output| output.status.success());
        if let Some(versions) = versions.and_then(|output| parse_versions(&output.stdout)) {
            return Ok((python, versions));
        }
    }
    let packages = packages.join(", ");
    Err(format!("no --python has {packages}: install benches/peers/requirements*.txt, or give --install"))
}

/// `torch 2.15.0, transformers 5.23.0` from JSON.
fn parse_versions(output: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(output).ok()?;
    let versions = json.as_object()?.iter().map(|(name, version)| Some(format!("{name} {}", version.as_str()?)));
    Some(versions.collect::<Option<Vec<_>>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders;

    #[test]
    fn versions_are_one_line() {
        let output = b"{\"transformers\": \"5.23.0\", \"torch\": \"2.15.0+cpu\"}\n";
        assert_eq!(parse_versions(output).unwrap(), "transformers 5.23.0, torch 2.15.0+cpu");
        assert_eq!(parse_versions(b"Python 2"), None);
        assert_eq!(parse_versions(b"{\"torch\": null}"), None);
    }

    #[test]
    fn only_what_is_needed_is_installed() {
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            requirements(&contenders::choose(&names, &[])).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]), ["requirements-llama.txt", "requirements.txt"]);
        assert_eq!(chosen(&["llama-q4_0", "automodel"]), ["requirements-llama.txt"]);
        assert_eq!(chosen(&["candle"]), [""; 0]);
        assert!(chosen(&[]).iter().all(|file| directory().join(file).is_file()));
    }

    #[test]
    fn a_missing_interpreter_has_no_packages() {
        let error = with_packages(&["/nowhere/at/all/python".into()], &["torch"]).unwrap_err();
        assert!(error.contains("torch") && error.contains("--install"));
    }
}
