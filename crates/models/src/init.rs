//! Random initialisation, for models that are made from a config alone.

use crate::parameters::ParameterTensor;
use crate::{Model, ModelError};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

/// Gives every parameter a value: weights normal with `std`, biases 0, norm weights 1 (0 where the norm adds one), each
/// drawn from `seed` and the parameter's path, so that the same seed gives the same model on every device. Parameters
/// listed in `tied` as `(parameter, to)` share the value of `to`.
///
/// # Errors
/// As [`Model::assign_parameters`]; [`ModelError::UnfilledParameters`] for parameters that the model does not take a value for, or
/// of more than four axes.
pub fn initialize_random(
    model: &mut dyn Model,
    seed: u64,
    std: f64,
    dtype: FloatDType,
    neutral_norm: f32,
    tied: &[(String, String)],
) -> Result<(), ModelError> {
    let device = model.device();
    let mut shapes = std::collections::BTreeMap::new();
    model.visit_parameters(&mut |path, shape| {
        shapes.insert(path.to_owned(), shape.to_vec());
    });
    let (mut shared, mut given) = (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    model.assign_parameters(&mut |path| {
        let source = tied.iter().find(|(parameter, _)| parameter == path).map_or(path, |(_, to)| to.as_str());
        if let Some(value) = shared.get(source) {
            given.insert(path.to_owned());
            return Some(ParameterTensor::clone(value));
        }
        let shape = shapes.get(source)?;
        let elements = shape.iter().product();
        let values = if path.ends_with(".bias") {
            vec![0.0; elements]
        } else if path.contains("norm") {
            vec![neutral_norm; elements]
        } else {
            normal_values(seed, source, elements, std)
        };
        let value = upload(values, shape, dtype, &device)?;
        if tied.iter().any(|(_, to)| to == path) {
            shared.insert(path.to_owned(), value.clone());
        }
        given.insert(path.to_owned());
        Some(value)
    })?;
    let parameters: Vec<String> = shapes.into_keys().filter(|path| !given.contains(path)).collect();
    if parameters.is_empty() { Ok(()) } else { Err(ModelError::UnfilledParameters { parameters }) }
}

fn upload(values: Vec<f32>, shape: &[usize], dtype: FloatDType, device: &Device) -> Option<ParameterTensor> {
    let data = TensorData::new(values, shape.to_vec());
    let options = (device, DType::from(dtype));
    Some(match shape.len() {
        1 => ParameterTensor::new(Tensor::<1>::from_data(data, options)),
        2 => ParameterTensor::new(Tensor::<2>::from_data(data, options)),
        3 => ParameterTensor::new(Tensor::<3>::from_data(data, options)),
        4 => ParameterTensor::new(Tensor::<4>::from_data(data, options)),
        _ => return None,
    })
}

/// Normal values by Box and Muller from a splitmix64 stream, which is the same everywhere.
fn normal_values(seed: u64, path: &str, elements: usize, std: f64) -> Vec<f32> {
    let mut state = path
        .bytes()
        .fold(seed ^ 0x9E37_79B9_7F4A_7C15, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 53 random bits, moved off zero so that the logarithm is finite.
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON
    };
    let mut values = Vec::with_capacity(elements + 1);
    while values.len() < elements {
        let (radius, angle) = (std * (-2.0 * uniform().ln()).max(0.0).sqrt(), std::f64::consts::TAU * uniform());
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(elements);
    values
}
