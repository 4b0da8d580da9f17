//! Errors of config and names, with what the other files of the checkpoint say about them.

use crate::{AutoModelError, options::Options};
use automodel_config::RawConfig;
use automodel_hub::HubError;
use automodel_loader::{Adapter, CheckpointFiles, LoadError};
use automodel_registry::RegistryError;

/// A checkpoint without a config may be an adapter.
pub(crate) fn adapter_or(error: HubError) -> AutoModelError {
    let adapter = match &error {
        HubError::MissingConfig { directory, .. } => Adapter::beside(directory)
            .map(|Adapter { base }| LoadError::AdapterAlone { directory: directory.clone(), base }),
        HubError::MissingRemoteFile { repo, file, nearest, .. } if file.ends_with("config.json") => {
            let is_adapter = |name: &String| name.ends_with("adapter_config.json");
            nearest.iter().any(is_adapter).then(|| LoadError::AdapterAlone { directory: repo.into(), base: None })
        }
        _ => None,
    };
    adapter.map_or_else(|| error.into(), AutoModelError::from)
}

/// An unsupported model type with the families whose mathematics comes nearest, where there are headers to compare.
pub(crate) fn with_similar(
    mut error: RegistryError,
    raw: &RawConfig,
    files: Option<&CheckpointFiles>,
    options: &Options,
) -> RegistryError {
    if let (RegistryError::UnsupportedArchitecture { similar, .. }, Some(files)) = (&mut error, files) {
        let tensors = files.tensors().iter().map(|(name, info)| (name.as_str(), info.shape.as_slice()));
        *similar = options.registry.similar(raw, &options.overrides, tensors).into();
    }
    error
}
