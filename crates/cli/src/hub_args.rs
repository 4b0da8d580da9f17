//! Options of resolving and downloading a repo.

use crate::{download_bars::DownloadBars, error::CliError};
use automodel::hub::{HubOptions, SharedProgress, Token};
use std::path::PathBuf;

/// The default lock file.
pub const LOCK_FILE: &str = "automodel.lock";

/// Options of resolving and downloading a repo.
#[derive(Debug, clap::Args)]
pub struct HubArgs {
    /// Branch, tag or commit of a repo
    #[arg(long, help_heading = "Model")]
    pub revision: Option<String>,
    /// Folder of the repo or directory that holds the model
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub subfolder: Option<String>,
    /// Hugging Face cache, instead of the environment's
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub cache_dir: Option<PathBuf>,
    /// Use only the cache, download nothing
    #[arg(long, help_heading = "Model")]
    pub offline: bool,
    /// Access token, instead of HF_TOKEN or the token file
    #[arg(long, help_heading = "Model")]
    token: Option<SecretText>,
    /// Refuse files that differ from a lock file [default: automodel.lock]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCK_FILE, help_heading = "Model")]
    pub locked: Option<PathBuf>,
}

/// Text that debug output hides.
#[derive(Clone)]
struct SecretText(String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl HubArgs {
    /// The options of the library; downloads show bars on a terminal, and warnings unless results are JSON.
    pub fn options(&self, json: bool) -> Result<HubOptions, CliError> {
        let token = self.token.as_ref().map(|token| Token::new(&token.0, "--token")).transpose()?;
        Ok(HubOptions {
            cache_dir: self.cache_dir.clone(),
            revision: self.revision.clone(),
            subfolder: self.subfolder.clone(),
            offline: self.offline,
            token,
            lock_file: self.locked.clone(),
            progress: Some(SharedProgress::new(DownloadBars::new(json))),
            ..HubOptions::default()
        })
    }
}
