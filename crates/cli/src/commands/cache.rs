//! `automodel cache`: list, verify and prune the cache.

use crate::{download_bars::DownloadBars, error::CliError, output, units};
use automodel::hub::{self, Environment, HubOptions, RepoId, SharedProgress};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// Maintain the cache of downloads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: automodel cache list")]
pub struct Args {
    /// Hugging Face cache, instead of the environment's
    #[arg(long, value_name = "DIR", global = true)]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List repos and commits with their sizes
    List,
    /// Compare all files with their hashes
    Verify {
        /// Only this repo: ORG/NAME
        repo: Option<String>,
        /// Remove corrupt files, so that the next load downloads them again
        #[arg(long)]
        remove: bool,
    },
    /// Remove commits without a branch or tag, files of no commit, and unfinished downloads
    Prune {
        /// Only list what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let progress = Some(SharedProgress::new(DownloadBars::new(json)));
    let options = HubOptions { cache_dir: args.cache_dir.clone(), progress, ..HubOptions::default() };
    let environment = Environment::from_process();
    match &args.action {
        Action::List => list(&options, &environment, json),
        Action::Verify { repo, remove } => verify(&options, &environment, repo.as_deref(), *remove, json),
        Action::Prune { dry_run } => prune(&options, &environment, *dry_run, json),
    }
}

fn list(options: &HubOptions, environment: &Environment, json: bool) -> Result<(), CliError> {
    let report = hub::list_cache(options, environment)?;
    if json {
        return output::print_json(&report);
    }
    let mut rows = Vec::new();
    for repo in &report.repos {
        rows.push(vec![repo.repo.clone(), String::new(), units::bytes(repo.bytes)]);
        for revision in &repo.revisions {
            let name = format!("  {}", revision.commit);
            rows.push(vec![name, revision.refs.join(", "), units::bytes(revision.bytes)]);
        }
        if repo.incomplete_bytes > 0 {
            rows.push(vec!["  unfinished downloads".to_owned(), String::new(), units::bytes(repo.incomplete_bytes)]);
        }
    }
    let unknown = report.repos.iter().flat_map(|repo| &repo.unknown);
    let unknown =
        unknown.map(|unknown| format!("{}: {}: not read: {}", unknown.repo, unknown.path.display(), unknown.reason));
    let repos = match report.repos.len() {
        1 => "1 repo".to_owned(),
        number => format!("{number} repos"),
    };
    let sum = format!("{repos}, {} in {}", units::bytes(report.bytes), report.directory.display());
    output::print(&(output::table(&rows, &[2]) + &output::lines(unknown.chain([sum]))))
}

fn verify(
    options: &HubOptions,
    environment: &Environment,
    repo: Option<&str>,
    remove: bool,
    json: bool,
) -> Result<(), CliError> {
    let repo = repo.map(RepoId::parse).transpose()?;
    let problems = hub::verify_cache(options, environment, repo.as_ref(), remove)?;
    if json {
        output::print_json(&problems)?;
    } else {
        for found in &problems {
            let removed = if found.removed { " (removed)" } else { "" };
            let line = format!("{}: {}: {}{removed}", found.repo, found.path.display(), found.problem);
            output::print(&output::lines([line]))?;
        }
    }
    if !problems.is_empty() {
        let removed = remove && problems.iter().all(|problem| problem.removed);
        return Err(CliError::DamagedCache { problems: problems.len(), removed });
    }
    if json { Ok(()) } else { output::print("all files match their hashes\n") }
}

fn prune(options: &HubOptions, environment: &Environment, dry_run: bool, json: bool) -> Result<(), CliError> {
    let report = hub::prune_cache(options, environment, dry_run)?;
    let bytes: u64 = report.removed.iter().map(|pruned| pruned.bytes).sum();
    if json {
        let (removed, kept) = (&report.removed, &report.kept);
        return output::print_json(&json!({ "dry_run": dry_run, "bytes": bytes, "removed": removed, "kept": kept }));
    }
    let kept = report.kept.iter().map(|kept| format!("{}: {}: kept: {}", kept.repo, kept.path.display(), kept.reason));
    let removed = report.removed.iter().map(|pruned| {
        let (path, size) = (pruned.path.display(), units::bytes(pruned.bytes));
        format!("{}: {path}: {}, {size}", pruned.repo, pruned.reason)
    });
    let verb = if dry_run { "would be freed" } else { "freed" };
    output::print(&output::lines(kept.chain(removed).chain([format!("{} {verb}", units::bytes(bytes))])))
}
