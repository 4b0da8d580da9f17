//! That a model takes what is loaded for it, and that nothing it needs is left without a value.

use crate::AutoModelError;
use automodel_loader::{LoadPlan, LoadedParameters, PlanRow};
use automodel_models::{Model, ModelError, parameters::ParameterTensor};
use std::collections::{HashMap, HashSet};

/// Compares what `plan` will load with what `model`, a skeleton of `implementation`, has places for, before a weight is read.
///
/// # Errors
/// [`AutoModelError::NoQuantizedProjections`], [`AutoModelError::UntakenParameters`], [`ModelError::UnfilledParameters`].
pub(crate) fn check_plan(model: &mut dyn Model, implementation: &str, plan: &LoadPlan) -> Result<(), AutoModelError> {
    let mut dense = HashSet::new();
    model.visit_parameters(&mut |path, _| {
        dense.insert(path.to_owned());
    });
    // An implementation with quantised projections names each of them.
    let mut quantizable = HashSet::new();
    model.assign_quantized(&mut |path| {
        quantizable.insert(path.to_owned());
        None
    })?;

    let rows: HashMap<&str, &PlanRow> = plan.rows.iter().map(|row| (row.parameter(), row)).collect();
    let in_4bit = |row: &PlanRow| {
        let own = row.tied_to().and_then(|to| rows.get(to).copied()).unwrap_or(row);
        own.encoding().is_some()
    };
    let paths = |wanted: &dyn Fn(&PlanRow) -> bool| -> Vec<String> {
        plan.rows.iter().filter(|row| wanted(row)).map(|row| row.parameter().to_owned()).collect()
    };
    let implementation = implementation.to_owned();
    let parameters =
        paths(&|row| in_4bit(row) && dense.contains(row.parameter()) && !quantizable.contains(row.parameter()));
    if !parameters.is_empty() {
        return Err(AutoModelError::NoQuantizedProjections { implementation, parameters });
    }
    let parameters = paths(&|row| !dense.contains(row.parameter()));
    if !parameters.is_empty() {
        return Err(AutoModelError::UntakenParameters { implementation, parameters });
    }
    unfilled(dense.into_iter().filter(|path| !rows.contains_key(path.as_str())).collect())
}

/// Moves all of `loaded` into `model`.
///
/// # Errors
/// A value of another shape than its parameter; [`AutoModelError::UntakenParameters`] and [`ModelError::UnfilledParameters`] for an
/// implementation that takes less than it has places for.
pub(crate) fn fill(
    model: &mut dyn Model,
    implementation: &str,
    mut loaded: LoadedParameters,
) -> Result<(), AutoModelError> {
    let mut given = HashSet::new();
    model.assign_parameters(&mut |path| {
        let tensor = loaded.take(path)?.tensor;
        given.insert(path.to_owned());
        Some(ParameterTensor::from_dispatch(tensor))
    })?;
    if loaded.quantized_paths().next().is_some() {
        model.assign_quantized(&mut |path| loaded.take_linear(path))?;
    }
    let parameters: Vec<String> = loaded.paths().chain(loaded.quantized_paths()).map(str::to_owned).collect();
    if !parameters.is_empty() {
        return Err(AutoModelError::UntakenParameters { implementation: implementation.to_owned(), parameters });
    }
    let mut missing = Vec::new();
    model.visit_parameters(&mut |path, _| {
        if !given.contains(path) {
            missing.push(path.to_owned());
        }
    });
    unfilled(missing)
}

fn unfilled(mut parameters: Vec<String>) -> Result<(), AutoModelError> {
    if parameters.is_empty() {
        return Ok(());
    }
    parameters.sort();
    Err(ModelError::UnfilledParameters { parameters }.into())
}
