//! Tables as a representation.

use std::ops::Range;

use burn::backend::Flex;
#[cfg(feature = "cube")]
use burn::tensor::DType;
use burn::tensor::Device;
use burn_flex::FlexTensor;

use super::{Assembly, SchemeQuantizer, Table16, cut, format, tensor};
#[cfg(feature = "cube")]
use crate::cube;
use crate::{
    Cut, PartSpec, Precision, QuantError, QuantWeight, Scheme, WeightDtype,
    assembly::Assemble,
    dtype::ElementsMut,
    files::{PlannedTensor, StoredTensor},
    linear::{self, DeviceParts, Parts},
    quantize::Encode,
    repr::Representation,
};

impl Representation for Table16 {
    fn name(&self) -> &'static str {
        self.quant_type.name()
    }

    fn code_name(&self) -> String {
        format!("{}_{}", self.quant_type.name(), self.blocksize.get())
    }

    fn parts(&self, [rows, columns]: [usize; 2]) -> Vec<PartSpec> {
        self.parts_of(rows * columns)
    }

    fn unit(&self, _shape: [usize; 2]) -> usize {
        self.blocksize.get()
    }

    /// 8-bit scales are kept if they lie together and begin with a scale of their own.
    fn of_part(&self, blocks: &[Range<usize>]) -> Scheme {
        self.of_blocks(blocks).into()
    }

    fn separate(&self) -> Scheme {
        self.with_double_quant(false).into()
    }

    /// Scales are 4 bytes until they become one.
    fn transient_bytes(&self, elements: usize) -> u64 {
        if self.double_quant { (self.blocksize.blocks(elements) as u64).saturating_mul(4) } else { 0 }
    }

    /// Scales in float32 until all parts are complete: by part, joined, and decoded.
    fn joint_bytes(&self, elements: u64) -> u64 {
        elements.div_ceil(self.blocksize.get() as u64).saturating_mul(3 * 4)
    }

    fn has_scale_codes(&self) -> bool {
        self.double_quant
    }

    fn quantizer(&self, shape: [usize; 2], dtype: WeightDtype) -> Result<Box<dyn Encode>, QuantError> {
        Ok(Box::new(SchemeQuantizer::new(*self, shape, dtype)?))
    }

    fn decode(&self, weight: &QuantWeight, out: ElementsMut<'_>) {
        let weight = weight.typed(*self);
        match out {
            ElementsMut::F32(out) => weight.decode_into(out),
            ElementsMut::F16(out) => weight.decode_into(out),
            ElementsMut::BF16(out) => weight.decode_into(out),
        }
    }

    fn part(&self, weight: &QuantWeight, cut: &Cut, shape: [usize; 2], share: bool) -> Result<QuantWeight, QuantError> {
        Ok(cut::part(&weight.typed(*self), cut, shape, share)?.into())
    }

    fn assembly(&self, first: &QuantWeight, shape: [usize; 2]) -> Result<Box<dyn Assemble>, QuantError> {
        Ok(Box::new(Assembly::new(&first.typed(*self), shape)?))
    }

    fn planned(&self, parameter: &str, shape: [usize; 2], dtype: WeightDtype) -> Vec<PlannedTensor> {
        format::planned(parameter, *self, shape, dtype)
    }

    fn write(&self, parameter: &str, weight: &QuantWeight) -> Vec<(String, StoredTensor)> {
        format::write_parameter(parameter, &weight.typed(*self))
    }

    fn upload(&self, weight: QuantWeight, device: &Device) -> (Scheme, DeviceParts) {
        tensor::upload(weight.into_typed(*self), device)
    }

    fn fetch(&self, parts: DeviceParts, shape: [usize; 2], dtype: WeightDtype) -> Option<QuantWeight> {
        tensor::fetch(parts, self.layout(shape), dtype).map(Into::into)
    }

    fn forward(&self, parts: Parts<Flex>, shape: [usize; 2], x: FlexTensor, precision: Precision) -> FlexTensor {
        tensor::on_flex(parts, self.layout(shape), |weight| linear::forward(weight, x, precision))
    }

    fn backward(&self, parts: Parts<Flex>, shape: [usize; 2], dy: FlexTensor) -> FlexTensor {
        tensor::on_flex(parts, self.layout(shape), |weight| linear::backward(weight, dy))
    }

    #[cfg(feature = "cube")]
    fn on_gpu(
        &self,
        parts: &Parts<burn_cubecl::CubeBackend>,
        shape: [usize; 2],
        activations: DType,
    ) -> Option<cube::Weight> {
        let scales = tensor::Scales { absmax: parts.scales.clone(), codes: parts.scale_codes.clone() };
        cube::Weight::new(&parts.codes, &scales, self.layout(shape), activations)
    }
}
