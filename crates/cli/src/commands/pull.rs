//! `automodel pull`: download a repo into the cache.

use crate::{error::CliError, hub_args::HubArgs, output, units};
use automodel::hub::{self, Checkpoint, LockFile, ModelSource};
use serde_json::json;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Downloads only the files that a load needs: config, tokenizer, templates, weights in safetensors
format. Interrupted downloads are resumed. Python finds the files in the same cache.

Example: automodel pull Qwen/Qwen3-0.6B --lock automodel.lock";

/// Download a repo.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Repo id: ORG/NAME
    repo: String,
    #[command(flatten)]
    hub: HubArgs,
    /// Record commit and hashes in a lock file
    #[arg(long, value_name = "FILE", conflicts_with = "locked")]
    lock: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    if args.repo == automodel::DEMO {
        return Err(CliError::DemoIsNoRepo);
    }
    let options = args.hub.options(json)?;
    let checkpoint = hub::resolve(&args.repo, &options)?;
    let ModelSource::Repo(_) = &checkpoint.source else {
        return Err(CliError::NotARepo { name: args.repo.clone() });
    };
    if let Some(path) = &args.lock {
        // The commit that was loaded, even if the branch has moved.
        let of_commit = hub::HubOptions { revision: checkpoint.commit.clone(), ..options.clone() };
        let mut model = hub::lock(&args.repo, &of_commit)?;
        model.revision = options.revision.unwrap_or_else(|| "main".to_owned());
        let mut lock = if path.exists() { LockFile::read(path)? } else { LockFile::default() };
        lock.insert(model);
        lock.write(path)?;
    }
    report(args, &checkpoint, json)
}

fn report(args: &Args, checkpoint: &Checkpoint, json: bool) -> Result<(), CliError> {
    let files = checkpoint.list()?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let commit = checkpoint.commit.as_deref().unwrap_or_default();
    if json {
        let files: Vec<_> = files.iter().map(|file| json!({ "name": file.name, "bytes": file.bytes })).collect();
        return output::print_json(&json!({
            "repo": args.repo,
            "commit": commit,
            "directory": checkpoint.dir,
            "files": files,
            "bytes": bytes,
            "lock": args.lock,
        }));
    }
    let mut lines = vec![format!(
        "{} at commit {commit}: {} files, {}, in {}",
        args.repo,
        files.len(),
        units::bytes(bytes),
        checkpoint.dir.display()
    )];
    if let Some(lock) = args.lock.as_deref().map(Path::display) {
        lines.push(format!("locked in {lock}"));
    }
    output::print(&output::lines(lines))
}
